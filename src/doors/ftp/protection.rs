//! What a client has protected: the control connection by AUTH TLS, data connections by PBSZ and PROT (RFC 4217).

use std::sync::Arc;

use rustls::ServerConfig;

use crate::partners::ClientCertificate;

use super::{certificate::TlsSetup, current_tls::CurrentTls};

/// The protection of data connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum DataProtection {
    /// Clear, and PBSZ must come before PROT.
    #[default]
    Unsized,
    /// Clear.
    Clear,
    /// In TLS.
    Private,
}

/// The protection of a session's connections.
#[derive(Debug, Default)]
pub(super) struct Protection {
    /// TLS that is this session's alone, where its data connections must resume it.
    own: Option<TlsSetup>,
    /// The certificate that the client has shown in the TLS handshake of this connection.
    pub(super) certificate: Option<ClientCertificate>,
    pub(super) data: DataProtection,
}

impl Protection {
    /// TLS for the control connection: with `own`, one whose sessions only this FTP session can resume.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(super) fn control_tls(&mut self, tls: TlsSetup, own: bool) -> Result<Arc<ServerConfig>, rustls::Error> {
        match own {
            false => Ok(tls.control),
            true => Ok(self.own.insert(tls.of_one_session()?).control.clone()),
        }
    }

    /// TLS for the next data connection, if there is to be any.
    pub(super) fn data_tls(&self, current: &CurrentTls) -> Option<Arc<ServerConfig>> {
        let tls = || self.own.clone().or_else(|| current.get());
        (self.data == DataProtection::Private).then(tls).flatten().map(|tls| tls.data)
    }
}
