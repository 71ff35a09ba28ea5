//! Programs by name, and the variables that they get from the process that starts them.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
};

const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// PATH, HOME and LANG of this process.
pub(super) fn own_environment() -> BTreeMap<OsString, OsString> {
    let mut environment = BTreeMap::new();
    environment.insert("PATH".into(), env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()));
    for kept in ["HOME", "LANG"] {
        environment.extend(env::var_os(kept).map(|value| (kept.into(), value)));
    }
    environment
}

/// The program's file. A bare name is looked up here, since only a path can be started the fast way.
pub(super) fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name));
    }
    env::split_paths(path)
        .map(|dir| dir.join(name))
        .find(|file| fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0))
}
