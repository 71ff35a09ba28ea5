//! A look at the certificate before a start, with nothing made and nothing changed.
//!
//! For `forebay check`. It loads the files by the very functions of the start, and then looks
//! further at what a start takes without a word: when certificates end, and whether a chain is one.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    files::TlsFiles,
    load::{chain_of, load_files},
};

/// The time before its end in which a certificate is a warning.
const SOON: TimeDelta = TimeDelta::days(30);

/// The result of a look at the files, each finding with the key of the configuration that it belongs to.
#[derive(Debug, Default)]
pub struct Look {
    /// What keeps the listener from opening, or clients from coming in.
    pub faults: Vec<(String, String)>,
    /// What will do so, or does so for some.
    pub warnings: Vec<(String, String)>,
}

impl TlsFiles {
    /// Opens what a listener opens at its start: certificate, chain, key and authorities. Keys are `certificate`, `key` and
    /// `client_ca`.
    #[must_use]
    pub fn look(&self, now: DateTime<Utc>) -> Look {
        let mut look = Look::default();
        // What is not there yet is made at the start.
        if self.are_to_be_made() {
            return look;
        }
        if let Err(error) = load_files(self) {
            let key = match error.path() {
                Some(path) if path == self.key => "key",
                Some(path) if Some(path) == self.client_ca.as_deref() => "client_ca",
                _ => "certificate",
            };
            look.fault(key, error.to_string());
        }
        if let Ok(chain) = chain_of(&self.certificate) {
            look.times("certificate", &self.certificate, &chain, now);
            look.chain(&self.certificate, &chain);
        }
        if let Some((path, all)) = self.client_ca.as_deref().and_then(|path| Some((path, chain_of(path).ok()?))) {
            look.times("client_ca", path, &all, now);
        }
        look
    }
}

impl Look {
    fn fault(&mut self, key: &str, what: String) {
        self.faults.push((key.to_owned(), what));
    }

    fn warn(&mut self, key: &str, what: String) {
        self.warnings.push((key.to_owned(), what));
    }

    /// Certificates that do not hold now, or soon no more.
    fn times(&mut self, key: &str, path: &Path, all: &[CertificateDer<'_>], now: DateTime<Utc>) {
        for (at, certificate) in all.iter().enumerate() {
            let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { continue };
            let time = |seconds| DateTime::from_timestamp(seconds, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
            let validity = parsed.validity();
            let (begins, ends) = (time(validity.not_before.timestamp()), time(validity.not_after.timestamp()));
            let which = format!("certificate {} of {}", at + 1, path.display());
            // Faults only where clients refuse it now; the rest is a warning.
            if ends <= now {
                self.fault(key, format!("{which} ended on {}: renew it", ends.format("%Y-%m-%d")));
            } else if begins > now {
                self.fault(key, format!("{which} holds from {} on", begins.format("%Y-%m-%d %H:%M UTC")));
            } else if ends <= now + SOON {
                self.warn(key, format!("{which} ends on {}: renew it before", ends.format("%Y-%m-%d")));
            }
        }
    }

    /// A chain in which one has not signed the one before it.
    fn chain(&mut self, path: &Path, chain: &[CertificateDer<'_>]) {
        let parsed: Vec<_> = chain.iter().filter_map(|one| Some(X509Certificate::from_der(one).ok()?.1)).collect();
        for (at, pair) in parsed.windows(2).enumerate() {
            let signed =
                pair[0].issuer() == pair[1].subject() && pair[0].verify_signature(Some(pair[1].public_key())).is_ok();
            if !signed {
                let (path, one, next) = (path.display(), at + 1, at + 2);
                let what = format!("{path} is no chain: certificate {next} has not signed certificate {one}");
                return self.fault("certificate", format!("{what}; the server's own comes first, then who signed it"));
            }
        }
        // A single certificate that somebody else has signed: browsers may fetch the issuer, FTP
        // clients do not.
        let Some(last) = parsed.last().filter(|last| parsed.len() == 1 && last.issuer() != last.subject()) else {
            return;
        };
        let what = format!("{} has no certificate of its issuer ({})", path.display(), last.issuer());
        self.warn(
            "certificate",
            format!("{what}: clients that do not have it refuse it; add it behind the server's own"),
        );
    }
}
