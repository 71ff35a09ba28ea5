//! Names and what they lead to, as FTP shows them: one formatter for each command.
//!
//! LIST has the columns of `ls -l`, for that is what clients parse. Mode, owner and links say nothing here: files are
//! the partner's own.

use std::time::SystemTime;

use chrono::{DateTime, Datelike, Utc};
use unftp_core::storage::{Metadata, Permissions, Result};

use crate::ingest::{Listed, Stat};

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The commands that list a folder over a data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Lines as `ls -l` prints them.
    List,
    /// Names alone.
    Nlst,
    /// Facts (RFC 3659, 7).
    Mlsd,
}

impl Format {
    /// The command itself.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::List => "LIST",
            Self::Nlst => "NLST",
            Self::Mlsd => "MLSD",
        }
    }

    /// A line without its end.
    pub(super) fn line(self, one: &Listed, now: DateTime<Utc>) -> String {
        match self {
            Self::List => list_line(one, now),
            Self::Nlst => one.name.clone(),
            Self::Mlsd => format!("{} {}", facts(&one.stat), one.name),
        }
    }

    /// Lines as they go over a data connection.
    pub(super) fn lines(self, page: &[Listed], now: DateTime<Utc>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for one in page {
            bytes.extend_from_slice(self.line(one, now).as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }
}

fn list_line(Listed { name, stat }: &Listed, now: DateTime<Utc>) -> String {
    let (kind, mode) = if stat.is_folder() { ('d', FOLDER_MODE) } else { ('-', FILE_MODE) };
    // As `ls` does: without a year in the present one, without a time in others. Clients parse
    // both.
    let time = if stat.modified.year() == now.year() { "%b %d %H:%M" } else { "%b %d %Y" };
    let (mode, modified, size) = (Permissions(mode), stat.modified.format(time).to_string(), stat.size_bytes);
    format!("{kind}{mode} {:>12} {:>12} {:>12} {size:>14} {modified:>12} {name}", 1, 0, 0)
}

/// The facts of RFC 3659, 7.5, that are told.
fn facts(stat: &Stat) -> String {
    let kind = if stat.is_folder() { "dir" } else { "file" };
    format!("type={kind};size={};modify={};", stat.size_bytes, stat.modified.format("%Y%m%d%H%M%S"))
}

/// What a path leads to, as libunftp asks for it.
#[derive(Clone, Debug)]
pub struct FtpMetadata(pub(super) Stat);

impl Metadata for FtpMetadata {
    fn len(&self) -> u64 {
        self.0.size_bytes
    }

    fn is_dir(&self) -> bool {
        self.0.is_folder()
    }

    fn is_file(&self) -> bool {
        self.0.is_file()
    }

    // There are none among names of the catalogue.
    fn is_symlink(&self) -> bool {
        false
    }

    fn modified(&self) -> Result<SystemTime> {
        Ok(self.0.modified.into())
    }

    fn gid(&self) -> u32 {
        0
    }

    fn uid(&self) -> u32 {
        0
    }

    fn permissions(&self) -> Permissions {
        Permissions(if self.is_dir() { FOLDER_MODE } else { FILE_MODE })
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use unftp_core::storage::Fileinfo;

    use super::*;

    #[allow(clippy::disallowed_methods, reason = "libunftp asks the machine which year it is")]
    fn now() -> DateTime<Utc> {
        SystemTime::now().into()
    }

    fn listed() -> [Listed; 3] {
        let earlier = Utc.with_ymd_and_hms(2003, 2, 1, 4, 5, 6).unwrap();
        let one = |name: &str, stat| Listed { name: name.to_owned(), stat };
        [
            one("out", Stat::folder(now())),
            one("a file.hl7", Stat::file(12_345, now())),
            one("b", Stat::file(0, earlier)),
        ]
    }

    #[test]
    fn lines_are_those_of_libunftp() {
        for one in listed() {
            let theirs = Fileinfo { path: one.name.clone(), metadata: FtpMetadata(one.stat) };
            assert_eq!(Format::List.line(&one, now()), theirs.to_string());
        }
    }

    #[test]
    fn each_command_has_its_lines() {
        let [_, _, old] = listed();
        assert_eq!(
            Format::List.line(&old, now()),
            "-rw-------            1            0            0              0  Feb 01 2003 b"
        );
        assert_eq!(Format::Nlst.lines(std::slice::from_ref(&old), now()), b"b\r\n");
        assert_eq!(Format::Mlsd.lines(&[old], now()), b"type=file;size=0;modify=20030201040506; b\r\n");
    }
}
