//! The configuration: one file, `forebay.toml`, made of every module's own `Options`.
//!
//! Every fault is reported, with key and line, not only the first. Relative paths are relative to
//! the file.
//!
//! Each module owns its options, their defaults and their `validate`; here they are only put
//! together. What concerns two modules (a door that cannot honour a policy, a program that could
//! read a key) is checked here, for neither may name the other. Reading goes by `Document`; what
//! a start would find beside the text is looked at in `start_check`.
//!
//! A new key goes into its module's `Options`, with a default and a doc comment, into its
//! `validate`, and into docs/CONFIGURATION.md, which a test compares with the code. A key that goes
//! away is listed in `retired.rs`, so that old files still start.

mod check;
mod commands;
mod document;
mod fault;
mod isolation;
mod place;
mod retired;
mod start_check;

use std::path::{Path, PathBuf};

use forebay_queue::embedded;
use forebay_storage::local;
use serde::{Deserialize, Serialize};

pub use self::{
    check::{Checked, check},
    fault::Fault,
    place::{DATA, Place, SYSTEM, VARIABLE, data_dir, exposed},
};
use self::{
    document::Document,
    place::{absolute, beside},
};
use crate::{doors, gate, ingest, partners, process, routes, telemetry, units};

/// The part of the data directory in which the web door's certificate is made.
pub const WEB_TLS: &str = "tls/web";

/// The whole configuration of a server.
/// After [`Config::load`] all paths are absolute, there is at least one route, and every `validate`
/// was passed.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from.
    pub file: Option<PathBuf>,
    /// The data directory.
    pub data: PathBuf,
    /// `[ftp]`.
    pub ftp: doors::ftp::Options,
    /// `[sftp]`.
    pub sftp: doors::sftp::Options,
    /// `[[drop]]`.
    pub drops: Vec<doors::drop::Options>,
    /// `[web]`.
    pub web: doors::web::Options,
    /// `[health]`.
    pub health: doors::web::HealthOptions,
    /// `[metrics]`.
    pub metrics: doors::web::MetricsOptions,
    /// `[schedule]`.
    pub schedule: gate::Options,
    /// `[[route]]`.
    pub routes: Vec<routes::Options>,
    /// `[policy]`.
    pub policy: partners::Policy,
    /// `[[partner]]`.
    pub partners: Vec<crate::partners::Override>,
    /// `[limits]`.
    pub limits: partners::Limits,
    /// `[ingest]`.
    pub ingest: ingest::Options,
    /// `[process]`.
    pub process: process::Options,
    /// `[storage]`.
    pub storage: Storage,
    /// `[queue]`.
    pub queue: Queue,
    /// `[log]`.
    pub log: telemetry::Options,
    /// Keys that mean nothing any more, each with what took its place.
    pub warnings: Vec<Fault>,
}

/// `[storage]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// The disk space that uploads leave free, so that the journal can go on.
    #[serde(with = "units::size")]
    pub reserve: u64,
    /// The inodes that uploads leave free; an eighth of all at most.
    pub reserve_inodes: u64,
}

impl Default for Storage {
    fn default() -> Self {
        let local::Options { reserve_bytes, reserve_inodes, .. } = local::Options::default();
        Self { reserve: reserve_bytes, reserve_inodes }
    }
}

/// `[queue]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// Size of a segment of the journal.
    #[serde(with = "units::size")]
    pub segment: u64,
    /// Memory that the index may use for what it has read.
    #[serde(with = "units::size")]
    pub cache: u64,
    /// The days for which the journal keeps the history of files that are gone.
    pub keep_days: u32,
}

impl Default for Queue {
    fn default() -> Self {
        let options = embedded::Options::default();
        Self { segment: options.segment_bytes, cache: options.cache_bytes, keep_days: options.keep_days }
    }
}

impl Config {
    /// Reads the configuration that `place` leads to; without any, the defaults hold.
    /// The file's text alone is judged: whether its certificates, programs and directories are
    /// there shows at the start, or by [`check`].
    ///
    /// # Errors
    /// Every fault, by line.
    pub fn load(place: &Place) -> Result<Self, Vec<Fault>> {
        let mut document = match place::read(place).map_err(|fault| vec![fault])? {
            Some((_, document)) => document,
            None => Document::parse(PathBuf::new(), String::new()),
        };
        let file = place.config();
        let mut config = Self::read(&mut document, file.as_deref());
        if let Some(data) = &place.data {
            config.data = absolute(data);
        }
        config.complete();
        if document.faults.is_empty() { Ok(config) } else { Err(document.faults) }
    }

    /// Whatever does not read has its default, so that the rest can be checked; the faults say that
    /// this is no configuration to run with.
    fn read(document: &mut Document, file: Option<&Path>) -> Self {
        let at = |path: &Path| file.map_or_else(|| absolute(path), |file| beside(file, path));
        let data = document.value::<PathBuf>("data").unwrap_or_else(|| DATA.into());
        let (routes, route_places) = document.sections("route", &["name"]);
        let (partners, partner_places) = document.sections("partner", &["name"]);
        let (drops, drop_places) = document.sections("drop", &["directory", "partner"]);
        let mut config = Self {
            file: file.map(Path::to_owned),
            data: at(&data),
            drops,
            ftp: document.section("ftp"),
            sftp: document.section("sftp"),
            web: document.section("web"),
            health: document.section("health"),
            metrics: document.section("metrics"),
            schedule: document.section("schedule"),
            routes,
            policy: document.section("policy"),
            partners,
            limits: document.section("limits"),
            ingest: document.section("ingest"),
            process: document.section("process"),
            storage: document.section("storage"),
            queue: document.section("queue"),
            log: document.section("log"),
            warnings: document.warnings.clone(),
        };
        // A door that a configuration does not name is off; without any configuration those hold that are on by default.
        config.ftp.enabled &= file.is_none() || document.has("ftp");
        config.sftp.enabled &= file.is_none() || document.has("sftp");
        // Before they are validated: only absolute paths show which folder lies in which.
        for one in &mut config.drops {
            let paths = [Some(&mut one.directory), one.move_to.as_mut()];
            paths.into_iter().flatten().for_each(|path| *path = at(path));
        }
        for route in &mut config.routes {
            route.writable.iter_mut().chain(route.runner.as_mut()).for_each(|path| *path = at(path));
        }
        // A file that is no TOML says nothing; what it would say cannot be judged.
        if document.is_toml() {
            config
                .validate(document, &[("route", &route_places), ("partner", &partner_places), ("drop", &drop_places)]);
            document.finish();
        }
        config.place(&at);
        config.process.secrets = config.keys_elsewhere();
        config
    }

    /// Makes relative paths absolute.
    /// Those that validation has no need of: the folders and the paths of programs were made
    /// absolute before.
    fn place(&mut self, at: &impl Fn(&Path) -> PathBuf) {
        let paths = [
            &mut self.schedule.file,
            &mut self.ftp.certificate,
            &mut self.ftp.key,
            &mut self.ftp.client_ca,
            &mut self.sftp.trusted_ca,
            &mut self.web.certificate,
            &mut self.web.key,
            &mut self.web.client_ca,
        ];
        let directories = self.routes.iter_mut().map(|route| &mut route.directory);
        let paths = paths.into_iter().chain(directories).flatten();
        for path in paths.chain(&mut self.sftp.host_keys) {
            *path = at(path);
        }
    }

    /// Fills in what is there when nothing is said.
    /// A server without a route would take files and never process them: the default route serves
    /// every name.
    fn complete(&mut self) {
        if self.routes.is_empty() {
            self.routes.push(routes::Options::default());
        }
    }

    /// Adds every fault of the values. The places tell where in the file each route, partner and folder stood: one that
    /// did not read at all is missing here.
    fn validate(&self, document: &mut Document, places: &[(&str, &[usize])]) {
        let below = |section: &'static str| move |(key, what): (String, String)| (format!("{section}.{key}"), what);
        let mut faults: Vec<(String, String)> = Vec::new();
        faults.extend(routes::validate(&self.routes).into_iter().map(|fault| (fault.key, fault.what)));
        faults.extend(self.ftp.validate().into_iter().map(below("ftp")));
        faults.extend(self.sftp.validate().into_iter().map(below("sftp")));
        faults.extend(doors::drop::Options::validate(&self.drops, &self.data));
        faults.extend(self.web.validate().into_iter().map(below("web")));
        faults.extend(self.schedule.validate().into_iter().map(below("schedule")));
        faults.extend(crate::partners::Policies::validate(&self.policy, &self.partners));
        faults.extend(self.cannot_honour());
        faults.extend(self.isolation_faults());
        faults.extend(self.limits.validate().into_iter().map(below("limits")));
        faults.extend(self.ingest.validate().into_iter().map(below("ingest")));
        faults.extend(self.process.validate());
        faults.extend(
            self.queue()
                .faults()
                .into_iter()
                .map(|(key, what)| (format!("queue.{}", key.trim_end_matches("_bytes")), what)),
        );
        faults.extend(self.log.validate().into_iter().map(below("log")));
        // Where some section does not read, the doors may be in it.
        if !self.has_door() && document.faults.is_empty() {
            document.fault("", "names no door: write [ftp], [sftp], [[drop]] or [web] listen");
        }
        for (key, what) in faults {
            let key = places.iter().find_map(|(section, places)| in_file(&key, section, places)).unwrap_or(key);
            document.fault(key, what);
        }
    }

    /// A configuration in which nothing listens is a mistake, surely.
    fn has_door(&self) -> bool {
        self.ftp.enabled || self.sftp.enabled || !self.drops.is_empty() || self.web.listen.is_some()
    }

    /// The settings of policies that no configured door can honour.
    /// The doors say what they can; the policy does not know of them.
    fn cannot_honour(&self) -> Vec<(String, String)> {
        let single = self.partners.iter().enumerate();
        let single = single.filter_map(|(at, one)| Some((format!("partner[{at}].complete"), one.complete?)));
        let asked = std::iter::once(("policy.complete".to_owned(), self.policy.complete)).chain(single);
        let mut faults: Vec<_> = asked
            .filter_map(|(key, complete)| Some((key, doors::ftp::can_honour(complete).err()?.to_owned())))
            .collect();
        if self.ftp.client_ca.is_none() && self.web.client_ca.is_none() {
            let bound = self.partners.iter().enumerate().filter(|(_, one)| !one.certificates.is_empty());
            let what = "are of no use without ftp.client_ca or web.client_ca, the authorities that they are of";
            faults.extend(bound.map(|(at, _)| (format!("partner[{at}].certificates"), what.to_owned())));
        }
        faults
    }

    /// The queue's options.
    #[must_use]
    pub fn queue(&self) -> embedded::Options {
        embedded::Options {
            segment_bytes: self.queue.segment,
            cache_bytes: self.queue.cache,
            keep_days: self.queue.keep_days,
            ..embedded::Options::default()
        }
    }

    /// The storage's options.
    #[must_use]
    pub fn storage(&self) -> local::Options {
        let Storage { reserve, reserve_inodes } = self.storage;
        local::Options { reserve_bytes: reserve, reserve_inodes, ..local::Options::default() }
    }
}

/// `route[1].name` as `route[2].name`, when the second that was read is the third in the file.
fn in_file(key: &str, section: &str, places: &[usize]) -> Option<String> {
    let (index, rest) = key.strip_prefix(section)?.strip_prefix('[')?.split_once(']')?;
    let place = places.get(index.parse::<usize>().ok()?)?;
    Some(format!("{section}[{place}]{rest}"))
}
