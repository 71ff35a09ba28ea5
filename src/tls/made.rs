//! A pair that is made here and signed by itself, for those who have none.

use std::{fs, os::unix::fs::DirBuilderExt, path::Path};

use chrono::{DateTime, Datelike, Utc};
use rcgen::{CertificateParams, DnType, KeyPair};

use super::{files::TlsFiles, load::TlsError};
use crate::durable_file;

/// The years that such a certificate is good for.
const YEARS: i32 = 5;

/// Makes certificate and key where the files are to lie.
pub(super) fn make(files: &TlsFiles, now: DateTime<Utc>) -> Result<(), TlsError> {
    let mut params = CertificateParams::new(files.made_for.clone().unwrap_or_default())?;
    params.distinguished_name.push(DnType::CommonName, "Forebay");
    // The first of a month exists in every month.
    params.not_before = rcgen::date_time_ymd(now.year() - 1, now.month() as u8, 1);
    params.not_after = rcgen::date_time_ymd(now.year() + YEARS, now.month() as u8, 1);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let directory = files.certificate.parent().unwrap_or(Path::new("."));
    let failed = |source| TlsError::File { path: directory.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    // The key first: a certificate without its key is made again at the next start.
    write(&files.key, key.serialize_pem().as_bytes())?;
    write(&files.certificate, certificate.pem().as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), TlsError> {
    durable_file::replace(path, bytes).map_err(|error| TlsError::File { path: error.path, source: error.source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::load::load;
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let files = TlsFiles::made_in(&directory.path().join("tls"), ["ftp.example.org".to_owned()]);
        let now = DateTime::from_timestamp(1_777_075_200, 0).unwrap();
        let (_, made) = load(&files, now).unwrap();
        assert!(made.made_here && made.not_after > now);
        let key = fs::read(&files.key).unwrap();
        assert_eq!(fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load(&files, now).unwrap().1, made);
        assert_eq!(fs::read(&files.key).unwrap(), key);
    }
}
