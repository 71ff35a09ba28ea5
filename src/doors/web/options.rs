//! The sections `[web]`, `[health]` and `[metrics]` of the configuration.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, Utc};
use hyper::Uri;
use serde::{Deserialize, Serialize};

use crate::{
    http::HostName,
    partners::Network,
    tls::{Look, TlsFiles},
    units,
};

/// How the web door is set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Where to listen; none: there are no web faces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// The public address, such as `https://files.example.org`, for links; where it begins with `https`, a proxy of
    /// `proxy_protocol_from` is taken to speak TLS with clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether clients must use TLS; by default where there is a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The certificate chain in PEM; without it one is made that is signed by itself, where TLS is required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The private key of `certificate` in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Authorities in PEM whose certificates clients may show; which stands for whom is said at the partners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Networks of proxies whose connections begin with a PROXY protocol header (version 1 or 2). They must send one.
    pub proxy_protocol_from: Vec<Network>,
    /// The names that the server answers to, with that of `url`; none: any. An address is always accepted.
    pub hosts: Vec<HostName>,
    /// Whether partners may sign in with a browser, and send and fetch files there.
    pub portal: bool,
    /// Whether partners may send and fetch files through the web services.
    pub services: bool,
    /// How long a browser stays signed in without a request; one that is under way counts to its end.
    #[serde(with = "units::duration")]
    pub session_idle: Duration,
    /// How long a TLS handshake may take.
    #[serde(with = "units::duration")]
    pub handshake: Duration,
    /// How long a request's head may take, and how long a connection may wait for its next request.
    #[serde(with = "units::duration")]
    pub head_timeout: Duration,
    /// How long a body that nobody wants may take.
    #[serde(with = "units::duration")]
    pub body_timeout: Duration,
    /// Most bytes of a body that nobody wants which are read, so that its sender sees the answer.
    #[serde(rename = "max_body_size", with = "units::size")]
    pub max_body_bytes: u64,
    /// How long a connection may last; a transfer that is under way is not cut.
    #[serde(with = "units::duration")]
    pub max_connection_age: Duration,
    /// How long a transfer may take for each GiB begun, however steadily its bytes move.
    #[serde(with = "units::duration")]
    pub longest_per_gib: Duration,
    /// How long transfers may go on when the server is stopped.
    #[serde(with = "units::duration")]
    pub grace: Duration,
    /// `Retry-After` of a closure whose end is not known.
    #[serde(with = "units::duration")]
    pub retry_after: Duration,
}

/// Whether clients must use TLS. On one port there is no third way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// They cannot.
    Off,
    /// They must.
    Required,
}

/// `[health]`: a listener for watchdogs alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthOptions {
    /// Where to listen; none: health is told by the web faces alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

/// `[metrics]`: a listener for monitoring systems alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsOptions {
    /// Where to listen; none: there are no figures to be had over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: None,
            url: None,
            tls: None,
            certificate: None,
            key: None,
            client_ca: None,
            proxy_protocol_from: Vec::new(),
            hosts: Vec::new(),
            portal: true,
            services: true,
            session_idle: Duration::from_secs(30 * 60),
            handshake: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            max_body_bytes: 16 << 20,
            max_connection_age: Duration::from_secs(300),
            longest_per_gib: Duration::from_secs(6 * 60 * 60),
            grace: Duration::from_secs(10),
            retry_after: Duration::from_secs(900),
        }
    }
}

impl Options {
    /// What holds for TLS when the configuration says nothing.
    #[must_use]
    pub fn tls(&self) -> Tls {
        self.tls.unwrap_or(if self.certificate.is_some() { Tls::Required } else { Tls::Off })
    }

    /// The files of certificate, key and authorities; a pair that is made lies in `directory`.
    #[must_use]
    pub fn tls_files(&self, directory: &Path) -> TlsFiles {
        let own = self.listen.map(|listen| listen.ip());
        let own = own.filter(|own| !own.is_unspecified() && !own.is_loopback()).map(|own| own.to_string());
        let files = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => TlsFiles::configured(certificate.clone(), key.clone()),
            _ => TlsFiles::made_in(
                directory,
                self.hosts.iter().map(ToString::to_string).chain(self.host_of_url()).chain(own),
            ),
        };
        files.asking_clients(self.client_ca.clone())
    }

    /// Looks at those files before a start.
    #[must_use]
    pub fn look(&self, directory: &Path, now: DateTime<Utc>) -> Look {
        match self.tls() {
            Tls::Off => Look::default(),
            Tls::Required => self.tls_files(directory).look(now),
        }
    }

    /// The names that the server answers to; none where it answers to any.
    #[must_use]
    pub fn names(&self) -> Vec<HostName> {
        let of_url = self.host_of_url().and_then(|host| host.parse().ok()).filter(|_| !self.hosts.is_empty());
        self.hosts.iter().cloned().chain(of_url).collect()
    }

    /// Returns true if clients reach it under an `https` address.
    pub(super) fn is_https_outside(&self) -> bool {
        self.public().is_some_and(|url| url.scheme_str() == Some("https"))
    }

    /// Returns true if browsers speak TLS, with this server or a proxy before it.
    pub(super) fn is_tls_outside(&self) -> bool {
        self.tls() == Tls::Required || self.is_https_outside()
    }

    fn host_of_url(&self) -> Option<String> {
        Some(self.public()?.host()?.trim_matches(['[', ']']).to_owned())
    }

    fn public(&self) -> Option<Uri> {
        self.url.as_ref()?.parse().ok()
    }

    /// Every fault, as the key below `[web]` and what is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut say = |key: &str, what: &str| faults.push((key.to_owned(), what.to_owned()));
        match (&self.certificate, &self.key) {
            (Some(_), None) => say("key", "is missing: a certificate needs its key"),
            (None, Some(_)) => say("certificate", "is missing: a key needs its certificate"),
            _ => {}
        }
        if self.tls() == Tls::Off && self.certificate.is_some() {
            say("certificate", "is of no use with tls = \"off\"");
        }
        if self.tls() == Tls::Off && self.client_ca.is_some() {
            say("client_ca", "is of no use without TLS: write tls = \"required\"");
        }
        if self.url.is_some() && !self.public().as_ref().is_some_and(is_public) {
            say("url", "is no address such as \"https://files.example.org\", without a path");
        }
        for (key, time) in [
            ("handshake", self.handshake),
            ("head_timeout", self.head_timeout),
            ("body_timeout", self.body_timeout),
            ("max_connection_age", self.max_connection_age),
            ("longest_per_gib", self.longest_per_gib),
        ] {
            if time < Duration::from_millis(100) {
                say(key, "must be at least 100ms");
            }
        }
        if self.session_idle < Duration::from_secs(60) {
            say("session_idle", "must be at least 1m");
        }
        if self.retry_after < Duration::from_secs(1) {
            say("retry_after", "must be at least 1s");
        }
        faults
    }
}

fn is_public(url: &Uri) -> bool {
    let is_http = matches!(url.scheme_str(), Some("http" | "https"));
    let is_bare = url.path() == "/" && url.query().is_none();
    is_http && is_bare && url.authority().is_some_and(|authority| !authority.as_str().contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_faults_are_told() {
        assert!(Options::default().validate().is_empty());
        let options: Options =
            toml::from_str("listen = \"127.0.0.1:8080\"\nmax_body_size = \"1 MiB\"\nretry_after = 0").unwrap();
        assert_eq!(options.max_body_bytes, 1 << 20);
        assert_eq!(options.validate(), [("retry_after".to_owned(), "must be at least 1s".to_owned())]);
        for bad in ["listen = \"8080\"", "port = 8080", "hosts = [\"http://a\"]", "tls = \"optional\""] {
            assert!(toml::from_str::<Options>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tls_is_required_where_there_is_a_certificate() {
        let options: Options = toml::from_str("certificate = \"c.pem\"").unwrap();
        assert_eq!((options.tls(), Options::default().tls()), (Tls::Required, Tls::Off));
        let keys = |text: &str| {
            let options: Options = toml::from_str(text).unwrap();
            options.validate().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(keys("certificate = \"c.pem\""), ["key"]);
        assert_eq!(keys("tls = \"off\"\ncertificate = \"c.pem\"\nkey = \"k.pem\""), ["certificate"]);
        assert_eq!(keys("client_ca = \"a.pem\""), ["client_ca"]);
        for url in ["files.example.org", "ftp://a", "https://a/b", "https://a?b", "https://u@a", "https://"] {
            assert_eq!(keys(&format!("url = {url:?}")), ["url"], "{url}");
        }
        assert!(keys("url = \"https://files.example.org:8443\"").is_empty());
    }

    #[test]
    fn the_name_of_the_url_is_ours_too() {
        let options: Options = toml::from_str("url = \"https://files.example.org\"\nhosts = [\"other\"]").unwrap();
        assert_eq!(options.names().iter().map(ToString::to_string).collect::<Vec<_>>(), ["other", "files.example.org"]);
        let any: Options = toml::from_str("url = \"https://files.example.org\"").unwrap();
        assert!(any.names().is_empty(), "any name is accepted");
    }
}
