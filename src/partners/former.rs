//! What is kept of a removed account: when it was, so that its name is not given away unawares.
//!
//! It stays when the name is given away: what was sent before is another partner's.

use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::PartnerName;

/// The time for which a removed partner's name is given to nobody else.
pub(super) const NAME_RESTS: TimeDelta = TimeDelta::days(30);

const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Former {
    version: u32,
    name: PartnerName,
    removed_at: DateTime<Utc>,
}

/// Its file among the accounts.
pub(super) fn path(directory: &Path, folded: &str) -> PathBuf {
    directory.join(format!(".{folded}.removed"))
}

/// The stored form.
pub(super) fn json(name: &PartnerName, removed_at: DateTime<Utc>) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Former { version: VERSION, name: name.clone(), removed_at })
}

/// When the last partner of this name was removed. What cannot be read is no reason against anything.
pub(super) fn removed_at(directory: &Path, folded: &str) -> Option<DateTime<Utc>> {
    let json = std::fs::read(path(directory, folded)).ok()?;
    serde_json::from_slice::<Former>(&json).ok().map(|former| former.removed_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_version_still_opens() {
        let dir = tempfile::tempdir().unwrap();
        let first = include_str!("fixtures/removed-v1.json");
        std::fs::write(path(dir.path(), "demo"), first).unwrap();
        let at = removed_at(dir.path(), "demo").unwrap();
        assert_eq!(at.to_rfc3339(), "2026-04-24T19:00:00+00:00");
        assert_eq!(json(&"Demo".parse().unwrap(), at).unwrap(), first.trim_end().as_bytes());
        assert_eq!(removed_at(dir.path(), "other"), None);
    }
}
