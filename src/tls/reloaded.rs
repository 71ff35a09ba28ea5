//! TLS as it is now: loaded again when its files change.

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use tracing::{info, warn};

use super::{
    files::{Stamp, TlsFiles},
    load::{CertificateInfo, TlsError, load},
};

/// TLS for new connections, in the form `S` that a listener makes of it, and the files that it was loaded from.
pub struct Reloaded<S> {
    /// The listener's name in log lines.
    listener: &'static str,
    files: TlsFiles,
    form: fn(ServerConfig) -> S,
    setup: RwLock<S>,
    stamp: Mutex<Stamp>,
    first: CertificateInfo,
}

impl<S: Clone> Reloaded<S> {
    /// Loads the files, and makes them where that is wanted.
    ///
    /// # Errors
    /// When the certificate cannot be used.
    pub fn load(
        listener: &'static str,
        files: TlsFiles,
        form: fn(ServerConfig) -> S,
        now: DateTime<Utc>,
    ) -> Result<Self, TlsError> {
        let (config, first) = load(&files, now)?;
        let stamp = Mutex::new(files.stamp());
        Ok(Self { listener, form, setup: RwLock::new(form(config)), stamp, first, files })
    }

    /// The setup for the next connection.
    #[must_use]
    pub fn get(&self) -> S {
        self.setup.read().clone()
    }

    /// The certificate of the start.
    #[must_use]
    pub fn certificate(&self) -> &CertificateInfo {
        &self.first
    }

    /// Loads the certificate again when its files are others than before. One that cannot be used changes nothing.
    pub fn reload(&self, now: DateTime<Utc>) {
        let there = self.files.stamp();
        if there.is_none() || *self.stamp.lock() == there {
            return;
        }
        // Only a round ago they were others: a pair that is not whole yet is looked at again when it changes.
        *self.stamp.lock() = there;
        match load(&self.files, now) {
            Ok((config, certificate)) => {
                info!(listener = self.listener, not_after = %certificate.not_after, "there is another certificate");
                *self.setup.write() = (self.form)(config);
            }
            Err(error) => {
                warn!(listener = self.listener, %error, "the changed certificate cannot be used; the one before stays");
            }
        }
    }
}

impl<S> std::fmt::Debug for Reloaded<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloaded").field("listener", &self.listener).field("files", &self.files).finish_non_exhaustive()
    }
}
