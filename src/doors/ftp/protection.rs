//! What a client has protected: the control connection by AUTH TLS, data connections by PBSZ and PROT (RFC 4217).

use std::{sync::Arc, time::Duration};

use crate::{partners::ClientCertificate, tls::Reloaded};

use super::{
    data::Security,
    resumption::{ConnectionTls, SessionMarks, Tickets},
    tls_setup::TlsSetup,
};

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
    /// What tells TLS sessions of this FTP session from others.
    pub(super) marks: Arc<SessionMarks>,
    /// The certificate that the client has shown in the TLS handshake of this connection.
    pub(super) certificate: Option<ClientCertificate>,
    pub(super) data: DataProtection,
}

impl Protection {
    /// TLS for the next data connection, if there is to be any.
    pub(super) fn data_tls(&self, current: Option<&Reloaded<TlsSetup>>, handshake: Duration) -> Option<Security> {
        let tls = (self.data == DataProtection::Private).then(|| current.map(Reloaded::get)).flatten()?;
        let mark = self.marks.next();
        Some(Security { tls: ConnectionTls::new(&tls.data, mark, Tickets::ForTickets), handshake, mark })
    }
}
