//! Loading: from files to a configuration of rustls.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ServerSessionMemoryCache, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use serde::Serialize;

use super::{files::TlsFiles, made};

/// TLS sessions that are remembered for clients without tickets.
const SESSIONS: usize = 4096;

/// The facts of a certificate that operators want to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateInfo {
    /// Where it is.
    pub path: PathBuf,
    /// When it ends.
    pub not_after: DateTime<Utc>,
    /// Whether Forebay made it.
    pub made_here: bool,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

impl TlsError {
    /// The file that is meant, if it is one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. } | Self::Content { path, .. } => Some(path),
            Self::Make(_) => None,
        }
    }
}

/// Loads what is configured, or what was made, which is made when it is missing.
pub(super) fn load(files: &TlsFiles, now: DateTime<Utc>) -> Result<(ServerConfig, CertificateInfo), TlsError> {
    if files.are_to_be_made() {
        made::make(files, now)?;
    }
    load_files(files)
}

/// Loads files that are there.
pub(super) fn load_files(files: &TlsFiles) -> Result<(ServerConfig, CertificateInfo), TlsError> {
    let (certificate, key) = (&files.certificate, &files.key);
    let chain = chain_of(certificate)?;
    let first = chain.first().ok_or_else(|| content(certificate, "holds no certificate"))?;
    let made_here = files.are_made_here();
    let info = CertificateInfo { not_after: end_of(first, certificate)?, path: certificate.clone(), made_here };
    let private = key_of(key)?;
    let verifier = match &files.client_ca {
        Some(path) => clients_of(path)?,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let config = configured(chain, private, verifier).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            content(key, format!("is the key of another certificate than {}", certificate.display()))
        }
        other => content(certificate, other.to_string()),
    })?;
    Ok((config, info))
}

/// The certificates of a file, in its order.
pub(super) fn chain_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>();
    all.map_err(|error| content(path, format!("is no certificate in PEM: {error}")))
}

fn key_of(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path)?;
    let holds = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    if holds("BEGIN ENCRYPTED PRIVATE KEY") || holds("Proc-Type: 4,ENCRYPTED") {
        let what =
            "is encrypted, and nobody is there to give its passphrase: `openssl pkey -in FILE -out NEW` takes it off";
        return Err(content(path, what));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| content(path, format!("is no private key in PEM: {error}")))
}

/// Asks clients for a certificate of these authorities; who has none comes in without.
fn clients_of(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut authorities = RootCertStore::empty();
    for one in CertificateDer::pem_slice_iter(&read(path)?) {
        let one = one.map_err(|error| content(path, format!("is no certificate in PEM: {error}")))?;
        authorities.add(one).map_err(|error| content(path, error.to_string()))?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider).allow_unauthenticated().build();
    verifier.map_err(|error| content(path, error.to_string()))
}

fn configured(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12, &rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}

fn end_of(certificate: &CertificateDer<'_>, path: &Path) -> Result<DateTime<Utc>, TlsError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| content(path, format!("cannot be parsed: {error}")))?;
    DateTime::from_timestamp(parsed.validity().not_after.timestamp(), 0)
        .ok_or_else(|| content(path, "ends beyond all time"))
}

/// What a file holds, without the byte order mark that editors on Windows put in front of it.
fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })?;
    if bytes.starts_with("\u{feff}".as_bytes()) {
        bytes.drain(..3);
    }
    Ok(bytes)
}

fn content(path: &Path, what: impl Into<String>) -> TlsError {
    TlsError::Content { path: path.to_owned(), what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_told_with_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.pem");
        fs::write(&path, "nothing").unwrap();
        let files = TlsFiles::configured(path.clone(), path);
        let error = load(&files, DateTime::UNIX_EPOCH).unwrap_err().to_string();
        assert!(error.contains("c.pem") && error.contains("certificate"), "{error}");
    }
}
