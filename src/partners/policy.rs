//! Policies: the default of all partners, and the overrides of single ones.

use std::{collections::HashMap, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Bound, ClientCertificate, Network, PartnerName, TemporaryNames};
use crate::units;

/// When an upload over plain FTP counts as complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Complete {
    /// Like `eof`, but claimable only once the reply was acknowledged and the client's next command, QUIT or clean FIN, or
    /// `confirm_after` with the connection up, has followed.
    #[default]
    // Needs `[ingest] confirm_after` and, after a clean end of the connection, two round trips
    // more: see `doors/ftp/confirmation.rs`.
    Confirmed,
    /// At the end of the data, with the control connection still established: claimable at once.
    Eof,
    /// Only with an `ALLO` size before it that matches.
    Allo,
    /// Only by renaming a temporary name to its final name.
    Rename,
}

/// The treatment of an FTPS upload that ends without TLS `close_notify` on the data connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CloseNotify {
    /// Judged by the other evidence alone; real clients leave it out.
    #[default]
    Accept,
    /// Accepted and held for an operator.
    Hold,
    /// Refused.
    Refuse,
}

/// The credentials by which a partner logs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Authentication {
    /// By its password, or by one of its keys.
    #[default]
    #[serde(rename = "any")]
    Any,
    /// By one of its keys. A certificate that is bound to the partner counts as one; a door that gets neither is shut.
    #[serde(rename = "key")]
    Key,
    /// By one of its keys and its password. A certificate that is bound to the partner counts as one; a door that gets
    /// neither is shut.
    #[serde(rename = "key+password")]
    KeyAndPassword,
}

/// The effect of deleting an accepted file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delete {
    /// It leaves the partner's view and nothing else: mirroring clients delete.
    #[default]
    ViewOnly,
    /// It is also cancelled, when it is not yet claimed.
    Cancel,
}

/// Whether TLS data connections must resume the TLS session of their control connection: who resumes it is who has
/// logged in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataResumption {
    /// Those of a partner whose clients have always done so must go on so.
    Auto,
    /// All must; some clients cannot.
    Required,
    /// None must.
    #[default]
    Off,
}

/// Slower than this nothing would be seen to move.
const LEAST_RATE: u64 = 1 << 10;

/// The policy of a partner. The section `[policy]` in the configuration is the default of all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// When an upload over plain FTP counts as complete.
    pub complete: Complete,
    /// The treatment of a missing `close_notify`.
    pub close_notify: CloseNotify,
    /// The effect of deleting an accepted file.
    pub delete: Delete,
    /// False if no bytes are ever sent to the partner but the notice: a password that was stolen then shows names alone.
    pub download: bool,
    /// The credentials that logins need.
    pub authentication: Authentication,
    /// Most bytes of unprocessed files and partials; none: no limit but the disk.
    #[serde(rename = "quota", with = "units::size::option", skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<u64>,
    /// Most bytes of one file; none: no limit but quota and disk.
    #[serde(rename = "max_file_size", with = "units::size::option", skip_serializing_if = "Option::is_none")]
    pub max_file_bytes: Option<u64>,
    /// Most sessions at once; none: `limits.max_sessions_per_partner`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sessions: Option<u32>,
    /// Bytes a second of all sessions together, in both directions; none: no limit.
    #[serde(rename = "bandwidth", with = "units::rate::option", skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// Networks that logins may come from; empty: any.
    pub allow_from: Vec<Network>,
    /// True if a password is accepted only together with a TLS certificate that is bound to the partner.
    pub require_certificate: bool,
    /// True if such a certificate is enough, and no password is asked for.
    pub certificate_suffices: bool,
    /// Certificates that are bound to the partner; the default of all has none.
    #[serde(skip)]
    pub certificates: Vec<Bound>,
    /// Most names, folders included, that the partner sees at once.
    pub max_names: u64,
    /// The directory in which other programs put files for the partner; the default of all has none.
    #[serde(skip)]
    pub outbox: Option<PathBuf>,
    /// Lets the partner delete what it finds in its outbox.
    pub outbox_delete: bool,
    /// Shows `out/` in listings of the login directory. It is there either way.
    pub list_out: bool,
    /// Whether TLS data connections must resume the session of their control connection; none: as `[ftp]` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_resumption: Option<DataResumption>,
    /// Names of files that are not finished yet.
    pub temporary_names: TemporaryNames,
    /// The time for which an interrupted upload is kept for resume.
    #[serde(with = "units::duration")]
    pub partial_keep: Duration,
    /// The time for which a finished upload may keep its temporary name before it is held.
    #[serde(with = "units::duration")]
    pub unfinished_hold_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            complete: Complete::default(),
            close_notify: CloseNotify::default(),
            delete: Delete::default(),
            download: true,
            authentication: Authentication::default(),
            quota_bytes: None,
            max_file_bytes: None,
            max_sessions: None,
            bytes_per_second: None,
            allow_from: Vec::new(),
            require_certificate: false,
            certificate_suffices: false,
            certificates: Vec::new(),
            max_names: 250_000,
            outbox: None,
            outbox_delete: false,
            list_out: false,
            data_resumption: None,
            temporary_names: TemporaryNames::default(),
            partial_keep: DAY,
            unfinished_hold_after: DAY,
        }
    }
}

impl Policy {
    /// Returns true if a login may come from `address`.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        self.allow_from.is_empty() || self.allow_from.iter().any(|network| network.contains(address))
    }

    /// Returns true if `certificate` is bound to the partner.
    #[must_use]
    pub fn binds(&self, certificate: &ClientCertificate) -> bool {
        self.certificates.iter().any(|bound| bound.is(certificate))
    }

    /// Returns true if `path` is a temporary name.
    #[must_use]
    pub fn is_temporary(&self, path: &str) -> bool {
        self.temporary_names.matches(path)
    }

    /// Every fault, each with its key under `before` (`policy`, or a `partner`'s).
    #[must_use]
    pub fn validate(&self, before: &str) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut say = |key: &str, what: &str| faults.push((format!("{before}.{key}"), what.to_owned()));
        if self.quota_bytes == Some(0) {
            say("quota", "must be more than 0; leave it out for no limit, or disable the account to take nothing");
        }
        if self.max_file_bytes == Some(0) {
            say("max_file_size", "must be more than 0; leave it out for no limit");
        }
        if let (Some(quota), Some(file)) = (self.quota_bytes, self.max_file_bytes)
            && file > quota
        {
            say("max_file_size", "is more than the quota, so that it can never be reached");
        }
        if self.max_names == 0 {
            say("max_names", "must be at least 1");
        }
        if self.outbox.as_ref().is_some_and(|outbox| !outbox.is_absolute()) {
            say("outbox", "must be an absolute path");
        }
        if self.max_sessions == Some(0) {
            say("max_sessions", "must be at least 1; disable the account to let no one in");
        }
        if self.bytes_per_second.is_some_and(|rate| rate < LEAST_RATE) {
            say("bandwidth", "must be at least 1 KiB/s; leave it out for no limit");
        }
        if self.complete == Complete::Rename && self.temporary_names.patterns().is_empty() {
            say("temporary_names", "must name at least one pattern when complete is \"rename\"");
        }
        if self.unfinished_hold_after.is_zero() {
            say("unfinished_hold_after", "must be more than 0");
        }
        faults
    }
}

/// One `[[partner]]` of the configuration: a name, and what it has otherwise than the default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each field is that of Policy")]
pub struct Override {
    pub name: PartnerName,
    #[serde(default)]
    pub complete: Option<Complete>,
    #[serde(default)]
    pub close_notify: Option<CloseNotify>,
    #[serde(default)]
    pub delete: Option<Delete>,
    #[serde(default)]
    pub download: Option<bool>,
    #[serde(default)]
    pub authentication: Option<Authentication>,
    #[serde(default, rename = "quota", with = "units::size::option")]
    pub quota_bytes: Option<u64>,
    #[serde(default, rename = "max_file_size", with = "units::size::option")]
    pub max_file_bytes: Option<u64>,
    #[serde(default)]
    pub max_sessions: Option<u32>,
    #[serde(default, rename = "bandwidth", with = "units::rate::option")]
    pub bytes_per_second: Option<u64>,
    #[serde(default)]
    pub allow_from: Option<Vec<Network>>,
    #[serde(default)]
    pub require_certificate: Option<bool>,
    #[serde(default)]
    pub certificate_suffices: Option<bool>,
    #[serde(default)]
    pub certificates: Vec<Bound>,
    #[serde(default)]
    pub max_names: Option<u64>,
    #[serde(default)]
    pub outbox: Option<PathBuf>,
    #[serde(default)]
    pub outbox_delete: Option<bool>,
    #[serde(default)]
    pub list_out: Option<bool>,
    #[serde(default)]
    pub data_resumption: Option<DataResumption>,
    #[serde(default)]
    pub temporary_names: Option<TemporaryNames>,
    #[serde(default, with = "units::duration::option")]
    pub partial_keep: Option<Duration>,
    #[serde(default, with = "units::duration::option")]
    pub unfinished_hold_after: Option<Duration>,
}

impl Override {
    fn over(&self, base: &Policy) -> Policy {
        Policy {
            complete: self.complete.unwrap_or(base.complete),
            close_notify: self.close_notify.unwrap_or(base.close_notify),
            delete: self.delete.unwrap_or(base.delete),
            download: self.download.unwrap_or(base.download),
            authentication: self.authentication.unwrap_or(base.authentication),
            quota_bytes: self.quota_bytes.or(base.quota_bytes),
            max_file_bytes: self.max_file_bytes.or(base.max_file_bytes),
            max_sessions: self.max_sessions.or(base.max_sessions),
            bytes_per_second: self.bytes_per_second.or(base.bytes_per_second),
            allow_from: self.allow_from.clone().unwrap_or_else(|| base.allow_from.clone()),
            require_certificate: self.require_certificate.unwrap_or(base.require_certificate),
            certificate_suffices: self.certificate_suffices.unwrap_or(base.certificate_suffices),
            certificates: self.certificates.clone(),
            max_names: self.max_names.unwrap_or(base.max_names),
            outbox: self.outbox.clone(),
            outbox_delete: self.outbox_delete.unwrap_or(base.outbox_delete),
            list_out: self.list_out.unwrap_or(base.list_out),
            data_resumption: self.data_resumption.or(base.data_resumption),
            temporary_names: self.temporary_names.clone().unwrap_or_else(|| base.temporary_names.clone()),
            partial_keep: self.partial_keep.unwrap_or(base.partial_keep),
            unfinished_hold_after: self.unfinished_hold_after.unwrap_or(base.unfinished_hold_after),
        }
    }
}

/// The policy of every partner.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    base: Arc<Policy>,
    single: HashMap<PartnerName, Arc<Policy>>,
}

impl Policies {
    /// Resolves `[policy]` and each `[[partner]]`. Of two for one partner the first holds; [`Policies::validate`]
    /// reports it.
    #[must_use]
    pub fn new(base: Policy, overrides: &[Override]) -> Self {
        let mut single = HashMap::new();
        for one in overrides {
            single.entry(one.name.clone()).or_insert_with(|| Arc::new(one.over(&base)));
        }
        Self { base: Arc::new(base), single }
    }

    /// Every fault of `[policy]` and the `[[partner]]`s, each with its key.
    #[must_use]
    pub fn validate(base: &Policy, overrides: &[Override]) -> Vec<(String, String)> {
        let mut faults = base.validate("policy");
        let mut seen = HashMap::new();
        for (at, one) in overrides.iter().enumerate() {
            let before = format!("partner[{at}]");
            if let Some(first) = seen.insert(one.name.clone(), at) {
                let what = format!("{:?} stands at partner[{first}] already (letter case does not count)", one.name);
                faults.push((format!("{before}.name"), what));
            }
            let asked =
                [("require_certificate", one.require_certificate), ("certificate_suffices", one.certificate_suffices)];
            for (key, _) in asked.into_iter().filter(|(_, asked)| *asked == Some(true) && one.certificates.is_empty()) {
                faults.push((format!("{before}.{key}"), "needs certificates that are bound to the partner".to_owned()));
            }
            // Faults of the default are reported once, at the default.
            let inherited = base.validate(&before);
            faults.extend(one.over(base).validate(&before).into_iter().filter(|fault| !inherited.contains(fault)));
        }
        faults
    }

    /// The policy of `partner`.
    #[must_use]
    pub fn of(&self, partner: &str) -> Arc<Policy> {
        let single = partner.parse::<PartnerName>().ok().and_then(|name| self.single.get(&name));
        Arc::clone(single.unwrap_or(&self.base))
    }

    /// Returns true if `certificate` is bound to any partner.
    #[must_use]
    pub fn is_bound(&self, certificate: &ClientCertificate) -> bool {
        self.single.values().any(|policy| policy.binds(certificate))
    }

    /// The partner that `certificate` is bound to; none when there is none, or more than one.
    #[must_use]
    pub fn bound_to(&self, certificate: &ClientCertificate) -> Option<&PartnerName> {
        let mut bound = self.single.iter().filter(|(_, policy)| policy.binds(certificate)).map(|(name, _)| name);
        bound.next().filter(|_| bound.next().is_none())
    }

    /// The longest that any partner's interrupted uploads are kept.
    #[must_use]
    pub fn longest_partial_keep(&self) -> Duration {
        self.single.values().map(|policy| policy.partial_keep).fold(self.base.partial_keep, Duration::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        policy: Policy,
        #[serde(default)]
        partner: Vec<Override>,
    }

    #[test]
    fn a_partner_has_the_default_but_for_what_it_overrides() {
        let file: File = toml::from_str(
            r#"
            [policy]
            complete = "confirmed"
            quota = "10 GiB"
            allow_from = ["10.0.0.0/8"]
            [[partner]]
            name = "Clinic"
            delete = "cancel"
            max_sessions = 128
            bandwidth = "10MB/s"
            temporary_names = ["*.upload"]
            "#,
        )
        .unwrap();
        assert!(Policies::validate(&file.policy, &file.partner).is_empty());
        let policies = Policies::new(file.policy, &file.partner);
        let clinic = policies.of("cLINIC");
        assert_eq!((clinic.complete, clinic.delete), (Complete::Confirmed, Delete::Cancel));
        assert_eq!((clinic.quota_bytes, clinic.max_sessions), (Some(10 << 30), Some(128)));
        assert_eq!((clinic.bytes_per_second, policies.of("x").bytes_per_second), (Some(10_000_000), None));
        assert!(clinic.is_temporary("a.upload") && !clinic.is_temporary("a.tmp"));
        assert!(clinic.allows("10.1.1.1".parse().unwrap()));
        let other = policies.of("other");
        assert_eq!((other.delete, other.max_sessions), (Delete::ViewOnly, None));
        assert!(other.is_temporary("a.tmp") && !other.allows("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn every_fault_is_told_with_its_key() {
        let file: File = toml::from_str(
            r#"
            [policy]
            quota = "1 MiB"
            unfinished_hold_after = 0
            [[partner]]
            name = "a"
            max_file_size = "2 MiB"
            max_sessions = 0
            bandwidth = "1000 B/s"
            [[partner]]
            name = "A"
            complete = "rename"
            temporary_names = []
            require_certificate = true
            "#,
        )
        .unwrap();
        let keys: Vec<_> = Policies::validate(&file.policy, &file.partner).into_iter().map(|fault| fault.0).collect();
        let expected = [
            "policy.unfinished_hold_after",
            "partner[0].max_file_size",
            "partner[0].max_sessions",
            "partner[0].bandwidth",
            "partner[1].name",
            "partner[1].require_certificate",
            "partner[1].temporary_names",
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn unknown_keys_and_words_are_refused() {
        for text in [
            "[policy]\nquotas = 1",
            "[policy]\ncomplete = \"maybe\"",
            "[policy]\nbandwidth = \"10 MB\"",
            "[policy]\nduplicate_window = \"1d\"",
            "[[partner]]\nname = \"x\"\nduplicate_window = \"1d\"",
            "[policy]\nallow_from = [\"10.1.2.3/8\"]",
            "[[partner]]\nname = \"x\"\ncertificates = [\"x\"]",
            "[[partner]]\nname = \"../x\"",
            "[[partner]]\nname = \"x\"\nport = 1",
        ] {
            assert!(toml::from_str::<File>(text).is_err(), "{text}");
        }
    }
}
