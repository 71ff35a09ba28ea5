//! The door's certificate: the one that is configured, or one that is made and signed by itself at the first start.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use chrono::{DateTime, Datelike, Utc};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ServerSessionMemoryCache, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use serde::Serialize;

use super::Options;
use crate::durable_file;

const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";
/// How many years a certificate that was made here is good for.
const YEARS: i32 = 5;

/// What operators want to know of it.
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

/// TLS as it is spoken on the two kinds of connections.
#[derive(Clone, Debug)]
pub(super) struct TlsSetup {
    pub(super) control: Arc<ServerConfig>,
    /// Each connection has it of its own: see [`ConnectionTls`](super::resumption::ConnectionTls).
    pub(super) data: Arc<ServerConfig>,
}

/// Whether the files are those that were loaded: their times and lengths.
pub(super) type Stamp = Option<Vec<(SystemTime, u64)>>;

/// What the files of certificate, key and authorities are now.
pub(super) fn stamp(options: &Options, directory: &Path) -> Stamp {
    let of = |path: &Path| {
        let there = fs::metadata(path).ok()?;
        Some((there.modified().ok()?, there.len()))
    };
    let Files { certificate, key, .. } = Files::of(options, directory);
    [Some(&certificate), Some(&key), options.client_ca.as_ref()].into_iter().flatten().map(|path| of(path)).collect()
}

/// The files of certificate and key, and whether Forebay makes them.
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    made_here: bool,
}

impl Files {
    pub(super) fn of(options: &Options, directory: &Path) -> Self {
        match (&options.certificate, &options.key) {
            (Some(certificate), Some(key)) => {
                Self { certificate: certificate.clone(), key: key.clone(), made_here: false }
            }
            _ => Self { certificate: directory.join(CERTIFICATE), key: directory.join(KEY), made_here: true },
        }
    }

    /// Returns true if the next start makes them.
    pub(super) fn are_to_be_made(&self) -> bool {
        self.made_here && !(self.certificate.exists() && self.key.exists())
    }
}

/// Loads what is configured, or what was made in `directory`, which is made when it is missing.
pub(super) fn load(
    options: &Options,
    directory: &Path,
    now: DateTime<Utc>,
) -> Result<(TlsSetup, CertificateInfo), TlsError> {
    let files = Files::of(options, directory);
    if files.are_to_be_made() {
        make(options, directory, now)?;
    }
    load_files(options, &files)
}

/// Loads files that are there.
pub(super) fn load_files(options: &Options, files: &Files) -> Result<(TlsSetup, CertificateInfo), TlsError> {
    let Files { certificate, key, made_here } = files;
    let chain = chain_of(certificate)?;
    let first = chain.first().ok_or_else(|| content(certificate, "holds no certificate"))?;
    let info =
        CertificateInfo { not_after: end_of(first, certificate)?, path: certificate.clone(), made_here: *made_here };
    let private = key_of(key)?;
    let verifier = match &options.client_ca {
        Some(path) => clients_of(path)?,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let setup = configured(chain, private, verifier).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            content(key, format!("is the key of another certificate than {}", certificate.display()))
        }
        other => content(certificate, other.to_string()),
    })?;
    Ok((setup, info))
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
) -> Result<TlsSetup, rustls::Error> {
    let mut control = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12, &rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    control.session_storage = ServerSessionMemoryCache::new(4096);
    control.ticketer = ring::Ticketer::new()?;
    let mut data = control.clone();
    // One for the next data connection. When it goes out, and to whom: `quiet`, `resumption`.
    data.send_tls13_tickets = 1;
    control.alpn_protocols = ["ftp", "x-filezilla-ftp"].map(|name| name.as_bytes().to_vec()).to_vec();
    data.alpn_protocols = ["ftp-data", "ftp", "x-filezilla-ftp"].map(|name| name.as_bytes().to_vec()).to_vec();
    Ok(TlsSetup { control: Arc::new(control), data: Arc::new(data) })
}

fn end_of(certificate: &CertificateDer<'_>, path: &Path) -> Result<DateTime<Utc>, TlsError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| content(path, format!("cannot be parsed: {error}")))?;
    DateTime::from_timestamp(parsed.validity().not_after.timestamp(), 0)
        .ok_or_else(|| content(path, "ends beyond all time"))
}

fn make(options: &Options, directory: &Path, now: DateTime<Utc>) -> Result<(), TlsError> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(options.advertise.clone());
    if !options.listen.ip().is_unspecified() && !options.listen.ip().is_loopback() {
        names.push(options.listen.ip().to_string());
    }
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "Forebay");
    // The first of a month exists in every month.
    params.not_before = rcgen::date_time_ymd(now.year() - 1, now.month() as u8, 1);
    params.not_after = rcgen::date_time_ymd(now.year() + YEARS, now.month() as u8, 1);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let failed = |source| TlsError::File { path: directory.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    // The key first: a certificate without its key is made again at the next start.
    write(&directory.join(KEY), key.serialize_pem().as_bytes())?;
    write(&directory.join(CERTIFICATE), certificate.pem().as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), TlsError> {
    durable_file::replace(path, bytes).map_err(|error| TlsError::File { path: error.path, source: error.source })
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
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let tls = directory.path().join("tls");
        let now = DateTime::from_timestamp(1_777_075_200, 0).unwrap();
        let (_, made) = load(&Options::default(), &tls, now).unwrap();
        assert!(made.made_here && made.not_after > now);
        let key = fs::read(tls.join(KEY)).unwrap();
        assert_eq!(fs::metadata(tls.join(KEY)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load(&Options::default(), &tls, now).unwrap().1, made);
        assert_eq!(fs::read(tls.join(KEY)).unwrap(), key);
    }

    #[test]
    fn what_is_no_certificate_is_told_with_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.pem");
        fs::write(&path, "nothing").unwrap();
        let options = Options { certificate: Some(path.clone()), key: Some(path), ..Options::default() };
        let error = load(&options, directory.path(), DateTime::UNIX_EPOCH).unwrap_err().to_string();
        assert!(error.contains("c.pem") && error.contains("certificate"), "{error}");
    }
}
