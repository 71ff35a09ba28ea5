//! Routes: which processor serves which files.
//!
//! A file takes the first route whose partners and paths both match. Globs ignore case; a path glob without `/` is
//! held against the last component alone, one with `/` against the whole path (`*` stops at `/`, `**` does not).

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use forebay_queue::{Backoff, Order};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use crate::units;

/// One `[[route]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// What the route is called, in the schedule too: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`, but not `web`.
    pub name: String,
    /// Globs of partner names.
    #[serde(default = "everything")]
    pub partners: Vec<String>,
    /// Globs of paths.
    #[serde(default = "everything")]
    pub paths: Vec<String>,
    /// What is done with the files.
    #[serde(default)]
    pub processor: ProcessorKind,
    /// `exec`: the program and its arguments; no shell reads them. Its name without `/` is looked up in PATH.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// `deliver`: where the files go; `<data>/delivered` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// `deliver`: hard links to the spooled bytes instead of copies.
    #[serde(default)]
    pub link: bool,
    /// `strict`: one file of a partner at a time, and one that waits to be retried holds up those behind it.
    #[serde(default)]
    pub order: Order,
    /// Files of this route at once.
    #[serde(default = "default_concurrency")]
    pub concurrency: usize,
    /// Files of one partner at once, with `order = "none"`; no bound but `concurrency` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_partner: Option<usize>,
    /// `exec`: how long an attempt may take before it is stopped and counts as failed.
    #[serde(default = "default_timeout", with = "units::duration")]
    pub timeout: Duration,
    /// When a failed file is tried again.
    #[serde(default)]
    pub retry: Retry,
    /// `exec`: variables the program gets besides PATH, HOME, LANG and `FOREBAY_*`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The same partner, path, size and digest, done within this time, is a duplicate; `0` turns it off.
    #[serde(default = "default_duplicate_window", with = "units::duration")]
    pub duplicate_window: Duration,
}

/// What is done with the files of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessorKind {
    /// Put into a directory.
    #[default]
    Deliver,
    /// Given to a program.
    Exec,
}

/// Exponential back-off with jitter: `[route.retry]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// The first wait.
    #[serde(with = "units::duration")]
    pub first: Duration,
    /// By how much each wait is longer than the one before; at least 1.
    pub factor: f64,
    /// The longest wait.
    #[serde(with = "units::duration")]
    pub max: Duration,
    /// The part of a wait that is left to chance, 0 to 1.
    pub jitter: f64,
    /// A file that has failed for this long is dead.
    #[serde(with = "units::duration")]
    pub give_up_after: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        let Backoff { first_ms, factor, max_ms, jitter, give_up_after_ms } = Backoff::default();
        Self {
            first: Duration::from_millis(first_ms),
            factor,
            max: Duration::from_millis(max_ms),
            jitter,
            give_up_after: Duration::from_millis(give_up_after_ms),
        }
    }
}

impl Default for Options {
    /// The route that is there when none is configured: every file goes to `<data>/delivered`.
    fn default() -> Self {
        Self {
            name: "deliver".to_owned(),
            partners: everything(),
            paths: everything(),
            processor: ProcessorKind::Deliver,
            command: Vec::new(),
            directory: None,
            link: false,
            order: Order::default(),
            concurrency: default_concurrency(),
            per_partner: None,
            timeout: default_timeout(),
            retry: Retry::default(),
            environment: BTreeMap::new(),
            duplicate_window: default_duplicate_window(),
        }
    }
}

fn everything() -> Vec<String> {
    vec!["*".to_owned()]
}

fn default_concurrency() -> usize {
    4
}

fn default_timeout() -> Duration {
    Duration::from_secs(3600)
}

fn default_duplicate_window() -> Duration {
    Duration::from_secs(24 * 3600)
}

/// What is wrong with a route's configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {what}")]
pub struct RouteFault {
    /// The key's path, such as `route[0].paths[1]`.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
}

/// Every fault of all routes, with `route[<index>].<key>`.
#[must_use]
pub fn validate(routes: &[Options]) -> Vec<RouteFault> {
    let mut faults = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        let before = format!("route[{index}]");
        route.validate(&before, &mut faults);
        let again = routes[..index].iter().any(|other| other.name.eq_ignore_ascii_case(&route.name));
        if again {
            faults.push(fault(&before, "name", format!("there is another route \"{}\"", route.name)));
        }
    }
    faults
}

fn fault(before: &str, key: &str, what: impl Into<String>) -> RouteFault {
    RouteFault { key: format!("{before}.{key}"), what: what.into() }
}

impl Options {
    /// Adds every fault, with `before` as the beginning of its key.
    pub fn validate(&self, before: &str, faults: &mut Vec<RouteFault>) {
        let mut say = |key: &str, what: &str| faults.push(fault(before, key, what));
        if !is_name(&self.name) {
            say("name", "write 1 to 64 of A-Z a-z 0-9 . _ -, with a letter or digit first");
        }
        if self.name.eq_ignore_ascii_case("web") {
            say("name", "\"web\" stands for the web faces in the schedule; choose another name");
        }
        if self.partners.is_empty() {
            say("partners", "is empty: no file would ever match");
        }
        if self.paths.is_empty() {
            say("paths", "is empty: no file would ever match");
        }
        if self.concurrency == 0 {
            say("concurrency", "must be at least 1");
        }
        if self.per_partner == Some(0) {
            say("per_partner", "must be at least 1");
        }
        if self.timeout.is_zero() {
            say("timeout", "must be longer than 0");
        }
        self.validate_processor(&mut say);
        self.retry.validate(&mut say);
        for (key, globs) in [("partners", &self.partners), ("paths", &self.paths)] {
            for (index, glob) in globs.iter().enumerate() {
                if let Err(what) = compile_one(glob) {
                    faults.push(fault(before, &format!("{key}[{index}]"), what));
                }
            }
        }
    }

    fn validate_processor(&self, say: &mut impl FnMut(&str, &str)) {
        match self.processor {
            ProcessorKind::Exec => {
                match self.command.first() {
                    None => say("command", "is missing: write the program and its arguments as a list"),
                    Some(program) if program.is_empty() => say("command[0]", "is empty"),
                    Some(program) if program.contains('/') && !program.starts_with('/') => {
                        say("command[0]", "write an absolute path, or a bare name that PATH finds");
                    }
                    Some(_) => {}
                }
                if self.command.iter().any(|word| word.contains('\0')) {
                    say("command", "contains a NUL");
                }
                if self.directory.is_some() {
                    say("directory", "belongs to processor = \"deliver\"");
                }
                if self.link {
                    say("link", "belongs to processor = \"deliver\"");
                }
            }
            ProcessorKind::Deliver => {
                if !self.command.is_empty() {
                    say("command", "belongs to processor = \"exec\"");
                }
                if !self.environment.is_empty() {
                    say("environment", "belongs to processor = \"exec\"");
                }
                if self.directory.as_ref().is_some_and(|directory| directory.as_os_str().is_empty()) {
                    say("directory", "is empty");
                }
            }
        }
        for (name, value) in &self.environment {
            let key = format!("environment.{name}");
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                say(&key, "is no variable that a program can get");
            }
            if name.starts_with("FOREBAY_") {
                say(&key, "names that begin with FOREBAY_ are the server's");
            }
        }
    }
}

impl Retry {
    /// For the queue's words.
    #[must_use]
    pub fn backoff(&self) -> Backoff {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Backoff {
            first_ms: millis(self.first),
            factor: self.factor,
            max_ms: millis(self.max),
            jitter: self.jitter,
            give_up_after_ms: millis(self.give_up_after),
        }
    }

    fn validate(&self, say: &mut impl FnMut(&str, &str)) {
        if self.first.is_zero() {
            say("retry.first", "must be longer than 0");
        }
        if !(1.0..=100.0).contains(&self.factor) {
            say("retry.factor", "must be from 1 to 100");
        }
        if self.max < self.first {
            say("retry.max", "must not be shorter than retry.first");
        }
        if self.max > Duration::from_secs(7 * 86_400) {
            say("retry.max", "must not be longer than a week");
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            say("retry.jitter", "must be from 0 to 1");
        }
        if self.give_up_after.is_zero() {
            say("retry.give_up_after", "must be longer than 0");
        }
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.len() <= 64
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn compile_one(glob: &str) -> Result<globset::Glob, String> {
    if glob.is_empty() {
        return Err("is empty".to_owned());
    }
    GlobBuilder::new(glob.trim_start_matches('/'))
        .case_insensitive(true)
        .literal_separator(true)
        .build()
        .map_err(|error| format!("\"{glob}\" is no glob: {}", error.kind()))
}

/// Globs of file paths: those without `/` look at the last component alone.
#[derive(Clone, Debug)]
pub struct PathGlobs {
    whole: GlobSet,
    last: GlobSet,
}

impl PathGlobs {
    /// Compiles them.
    ///
    /// # Errors
    /// With the index of the first that is no glob, and why.
    pub fn new(globs: &[String]) -> Result<Self, (usize, String)> {
        let (mut whole, mut last) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for (index, glob) in globs.iter().enumerate() {
            let compiled = compile_one(glob).map_err(|what| (index, what))?;
            if glob.contains('/') {
                whole.add(compiled)
            } else {
                last.add(compiled)
            };
        }
        let build = |set: GlobSetBuilder| set.build().map_err(|error| (0, error.to_string()));
        Ok(Self { whole: build(whole)?, last: build(last)? })
    }

    /// Whether one of them matches this path.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let path = path.trim_start_matches('/');
        let last = path.rsplit('/').next().unwrap_or(path);
        self.last.is_match(last) || self.whole.is_match(path)
    }
}

/// A route that is ready to be asked.
#[derive(Clone, Debug)]
pub struct Route {
    /// As configured.
    pub options: Options,
    partners: PathGlobs,
    paths: PathGlobs,
}

impl Route {
    /// Compiles a route.
    ///
    /// # Errors
    /// Every fault of it.
    pub fn new(options: Options) -> Result<Self, Vec<RouteFault>> {
        let mut faults = Vec::new();
        options.validate("route", &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        let globs = |key: &str, globs: &[String]| {
            PathGlobs::new(globs).map_err(|(index, what)| vec![fault("route", &format!("{key}[{index}]"), what)])
        };
        let (partners, paths) = (globs("partners", &options.partners)?, globs("paths", &options.paths)?);
        Ok(Self { options, partners, paths })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Whether it serves files of this partner.
    #[must_use]
    pub fn serves(&self, partner: &str) -> bool {
        self.partners.matches(partner)
    }

    /// Whether it serves this file of this partner.
    #[must_use]
    pub fn matches(&self, partner: &str, path: &str) -> bool {
        self.partners.matches(partner) && self.paths.matches(path)
    }
}

/// All routes, in the order in which they are asked.
#[derive(Clone, Debug)]
pub struct Routes {
    routes: Vec<Route>,
}

impl Routes {
    /// These routes.
    #[must_use]
    pub fn new(routes: Vec<Route>) -> Self {
        Self { routes }
    }

    /// The routes of a configuration; without any, one that delivers everything to `<data>/delivered`.
    ///
    /// # Errors
    /// Every fault of all of them.
    pub fn from_options(options: Vec<Options>) -> Result<Self, Vec<RouteFault>> {
        let faults = validate(&options);
        if !faults.is_empty() {
            return Err(faults);
        }
        let options = if options.is_empty() { vec![Options::default()] } else { options };
        Ok(Self::new(options.into_iter().map(Route::new).collect::<Result<_, _>>()?))
    }

    /// The route that serves this file: the first that matches.
    #[must_use]
    pub fn serve(&self, partner: &str, path: &str) -> Option<&Route> {
        self.routes.iter().find(|route| route.matches(partner, path))
    }

    /// The route of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Route> {
        self.routes.iter().find(|route| route.name() == name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Options>, String> {
        #[derive(Deserialize)]
        struct File {
            route: Vec<Options>,
        }
        toml::from_str::<File>(text).map(|file| file.route).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_route_that_matches_serves() {
        let text = r#"
            [[route]]
            name = "immunizations"
            partners = ["*"]
            paths = ["*.hl7"]
            processor = "exec"
            command = ["/usr/local/bin/load-batch"]
            [[route]]
            name = "clinic"
            partners = ["Clinic-*"]
            paths = ["in/*.txt", "deep/**/x"]
            [[route]]
            name = "rest"
            partners = ["demo"]
            directory = "/srv/forebay/delivered"
        "#;
        let routes = Routes::from_options(read(text).unwrap()).unwrap();
        let name = |partner, path| routes.serve(partner, path).map(Route::name);
        assert_eq!(name("x", "a.hl7"), Some("immunizations"));
        assert_eq!(name("x", "sub/dir/A.HL7"), Some("immunizations"), "last component, any case");
        assert_eq!(name("clinic-7", "in/a.TXT"), Some("clinic"));
        assert_eq!(name("clinic-7", "in/deeper/a.txt"), None, "a star stops at a slash");
        assert_eq!(name("clinic-7", "a.txt"), None);
        assert_eq!(name("clinic-7", "deep/1/2/x"), Some("clinic"));
        assert_eq!(name("DEMO", "a.txt"), Some("rest"));
        assert_eq!(name("other", "a.txt"), None);
        assert_eq!(routes.get("rest").unwrap().options.processor, ProcessorKind::Deliver);
    }

    #[test]
    fn without_a_route_everything_is_delivered() {
        let routes = Routes::from_options(Vec::new()).unwrap();
        let route = routes.serve("anyone", "some/where.bin").unwrap();
        assert_eq!((route.options.processor, &route.options.directory), (ProcessorKind::Deliver, &None));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(read("[[route]]\nname = \"a\"\ncomand = []").unwrap_err().contains("comand"));
    }

    #[test]
    fn every_fault_is_told_with_its_key() {
        let text = r#"
            [[route]]
            name = "web"
            processor = "exec"
            concurrency = 0
            paths = ["ok", "[z"]
            retry = { factor = 0.5 }
            environment = { FOREBAY_X = "1" }
            [[route]]
            name = "b d"
            partners = []
            command = ["bin/x"]
            [[route]]
            name = "WEB"
            processor = "exec"
            command = ["bin/x"]
        "#;
        let keys: Vec<_> = validate(&read(text).unwrap()).into_iter().map(|fault| fault.key).collect();
        for key in [
            "route[0].name",
            "route[0].concurrency",
            "route[0].command",
            "route[0].environment.FOREBAY_X",
            "route[0].retry.factor",
            "route[0].paths[1]",
            "route[1].name",
            "route[1].partners",
            "route[1].command",
            "route[2].command[0]",
            "route[2].name",
        ] {
            assert!(keys.iter().any(|found| found == key), "{key} is not in {keys:?}");
        }
        assert_eq!(keys.len(), 12, "{keys:?}");
    }

    #[test]
    fn options_read_back_as_written() {
        let routes = read("[[route]]\nname = \"a\"\ntimeout = \"5m\"\nretry = { first = \"1s\" }").unwrap();
        assert_eq!(routes[0].timeout, Duration::from_secs(300));
        assert_eq!(routes[0].retry, Retry { first: Duration::from_secs(1), ..Retry::default() });
        let text = toml::to_string(&routes[0]).unwrap();
        assert_eq!(toml::from_str::<Options>(&text).unwrap(), routes[0]);
    }
}
