//! Routes: which processor serves which files.
//!
//! A file takes the first route whose partners and paths both match. Globs ignore case; a path glob without `/` is
//! held against the last component alone, one with `/` against the whole path (`*` stops at `/`, `**` does not).

mod globs;
mod messages;
mod options;

use self::options::fault;
pub use self::{
    globs::PathGlobs,
    messages::{Format, Judgement, LineEnds, MessageOptions, TestMessages},
    options::{Options, ProcessorKind, Retry, RouteFault, RunAs, validate},
};

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
        // Also for those that come by no configuration file: a route that exists is a valid one.
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

    /// The name of the route.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Returns true if it serves files of this partner.
    #[must_use]
    pub fn serves(&self, partner: &str) -> bool {
        self.partners.matches(partner)
    }

    /// Returns true if it serves this file of this partner.
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
    use std::time::Duration;

    use serde::Deserialize;

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
