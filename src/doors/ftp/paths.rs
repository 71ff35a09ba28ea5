//! Paths as a client means them, in FTP's words.

use super::reply::Reply;
use crate::doors::core::paths;

pub(super) use crate::doors::core::paths::looked_at;

/// The path for a command that changes something.
pub(super) fn changed(directory: &str, given: &str) -> Result<String, Reply> {
    paths::changed(directory, given).ok_or_else(|| Reply::new(553, "Name has \"..\""))
}

/// As 257 has it: quotes are doubled.
pub(super) fn quoted(path: &str) -> String {
    format!("\"{}\"", path.replace('"', "\"\""))
}

/// The path that LIST was asked for: clients send options of `ls` before it.
pub(super) fn without_options(argument: &str) -> &str {
    let mut rest = argument;
    while let Some(option) = rest.strip_prefix('-') {
        match option.split_once(' ') {
            Some(("-", path)) => return path,
            Some((_, path)) => rest = path,
            None => return "",
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_no_path() {
        for (given, path) in [("-la", ""), ("-la in", "in"), ("-- -x", "-x"), ("in", "in"), ("-a -l a b", "a b")] {
            assert_eq!(without_options(given), path, "{given}");
        }
    }
}
