//! How far the programs of routes are kept from the server: what cannot be, and what is not.
//!
//! A configuration that asks for a confinement that this kernel or place cannot give does not
//! start. One that asks for none starts, with a warning: many routes run programs that their
//! operator wrote and trusts.

use std::path::{Path, PathBuf};

use super::Config;
use crate::{
    process::{Confinement, uid_of},
    routes::{Options, ProcessorKind, RunAs},
};

impl Config {
    /// Private keys that lie outside the data directory.
    /// Confined programs must not see them either; those within the data directory are hidden with
    /// it.
    pub(super) fn keys_elsewhere(&self) -> Vec<PathBuf> {
        self.ftp.key.iter().chain(&self.web.key).chain(&self.sftp.host_keys).cloned().collect()
    }

    /// The confinements that cannot be: never is a program started without one that was asked for.
    pub(super) fn isolation_faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let confined = self.routes.iter().enumerate().filter(|(_, route)| route.run_as() == RunAs::Confined);
        let mut missing = None;
        for (index, route) in confined {
            if let Some(what) = missing.get_or_insert_with(Confinement::missing) {
                faults.push((format!("route[{index}].confine"), what.clone()));
            }
            for (at, path) in route.writable.iter().enumerate() {
                if let Some(hidden) = self.overlap(path) {
                    let what = format!("programs would get at {} by it: name other places", hidden.display());
                    faults.push((format!("route[{index}].writable[{at}]"), what));
                }
            }
        }
        faults
    }

    /// What is hidden from confined programs and has to do with this path.
    /// By the real paths: a symbolic link would lead around the comparison. In both directions,
    /// since a directory above the data directory opens it too.
    fn overlap(&self, path: &Path) -> Option<PathBuf> {
        let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let path = real(path);
        let hidden = std::iter::once(self.data.clone()).chain(self.keys_elsewhere());
        hidden.map(|hidden| real(&hidden)).find(|hidden| hidden.starts_with(&path) || path.starts_with(hidden))
    }

    /// What an operator should know of the programs of routes, each with its key.
    pub(super) fn isolation_warnings(&self) -> Vec<(String, String)> {
        let programs = self.routes.iter().enumerate().filter(|(_, route)| route.processor == ProcessorKind::Exec);
        programs.filter_map(|(index, route)| warning(index, route)).collect()
    }
}

/// None where the program is confined, or a runner is there to run it.
fn warning(index: usize, route: &Options) -> Option<(String, String)> {
    let (key, what) = match route.run_as() {
        RunAs::Confined => return None,
        RunAs::Server => ("command", UNCONFINED.to_owned()),
        RunAs::Runner { user, .. } if uid_of(&user).is_none() => {
            ("runner_user", format!("there is no user {user}: no file of this route is processed until there is"))
        }
        RunAs::Runner { socket, .. } if !socket.exists() => {
            ("runner", format!("nobody listens at {}: start `forebay runner` there", socket.display()))
        }
        RunAs::Runner { .. } => return None,
    };
    Some((format!("route[{index}].{key}"), what))
}

const UNCONFINED: &str = "the program runs as the server's own user, unconfined: it can read keys and accounts, change \
                          them, and change accepted files; let a runner run it (runner), or confine it (confine = true)";
