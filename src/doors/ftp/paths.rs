//! Which path a client means.
//!
//! libunftp joins what a client gives to a working directory that may itself hold `..` (after `CWD ..`). Such a
//! directory is resolved; a `..` in the name that was given is left in, and `ingest` refuses it.

use std::path::{Component, Path, PathBuf};

use crate::ingest::Refusal;

/// The path below the login directory, given the working directory as libunftp has it.
pub(super) fn resolve(working: &Path, path: &Path) -> Result<String, Refusal> {
    // CDUP shortens the working directory without asking, so its ancestors count too. The root is always among them.
    let split = working.ancestors().find_map(|base| path.strip_prefix(base).ok().map(|given| (base, given)));
    let (base, given) = split.unwrap_or((Path::new("/"), path));
    let full = flattened(base).join(given);
    full.to_str().map(str::to_owned).ok_or_else(|| Refusal::BadName("name is not valid UTF-8".to_owned()))
}

fn flattened(directory: &Path) -> PathBuf {
    let mut flat = PathBuf::new();
    for component in directory.components() {
        match component {
            Component::Normal(part) => flat.push(part),
            Component::ParentDir => {
                flat.pop();
            }
            _ => {}
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Name;

    fn named(working: &str, given: &str) -> Option<String> {
        let path = resolve(Path::new(working), &Path::new(working).join(given)).unwrap();
        Name::parse(&path).ok().map(|name| name.to_string())
    }

    #[test]
    fn a_working_directory_with_dots_is_resolved() {
        assert_eq!(named("/", "a").as_deref(), Some("a"));
        assert_eq!(named("/in/..", "a").as_deref(), Some("a"));
        assert_eq!(named("/in/../..", "b/a").as_deref(), Some("b/a"));
        assert_eq!(named("/in/../out2", "a").as_deref(), Some("out2/a"));
        assert_eq!(named("/in", "/other/a").as_deref(), Some("other/a"));
        assert_eq!(resolve(Path::new("/x/../in"), Path::new("/x/../a")).unwrap(), "a", "after CDUP");
    }

    #[test]
    fn dots_in_the_given_name_stay_and_are_refused() {
        for given in ["../a", "..", "b/../a", "/../a", "/etc/../a"] {
            assert_eq!(named("/in", given), None, "{given}");
            assert_eq!(named("/", given), None, "{given}");
        }
    }
}
