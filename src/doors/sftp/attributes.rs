//! Paths and names, as SFTP shows them.
//!
//! Mode and owner say nothing here: files are the partner's own.

use chrono::{DateTime, TimeDelta, Utc};

use crate::ingest::{Kind, Listed, Stat};

use super::packet::{Attributes, Named};

const FILE_MODE: u32 = 0o100_600;
const FOLDER_MODE: u32 = 0o040_700;
/// `ls` shows the time of day of files younger than this.
const RECENT: TimeDelta = TimeDelta::days(180);

/// The attributes of a file or folder.
pub(super) fn of(stat: &Stat) -> Attributes {
    let modified = u32::try_from(stat.modified.timestamp().max(0)).unwrap_or(u32::MAX);
    let mode = match stat.kind {
        Kind::Folder => FOLDER_MODE,
        Kind::File => FILE_MODE,
    };
    Attributes { size: Some(stat.size_bytes), owner: None, mode: Some(mode), times: Some((modified, modified)) }
}

/// The attributes of a file that is still being written.
pub(super) fn of_unfinished(size_bytes: u64, now: DateTime<Utc>) -> Attributes {
    of(&Stat::file(size_bytes, now))
}

/// A name as READDIR gives it, with a line for people.
pub(super) fn named(one: Listed, owner: &str, now: DateTime<Utc>) -> Named {
    Named { line: line(&one, owner, now), attributes: of(&one.stat), name: one.name }
}

/// A line as `ls -l` prints it: some clients show it as it is, some parse it.
fn line(Listed { name, stat }: &Listed, owner: &str, now: DateTime<Utc>) -> String {
    let mode = if stat.is_folder() { "drwx------" } else { "-rw-------" };
    let is_recent = stat.modified <= now && now - stat.modified < RECENT;
    let time = stat.modified.format(if is_recent { "%b %e %H:%M" } else { "%b %e  %Y" });
    format!("{mode}    1 {owner:<8} {owner:<8} {:>8} {time} {name}", stat.size_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn kinds_sizes_and_times_are_told() {
        let file = of(&Stat::file(12, at(1_750_000_000)));
        assert_eq!((file.size, file.mode), (Some(12), Some(0o100_600)));
        assert_eq!(file.times, Some((1_750_000_000, 1_750_000_000)));
        assert_eq!(of(&Stat::folder(at(-5))).mode, Some(0o040_700));
        assert_eq!(of(&Stat::folder(at(-5))).times, Some((0, 0)), "the protocol has no time before 1970");
        assert_eq!(of(&Stat::file(0, at(1 << 40))).times, Some((u32::MAX, u32::MAX)));
    }

    #[test]
    fn lines_are_as_ls_prints_them() {
        let now = at(1_750_000_000);
        let file = Listed { name: "a b".to_owned(), stat: Stat::file(12, now) };
        assert_eq!(line(&file, "demo", now), "-rw-------    1 demo     demo           12 Jun 15 15:06 a b");
        let old = Listed { name: "x".to_owned(), stat: Stat::folder(at(1_000_000_000)) };
        let line = line(&old, "demo", now);
        assert!(line.starts_with("drwx------") && line.ends_with("  2001 x"), "{line}");
    }
}
