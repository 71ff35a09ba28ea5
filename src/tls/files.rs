//! The files of a listener's TLS.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// The files of certificate, key and authorities, and for whom a pair is made where none is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain in PEM, the server's own first.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
    /// Authorities in PEM whose certificates clients may show.
    pub client_ca: Option<PathBuf>,
    /// The names of a pair that is made at the first start; none when the pair is configured.
    pub(super) made_for: Option<Vec<String>>,
}

/// The times and lengths of files, by which a change is seen. None while one of them is missing.
pub(super) type Stamp = Option<Vec<(SystemTime, u64)>>;

impl TlsFiles {
    /// The pair that is configured.
    #[must_use]
    pub fn configured(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key, client_ca: None, made_for: None }
    }

    /// A pair in this directory, which is made there when it is missing, for these names and addresses and this machine.
    #[must_use]
    pub fn made_in(directory: &Path, names: impl IntoIterator<Item = String>) -> Self {
        let own = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let names = own.into_iter().chain(names).collect();
        let (certificate, key) = (directory.join(CERTIFICATE), directory.join(KEY));
        Self { certificate, key, client_ca: None, made_for: Some(names) }
    }

    /// The same with these authorities for clients.
    #[must_use]
    pub fn asking_clients(self, client_ca: Option<PathBuf>) -> Self {
        Self { client_ca, ..self }
    }

    /// Returns true if the pair was not configured, but made here or yet to be made.
    #[must_use]
    pub fn are_made_here(&self) -> bool {
        self.made_for.is_some()
    }

    /// Returns true if the next start makes them.
    #[must_use]
    pub fn are_to_be_made(&self) -> bool {
        self.are_made_here() && !(self.certificate.exists() && self.key.exists())
    }

    /// The state of the files now.
    pub(super) fn stamp(&self) -> Stamp {
        let of = |path: &Path| {
            let there = fs::metadata(path).ok()?;
            Some((there.modified().ok()?, there.len()))
        };
        [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()]
            .into_iter()
            .flatten()
            .map(|p| of(p))
            .collect()
    }
}
