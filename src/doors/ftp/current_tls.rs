//! The door's TLS as it is now: loaded again when the files of its certificate change.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, RwLock};
use tracing::{info, warn};

use super::{
    CertificateInfo, Options, Tls, TlsError,
    certificate::{self, Stamp, TlsSetup},
};

/// TLS for new connections, and the files that it was loaded from.
#[derive(Debug)]
pub(super) struct CurrentTls {
    /// None when TLS is off.
    setup: RwLock<Option<TlsSetup>>,
    stamp: Mutex<Stamp>,
    directory: PathBuf,
    first: Option<CertificateInfo>,
}

impl CurrentTls {
    /// Loads the certificate that is configured, or makes or loads one in `directory`.
    ///
    /// # Errors
    /// When the certificate cannot be used.
    pub(super) fn load(options: &Options, directory: &Path, now: DateTime<Utc>) -> Result<Self, TlsError> {
        let (setup, first) = match options.tls() {
            Tls::Off => (None, None),
            Tls::Optional | Tls::Required => {
                let (setup, info) = certificate::load(options, directory, now)?;
                (Some(setup), Some(info))
            }
        };
        let stamp = Mutex::new(certificate::stamp(options, directory));
        Ok(Self { setup: RwLock::new(setup), stamp, directory: directory.to_owned(), first })
    }

    /// The setup for the next connection; none when TLS is off.
    pub(super) fn get(&self) -> Option<TlsSetup> {
        self.setup.read().clone()
    }

    /// Returns whether clients can use TLS. It does not change while the door is open.
    pub(super) fn is_on(&self) -> bool {
        self.setup.read().is_some()
    }

    /// The certificate of the start.
    pub(super) fn certificate(&self) -> Option<&CertificateInfo> {
        self.first.as_ref()
    }

    /// Loads the certificate again when its files are others than before. One that cannot be used changes nothing.
    pub(super) fn reload(&self, options: &Options, now: DateTime<Utc>) {
        let there = certificate::stamp(options, &self.directory);
        if !self.is_on() || there.is_none() || *self.stamp.lock() == there {
            return;
        }
        // Only a round ago they were others: a pair that is not whole yet is looked at again when it changes.
        *self.stamp.lock() = there;
        match certificate::load(options, &self.directory, now) {
            Ok((setup, info)) => {
                info!(not_after = %info.not_after, "FTP door has another certificate");
                *self.setup.write() = Some(setup);
            }
            Err(error) => warn!(%error, "the changed certificate cannot be used; the one before stays"),
        }
    }
}
