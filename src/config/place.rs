//! The places of the configuration and the data.
//!
//! Decided from the command line, the environment and where files are, in one order, for every
//! command: `serve`, `check` and the operators' commands find the same data directory.

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::{document::Document, fault::Fault};
use crate::units::text_file::decode;

/// The environment variable that names the configuration.
pub const VARIABLE: &str = "FOREBAY_CONFIG";
/// The configuration of the system.
pub const SYSTEM: &str = "/etc/forebay/forebay.toml";
/// The data directory where nothing else is said, relative to the configuration or, without one, to the working
/// directory.
pub const DATA: &str = "forebay-data";

/// The places that were named on the command line.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The configuration.
    pub config: Option<PathBuf>,
    /// The data directory; overrides the configuration.
    pub data: Option<PathBuf>,
}

impl Place {
    /// The configuration: as given, else `$FOREBAY_CONFIG`, `./forebay.toml`, `/etc/forebay/forebay.toml`, else none.
    /// A file that is named need not exist: then reading it fails with its name, and no other is
    /// taken instead.
    #[must_use]
    pub fn config(&self) -> Option<PathBuf> {
        let named = env::var_os(VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
        let usual = || ["forebay.toml", SYSTEM].map(PathBuf::from).into_iter().find(|path| path.exists());
        let found = self.config.clone().or(named).or_else(usual)?;
        Some(std::path::absolute(&found).unwrap_or(found))
    }
}

/// The configuration as text; nothing when there is none.
pub(super) fn read(place: &Place) -> Result<Option<(PathBuf, Document)>, Fault> {
    let Some(file) = place.config() else { return Ok(None) };
    match read_text(&file) {
        Ok(text) => Ok(Some((file.clone(), Document::parse(file, text)))),
        Err(error) => Err(Fault { file, line: None, key: String::new(), what: format!("cannot be read: {error}") }),
    }
}

/// The text of a file, from whatever editor.
/// With or without a byte order mark, in UTF-8 or UTF-16.
pub(super) fn read_text(file: &Path) -> io::Result<String> {
    decode(fs::read(file)?).map_err(io::Error::other)
}

/// The data directory, whatever else is wrong with the configuration.
/// So that operators can reach a running server whose configuration was broken since it started.
///
/// # Errors
/// When the configuration cannot be read, or does not say it as text.
pub fn data_dir(place: &Place) -> Result<PathBuf, Fault> {
    if let Some(data) = &place.data {
        return Ok(absolute(data));
    }
    let Some((file, mut document)) = read(place)? else { return Ok(absolute(Path::new(DATA))) };
    if let Some(fault) = document.faults.pop() {
        return Err(fault);
    }
    let data = document.value::<PathBuf>("data").unwrap_or_else(|| DATA.into());
    match document.faults.pop() {
        Some(fault) => Err(fault),
        None => Ok(beside(&file, &data)),
    }
}

/// What is wrong with the rights on a data directory that is there, with what to do: keys, hashes of passwords and
/// partners' files lie in it, and no one but the server's own user has any business there.
/// Nothing when it is private, or is not there yet: a start makes it with mode 0700.
#[must_use]
pub fn exposed(data: &Path) -> Option<String> {
    let mode = fs::metadata(data).ok()?.permissions().mode();
    (mode & 0o077 != 0).then(|| {
        let (path, mode) = (data.display(), mode & 0o7777);
        format!("other users can get into {path} (mode {mode:04o}): run `chmod 0700 {path}`")
    })
}

/// The path, relative to the directory of the configuration.
pub(super) fn beside(file: &Path, path: &Path) -> PathBuf {
    let dir = file.parent().unwrap_or(Path::new("."));
    absolute(&dir.join(path))
}

/// The path, relative to the working directory; without its `.` components.
/// Links are not resolved: the directory need not exist.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
