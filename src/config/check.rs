//! `forebay check`: more than reading the configuration, and still nothing is bound or changed.

use std::{
    collections::HashSet,
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::{Config, Fault, Place, document::Document, place};
use crate::{
    doors,
    gate::{WEB, parse_schedule},
    routes::ProcessorKind,
};

/// The result of a check of the configuration.
#[derive(Debug, Default)]
pub struct Checked {
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// Every fault.
    pub faults: Vec<Fault>,
    /// Keys that mean nothing any more, each with what took its place. They are no faults.
    pub warnings: Vec<Fault>,
}

/// Looks for every fault of configuration and schedule.
#[must_use]
pub fn check(place: &Place) -> Checked {
    let mut checked = Checked { files: place.config().into_iter().collect(), ..Checked::default() };
    let mut document = match place::read(place) {
        Err(fault) => {
            checked.faults.push(fault);
            return checked;
        }
        Ok(Some((_, document))) => document,
        Ok(None) => Document::parse(PathBuf::new(), String::new()),
    };
    let file = place.config();
    let mut config = Config::read(&mut document, file.as_deref());
    if let Some(data) = &place.data {
        config.data = place::absolute(data);
    }
    config.complete();
    checked.warnings.clone_from(&config.warnings);
    // What is no TOML says nothing of commands and files.
    if document.is_toml() {
        if let Some(what) = place::exposed(&config.data) {
            document.fault("data", what);
        }
        check_commands(&config, &mut document);
        check_doors(&config, &mut document);
        check_certificate(&config, &mut document);
        checked.warnings.extend(exposed_keys(&config));
        let warning = |(key, what)| Fault { file: file.clone().unwrap_or_default(), line: None, key, what };
        checked.warnings.extend(config.isolation_warnings().into_iter().map(warning));
        for (key, what) in doors::drop::Options::look(&config.drops, &config.data.join("partners")) {
            document.fault(key, what);
        }
        let schedule = check_schedule(&config, &mut document, &mut checked.files);
        checked.faults = document.faults;
        checked.faults.sort_by_key(|fault| fault.line);
        checked.faults.extend(schedule);
    } else {
        checked.faults = document.faults;
    }
    checked
}

fn check_commands(config: &Config, document: &mut Document) {
    for (index, route) in config.routes.iter().enumerate() {
        let Some(program) = route.command.first().filter(|_| route.processor == ProcessorKind::Exec) else { continue };
        if !program.is_empty() && find_program(program).is_none() {
            document.fault(
                format!("route[{index}].command[0]"),
                format!("there is no program \"{program}\" that can be run"),
            );
        }
    }
}

fn find_program(program: &str) -> Option<PathBuf> {
    let runs =
        |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| runs(path));
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(|path| runs(path))
}

fn check_doors(config: &Config, document: &mut Document) {
    let sftp = Some(config.sftp.listen).filter(|_| config.sftp.enabled);
    if Some(config.ftp.listen) == config.web.listen && config.ftp.listen.port() != 0 {
        document.fault("web.listen", "is the address of [ftp] too");
    }
    for (other, door) in [(Some(config.ftp.listen), "ftp"), (config.web.listen, "web"), (sftp, "sftp")] {
        if config.health.listen.is_some_and(|at| Some(at) == other && at.port() != 0) {
            document.fault("health.listen", format!("is the address of [{door}] too"));
        }
    }
    for (other, door) in [(Some(config.ftp.listen), "ftp"), (config.web.listen, "web")] {
        if sftp.is_some_and(|at| Some(at) == other && at.port() != 0) {
            document.fault("sftp.listen", format!("is the address of [{door}] too"));
        }
    }
}

fn check_certificate(config: &Config, document: &mut Document) {
    let given = [
        ("ftp.certificate", &config.ftp.certificate),
        ("ftp.key", &config.ftp.key),
        ("ftp.client_ca", &config.ftp.client_ca),
        ("sftp.trusted_ca", &config.sftp.trusted_ca),
    ];
    let given = given.into_iter().filter_map(|(key, path)| Some((key.to_owned(), path.as_ref()?)));
    let keys = config.sftp.host_keys.iter().enumerate();
    let keys = keys.map(|(index, path)| (format!("sftp.host_keys[{index}]"), path));
    for (key, path) in given.chain(keys) {
        if let Err(error) = fs::File::open(path) {
            document.fault(key, format!("{} cannot be read: {error}", path.display()));
        }
    }
}

/// Private keys that every user of the machine can read.
fn exposed_keys(config: &Config) -> Vec<Fault> {
    let host_keys = config.sftp.host_keys.iter().enumerate();
    let host_keys = host_keys.map(|(index, path)| (format!("sftp.host_keys[{index}]"), path));
    let keys = config.ftp.key.iter().map(|path| ("ftp.key".to_owned(), path)).chain(host_keys);
    let readable = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0);
    let file = config.file.clone().unwrap_or_default();
    let warning = |(key, path): (String, &PathBuf)| {
        let what = format!("every user can read this private key: run `chmod 0600 {}`", path.display());
        Fault { file: file.clone(), line: None, key, what }
    };
    keys.filter(|(_, path)| readable(path)).map(warning).collect()
}

fn check_schedule(config: &Config, document: &mut Document, files: &mut Vec<PathBuf>) -> Vec<Fault> {
    let Some(file) = &config.schedule.file else { return Vec::new() };
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            document.fault("schedule.file", format!("{} cannot be read: {error}", file.display()));
            return Vec::new();
        }
    };
    files.push(file.clone());
    let fault = |line, key: &str, what: &str| Fault {
        file: file.clone(),
        line: Some(line),
        key: key.to_owned(),
        what: what.to_owned(),
    };
    let faults = parse_schedule(&text).err().unwrap_or_default();
    let mut faults: Vec<_> = faults.iter().map(|one| fault(one.line, &one.key, &one.message)).collect();
    faults.extend(check_names(config, Document::parse(file.clone(), text)));
    faults.sort_by_key(|fault| fault.line);
    faults
}

/// Routes that windows name and that are not there: a closure that closes nothing. Also when other things are wrong.
fn check_names(config: &Config, mut schedule: Document) -> Vec<Fault> {
    if !schedule.is_toml() {
        return Vec::new();
    }
    let known: HashSet<&str> = config.routes.iter().map(|route| route.name.as_str()).chain([WEB]).collect();
    let windows = schedule.value::<Vec<toml::Table>>("window").unwrap_or_default();
    // Faults of the windows themselves were reported before.
    schedule.faults.clear();
    for (index, window) in windows.iter().enumerate() {
        let routes = window.get("routes").and_then(toml::Value::as_array).into_iter().flatten();
        for (at, name) in routes.enumerate() {
            if let Some(name) = name.as_str().filter(|name| !known.contains(name)) {
                schedule.fault(format!("window[{index}].routes[{at}]"), format!("no route is called \"{name}\""));
            }
        }
    }
    schedule.faults
}
