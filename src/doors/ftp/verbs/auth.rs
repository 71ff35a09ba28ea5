//! TLS on the control connection: AUTH (RFC 4217).
//!
//! AUTH is for before the login. What the client sent in the clear behind AUTH, in the same packet,
//! is dropped by the control connection before the handshake: an attacker on the line could have
//! put it there.

use tracing::info;

use crate::{
    doors::ftp::{client::Client, greeting::Greeting, logged_in::LoggedIn, reply::Reply, session::Flow},
    tls::Reloaded,
};

impl Greeting<'_> {
    /// AUTH. Nobody is known by what was said in the clear before it.
    pub(in crate::doors::ftp) async fn auth(&mut self, mechanism: &str) -> Flow {
        let reply = match (self.client.no_auth(), mechanism.to_ascii_uppercase().as_str()) {
            (Some(reply), _) => reply,
            (None, "TLS" | "TLS-C" | "SSL" | "TLS-P") => {
                // The last line in the clear (RFC 4217, 4): the handshake begins right after it.
                if self.client.say(Reply::new(234, "Go on with TLS")).await == Flow::End {
                    return Flow::End;
                }
                // A name that was given in the clear is not believed in TLS.
                self.user = None;
                return Box::pin(self.client.secure()).await;
            }
            _ => Reply::new(504, "Only AUTH TLS is served"),
        };
        self.client.say(reply).await
    }
}

impl LoggedIn<'_> {
    /// AUTH behind the login: it comes too late.
    pub(in crate::doors::ftp) fn auth(&self) -> Reply {
        self.client.no_auth().unwrap_or_else(|| Reply::new(503, "AUTH comes before the login"))
    }
}

impl Client {
    /// The reply to AUTH where nothing can come of it.
    fn no_auth(&self) -> Option<Reply> {
        if self.context.tls.is_none() {
            return Some(Reply::new(502, "There is no TLS here"));
        }
        self.control.is_secure().then(|| Reply::new(503, "The connection is protected already"))
    }

    /// The TLS handshake on the control connection.
    pub(in crate::doors::ftp) async fn secure(&mut self) -> Flow {
        let (options, peer) = (&self.context.options, self.control.link.peer);
        // The certificate as it is now; a reload does not touch handshakes that have begun.
        let Some(tls) = self.context.tls.as_ref().map(Reloaded::get) else { return Flow::End };
        match self.control.secure(tls.control, options.handshake, &self.protection.marks).await {
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
}
