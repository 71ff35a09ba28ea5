//! TLS as the client asks for it: AUTH, PBSZ, PROT (RFC 4217).

use tracing::{info, warn};

use crate::doors::ftp::{
    client::Client,
    greeting::Greeting,
    logged_in::LoggedIn,
    protection::DataProtection::{self, Clear, Private, Unsized},
    reply::Reply,
    session::Flow,
};

impl Greeting<'_> {
    /// AUTH. Nobody is known by what was said in the clear before it.
    pub(in crate::doors::ftp) async fn auth(&mut self, mechanism: &str) -> Flow {
        let reply = match (self.client.no_auth(), mechanism.to_ascii_uppercase().as_str()) {
            (Some(reply), _) => reply,
            (None, "TLS" | "TLS-C" | "SSL" | "TLS-P") => {
                if self.client.say(Reply::new(234, "Go on with TLS")).await == Flow::End {
                    return Flow::End;
                }
                self.user = None;
                return Box::pin(self.client.secure()).await;
            }
            _ => Reply::new(504, "Only AUTH TLS is served"),
        };
        self.client.say(reply).await
    }
}

impl LoggedIn<'_> {
    pub(in crate::doors::ftp) fn auth(&self) -> Reply {
        self.client.no_auth().unwrap_or_else(|| Reply::new(503, "AUTH comes before the login"))
    }

    /// PROT. TLS may have begun on a data port that was asked for before.
    pub(in crate::doors::ftp) fn prot(&mut self, level: &str) -> Reply {
        let reply = self.client.prot(level);
        if self.client.protection.data != Private {
            self.data_port.close_secure();
        }
        reply
    }
}

impl Client {
    /// The reply to AUTH where nothing can come of it.
    fn no_auth(&self) -> Option<Reply> {
        if !self.context.tls.is_on() {
            return Some(Reply::new(502, "There is no TLS here"));
        }
        self.control.is_secure().then(|| Reply::new(503, "The connection is protected already"))
    }

    /// The TLS handshake on the control connection.
    pub(in crate::doors::ftp) async fn secure(&mut self) -> Flow {
        let (options, peer) = (&self.context.options, self.control.link.peer);
        let Some(tls) = self.context.tls.get() else { return Flow::End };
        let tls = match self.protection.control_tls(tls, options.require_data_resumption) {
            Ok(tls) => tls,
            Err(error) => {
                warn!(%peer, %error, "cannot set up TLS for a session");
                return Flow::End;
            }
        };
        match self.control.secure(tls, options.handshake).await {
            Ok(shown) => self.protection.certificate = shown,
            Err(error) => {
                info!(%peer, %error, "TLS handshake failed");
                return Flow::End;
            }
        }
        if let Some(shown) = &self.protection.certificate {
            info!(%peer, subject = shown.subject(), sha256 = shown.fingerprint(), "client shows a certificate");
        }
        Flow::Continue
    }

    pub(in crate::doors::ftp) fn pbsz(&mut self, size: &str) -> Reply {
        if !self.control.is_secure() {
            return Reply::new(503, "Send AUTH TLS first");
        }
        if size.parse::<u32>().is_err() {
            return Reply::new(501, "PBSZ needs a number");
        }
        if self.protection.data == Unsized {
            self.protection.data = Clear;
        }
        Reply::new(200, "PBSZ=0")
    }

    pub(in crate::doors::ftp) fn prot(&mut self, level: &str) -> Reply {
        if !self.control.is_secure() || self.protection.data == Unsized {
            return Reply::new(503, "Send AUTH TLS and PBSZ first");
        }
        match level.to_ascii_uppercase().as_str() {
            "P" => self.protect_data(Private, "Data connections are protected"),
            "C" if self.context.tls_is_required() => Reply::new(534, "Data connections must be protected"),
            "C" => self.protect_data(Clear, "Data connections are clear"),
            "S" | "E" => Reply::new(536, "Only PROT P and C are served"),
            _ => Reply::new(504, "Only PROT P and C are served"),
        }
    }

    fn protect_data(&mut self, level: DataProtection, told: &str) -> Reply {
        self.protection.data = level;
        Reply::new(200, told)
    }

    /// Checks that the next data connection is as protected as it has to be.
    ///
    /// # Errors
    /// The reply, when it would be in the clear and must not.
    pub(in crate::doors::ftp) fn protected(&self) -> Result<(), Reply> {
        let is_private = self.protection.data == Private && self.control.is_secure();
        match self.context.tls_is_required() && !is_private {
            true => Err(Reply::new(522, "Data connections must be protected: send PBSZ 0 and PROT P first")),
            false => Ok(()),
        }
    }
}
