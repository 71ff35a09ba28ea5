//! How long a transfer may last.

use std::time::Duration;

const GIB: u64 = 1 << 30;

/// How long a transfer of so many bytes may take: each GiB begun has its time.
pub(in crate::doors) fn most_time(longest_per_gib: Duration, bytes: u64) -> Duration {
    longest_per_gib.saturating_mul(u32::try_from(bytes / GIB + 1).unwrap_or(u32::MAX))
}
