//! What a start opens beside its ports: certificates, host keys, the data directory, accounts,
//! commands, folders.
//!
//! Each part looks at its own by a function named `look` that opens nothing for writing; here their
//! answers become faults and warnings with keys. Run as the user that the server runs as: the
//! answers are those of this user's rights.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use chrono::Utc;
use rustix::fs::Access;

use super::{Config, WEB_TLS, commands, document::Document, place::exposed};
use crate::{
    clock::{Clock as _, SystemClock},
    doors, gate,
    operate::system_users,
    partners::Partners,
};

/// Entries of the data directory whose owners are looked at.
/// A data directory may hold millions of files; one that belongs to another shows among the first.
const LOOKED_AT: usize = 10_000;

/// Adds every fault and warning.
pub(super) fn check(config: &Config, document: &mut Document) {
    // Each goes on whatever the one before has found.
    commands::check(config, document);
    check_directories(config, document);
    check_doors(config, document, SystemClock::new().now());
    check_data(config, document);
    warn_of_exposed_keys(config, document);
    for (key, what) in config.isolation_warnings() {
        document.warn(key, what);
    }
    check_users(config, document);
}

fn check_doors(config: &Config, document: &mut Document, now: chrono::DateTime<Utc>) {
    if config.ftp.enabled {
        let look = config.ftp.look(&config.data.join("tls"), now);
        look.faults.into_iter().for_each(|(key, what)| document.fault(format!("ftp.{key}"), what));
        look.warnings.into_iter().for_each(|(key, what)| document.warn(format!("ftp.{key}"), what));
    }
    if config.web.listen.is_some() {
        let look = config.web.look(&config.data.join(WEB_TLS), now);
        look.faults.into_iter().for_each(|(key, what)| document.fault(format!("web.{key}"), what));
        look.warnings.into_iter().for_each(|(key, what)| document.warn(format!("web.{key}"), what));
    }
    if config.sftp.enabled {
        for (key, what) in doors::sftp::look(&config.sftp, &config.data.join("ssh")) {
            document.fault(format!("sftp.{key}"), what);
        }
    }
    for (key, what) in doors::drop::Options::look(&config.drops, &config.data.join("partners")) {
        document.fault(key, what);
    }
}

/// Private keys that every user of the machine can read.
fn warn_of_exposed_keys(config: &Config, document: &mut Document) {
    let host_keys = config.sftp.host_keys.iter().enumerate();
    let host_keys = host_keys.map(|(index, path)| (format!("sftp.host_keys[{index}]"), path));
    let web = config.web.key.iter().map(|path| ("web.key".to_owned(), path));
    let keys = config.ftp.key.iter().map(|path| ("ftp.key".to_owned(), path)).chain(web).chain(host_keys);
    let readable = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o004 != 0);
    for (key, path) in keys.filter(|(_, path)| readable(path)) {
        document.warn(key, format!("every user can read this private key: run `chmod 0600 {}`", path.display()));
    }
}

/// Directories of `deliver`, which are made when they are missing.
fn check_directories(config: &Config, document: &mut Document) {
    for (index, route) in config.routes.iter().enumerate() {
        let Some(directory) = &route.directory else { continue };
        if let Err(what) = can_be_written(directory) {
            document.fault(format!("route[{index}].directory"), what);
        }
    }
}

/// The data directory, and the files in it that a start reads.
fn check_data(config: &Config, document: &mut Document) {
    let data = &config.data;
    // Before the first start there is none: then it must be possible to make it.
    let Ok(meta) = fs::metadata(data) else {
        if let Err(what) = can_be_written(data) {
            document.fault("data", what);
        }
        return;
    };
    if !meta.is_dir() {
        return document.fault("data", format!("{} is no directory", data.display()));
    }
    if let Some(what) = exposed(data) {
        document.fault("data", what);
    }
    let (owner, own) = (meta.uid(), rustix::process::geteuid());
    // As root the answers below would be about root's rights.
    if own.is_root() && owner != 0 {
        let user = system_users::name_of(owner);
        let what = format!(
            "{} belongs to {user}: this was looked at as root, who may read more; run it as {user}",
            data.display()
        );
        document.warn("data", what);
    } else if owner != own.as_raw() {
        let user = system_users::name_of(owner);
        return document
            .fault("data", format!("{} belongs to {user}: the server must run as that user", data.display()));
    } else if let Err(what) = can_be_written(data) {
        document.fault("data", what);
    }
    if let Some(stranger) = of_another(data, owner) {
        let (path, user) = (stranger.display(), system_users::name_of(owner));
        document.fault("data", format!("{path} does not belong to {user}, as all else there: chown it"));
    }
    if let Err(error) = gate::look(&data.join("gate")) {
        document.fault("data", error.to_string());
    }
}

/// Accounts that cannot be read, and policies of partners that have none.
fn check_users(config: &Config, document: &mut Document) {
    let directory = config.data.join("partners");
    // Before the first start there are no accounts, and policies of partners wait for them.
    if !directory.is_dir() {
        return;
    }
    let listing = match Partners::look(&directory) {
        Ok(listing) => listing,
        Err(error) => return document.fault("data", error.to_string()),
    };
    for fault in &listing.faults {
        document.fault("data", fault.to_string());
    }
    for (at, one) in config.partners.iter().enumerate() {
        if !listing.accounts.iter().any(|account| account.name == one.name) {
            let what = format!("there is no account {0}: `forebay partner add {0}`", one.name);
            document.warn(format!("partner[{at}].name"), what);
        }
    }
}

/// The first entry, two levels deep, that another user than the directory's owner has.
/// A start as root by mistake leaves such entries, and the next start as the server's own user
/// cannot open them.
fn of_another(data: &Path, owner: u32) -> Option<PathBuf> {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    // The directory's own entries and those one level below: what a start as another user makes
    // lies there.
    let below = entries(data).flat_map(|path| {
        let is_dir = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
        let inner: Vec<_> = if is_dir { entries(&path).take(LOOKED_AT).collect() } else { Vec::new() };
        std::iter::once(path).chain(inner)
    });
    below.take(LOOKED_AT).find(|path| fs::symlink_metadata(path).is_ok_and(|meta| meta.uid() != owner))
}

/// Checks that a directory can be written, or made where it is missing.
/// Asked of the kernel, which knows of read-only mounts and access lists too.
///
/// # Errors
/// A sentence that names the directory in which something is to be made.
fn can_be_written(directory: &Path) -> Result<(), String> {
    let there = directory.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    let shown = there.display();
    if !there.is_dir() {
        return Err(format!("{shown} is no directory"));
    }
    rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        let error = io::Error::from(error);
        if there == directory {
            format!("{shown} cannot be written: {error}")
        } else {
            format!("cannot be made in {shown}: {error}")
        }
    })
}
