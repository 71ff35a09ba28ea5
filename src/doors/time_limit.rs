//! The time limit of a transfer.

use std::time::Duration;

const GIB: u64 = 1 << 30;

/// The time that a transfer of `bytes` may take: `longest_per_gib` for each GiB begun.
pub(in crate::doors) fn time_limit_for(longest_per_gib: Duration, bytes: u64) -> Duration {
    longest_per_gib.saturating_mul(u32::try_from(bytes / GIB + 1).unwrap_or(u32::MAX))
}
