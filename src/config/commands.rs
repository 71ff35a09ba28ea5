//! The commands of routes: whether there is a program that can be run.
//!
//! Looked up as `execvp` does: by `PATH` unless the name has a slash. Nothing is run. A script is
//! looked into, since a missing interpreter or line ends of Windows make the kernel say "no such
//! file" of a file that is there, which puzzles everybody.

use std::{
    env, fs,
    io::{self, BufRead as _, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::{Config, document::Document};
use crate::routes::ProcessorKind;

/// The longest first line that the kernel reads of a script.
/// The kernel reads no more of it (`BINPRM_BUF_SIZE`).
const FIRST_LINE_BYTES: u64 = 256;

/// Adds a fault for every command that cannot be run.
pub(super) fn check(config: &Config, document: &mut Document) {
    for (index, route) in config.routes.iter().enumerate() {
        let Some(program) = route.command.first().filter(|_| route.processor == ProcessorKind::Exec) else { continue };
        if program.is_empty() {
            continue;
        }
        let what = match find_program(program) {
            None => Some(format!("there is no program \"{program}\" that can be run")),
            Some(path) => fault_of_script(&path),
        };
        if let Some(what) = what {
            document.fault(format!("route[{index}].command[0]"), what);
        }
    }
}

fn find_program(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| runs(path));
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(|path| runs(path))
}

/// By any of the three bits: which of them counts depends on the user that it will run as.
fn runs(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A script whose interpreter is not there cannot be run either, though it is a file that may be.
fn fault_of_script(path: &Path) -> Option<String> {
    let shown = path.display();
    let first = match first_line(path) {
        Ok(first) => first,
        // A program that can be run and not be read.
        Err(_) => return None,
    };
    if first.starts_with("\u{feff}#!".as_bytes()) {
        return Some(format!("{shown} begins with a byte order mark: save it as UTF-8 without one"));
    }
    let line = String::from_utf8_lossy(first.strip_prefix(b"#!")?).into_owned();
    if line.ends_with('\r') {
        return Some(format!(
            "{shown} has the line ends of Windows, so its interpreter is not found: `sed -i 's/\\r$//'` mends it"
        ));
    }
    let interpreter = line.split_ascii_whitespace().next()?;
    (!runs(Path::new(interpreter)))
        .then(|| format!("{shown} is for {interpreter}, which is not there or cannot be run"))
}

fn first_line(path: &Path) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    io::BufReader::new(fs::File::open(path)?.take(FIRST_LINE_BYTES)).read_until(b'\n', &mut line)?;
    line.pop_if(|last| *last == b'\n');
    Ok(line)
}
