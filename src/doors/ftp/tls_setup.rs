//! TLS as it is spoken on the two kinds of connections.

use std::sync::Arc;

use rustls::ServerConfig;

/// TLS of control and data connections.
#[derive(Clone, Debug)]
pub(super) struct TlsSetup {
    pub(super) control: Arc<ServerConfig>,
    /// Each connection has it of its own: see [`ConnectionTls`](super::resumption::ConnectionTls).
    pub(super) data: Arc<ServerConfig>,
}

impl TlsSetup {
    /// Of what was loaded from the files of the certificate.
    pub(super) fn new(mut control: ServerConfig) -> Self {
        let mut data = control.clone();
        // One for the next data connection. When it goes out, and to whom: `quiet`, `resumption`.
        data.send_tls13_tickets = 1;
        control.alpn_protocols = ["ftp", "x-filezilla-ftp"].map(|name| name.as_bytes().to_vec()).to_vec();
        data.alpn_protocols = ["ftp-data", "ftp", "x-filezilla-ftp"].map(|name| name.as_bytes().to_vec()).to_vec();
        Self { control: Arc::new(control), data: Arc::new(data) }
    }
}
