//! `forebay init`: files to start from.
//!
//! Both are compiled in. Existing ones are overwritten only with `--force`, and neither is written
//! when one of them is there.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use crate::operate::Problem;

use super::{args::InitArgs, context::say};

/// The configuration that `init` writes.
pub(super) const FOREBAY_TOML: &str = include_str!("init/forebay.toml");
/// The schedule that `init` writes.
pub(super) const MAINTENANCE_TOML: &str = include_str!("init/maintenance.toml");

/// Writes both files.
pub(super) fn run(args: &InitArgs) -> Result<(), Problem> {
    let files = [("forebay.toml", FOREBAY_TOML), ("maintenance.toml", MAINTENANCE_TOML)];
    let there: Vec<_> = files.iter().map(|(name, _)| args.dir.join(name)).filter(|path| path.exists()).collect();
    if let (Some(first), false) = (there.first(), args.force) {
        return Err(Problem::failed(format!("{} is there already; overwrite it with --force", first.display())));
    }
    fs::create_dir_all(&args.dir).map_err(|error| cannot("create", &args.dir, &error))?;
    for (name, text) in files {
        let path = args.dir.join(name);
        write(&path, text).map_err(|error| cannot("write", &path, &error))?;
        say(&format!("wrote {}", path.display()))?;
    }
    say("next: look them over, then `forebay check` and `forebay serve`")
}

/// Mode 0640: a configuration may name places that are nobody's business.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o640).open(path)?;
    file.write_all(text.as_bytes())
}

fn cannot(doing: &str, path: &Path, error: &std::io::Error) -> Problem {
    Problem::failed(format!("cannot {doing} {}: {error}", path.display()))
}
