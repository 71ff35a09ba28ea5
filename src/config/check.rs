//! `forebay check`: all that a start reads and opens, but for the ports; nothing is bound or
//! changed.
//!
//! It goes the way of [`Config::load`] and then looks at what the values point to: files,
//! directories, programs, users, the schedule. A configuration that passes here starts, as long as
//! the world stays as it is. Faults are things with which a start fails or a route could not work;
//! warnings are the rest. It goes on after each fault, so that one run finds all of them.

use std::{collections::HashSet, net::SocketAddr, path::PathBuf};

use super::{Config, Fault, Place, document::Document, place, start_check};
use crate::gate::{WEB, fixed_zone, parse_schedule};

/// The result of a check of the configuration.
#[derive(Debug, Default)]
pub struct Checked {
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// Every fault.
    pub faults: Vec<Fault>,
    /// What is no fault and probably not what is wanted: keys that mean nothing any more, a zone without daylight saving
    /// time, a certificate that ends soon.
    pub warnings: Vec<Fault>,
}

/// Looks for every fault of configuration and schedule.
/// Runs without the data directory's lock, so beside a running server too. Does not fail itself:
/// what cannot be read is a fault in the result.
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
        check_doors(&config, &mut document);
        start_check::check(&config, &mut document);
        let schedule = check_schedule(&config, &mut document, &mut checked);
        // What became a warning since the configuration was read.
        checked.warnings.splice(0..config.warnings.len(), document.warnings);
        checked.faults = document.faults;
        checked.faults.sort_by_key(|fault| fault.line);
        checked.faults.extend(schedule);
    } else {
        checked.faults = document.faults;
    }
    checked
}

/// Listeners that cannot both be there.
fn check_doors(config: &Config, document: &mut Document) {
    let ftp = config.ftp.enabled;
    let listeners = [
        ("ftp.listen", ftp.then_some(config.ftp.listen)),
        ("ftp.implicit_listen", config.ftp.implicit_listen.filter(|_| ftp)),
        ("web.listen", config.web.listen),
        ("sftp.listen", config.sftp.enabled.then_some(config.sftp.listen)),
        ("health.listen", config.health.listen),
        ("metrics.listen", config.metrics.listen),
    ];
    let listeners: Vec<_> = listeners.into_iter().filter_map(|(key, at)| Some((key, at?))).collect();
    for (index, (key, at)) in listeners.iter().enumerate() {
        for (other, there) in &listeners[..index] {
            if clash(*at, *there) {
                document.fault(*key, format!("is the address of {other} too"));
            }
        }
    }
}

/// Returns true if the second of two listeners would find its address taken.
/// An unspecified IPv6 address takes the port of IPv4 as well.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |all: SocketAddr, at: SocketAddr| all.ip().is_unspecified() && (all.is_ipv6() || at.is_ipv4());
    one.port() == other.port()
        && one.port() != 0
        && (one.ip() == other.ip() || covers(one, other) || covers(other, one))
}

/// Parsed by the gate's own code: what passes here is what a start takes.
fn check_schedule(config: &Config, document: &mut Document, checked: &mut Checked) -> Vec<Fault> {
    let Some(file) = &config.schedule.file else { return Vec::new() };
    let text = match place::read_text(file) {
        Ok(text) => text,
        Err(error) => {
            document.fault("schedule.file", format!("{} cannot be read: {error}", file.display()));
            return Vec::new();
        }
    };
    checked.files.push(file.clone());
    let fault = |line, key: &str, what: &str| Fault {
        file: file.clone(),
        line: Some(line),
        key: key.to_owned(),
        what: what.to_owned(),
    };
    let faults = match parse_schedule(&text) {
        Ok(schedule) => {
            let line = 1 + text.lines().take_while(|line| !line.trim_start().starts_with("timezone")).count();
            checked.warnings.extend(fixed_zone(schedule.zone).map(|what| fault(line, "timezone", &what)));
            Vec::new()
        }
        Err(faults) => faults,
    };
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
