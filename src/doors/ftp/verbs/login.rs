//! The login: USER and PASS.
//!
//! Nothing said here tells whether a name exists: wrong names and wrong passwords get the same
//! words after the same work (`Partners::verify_showing`). What is told apart are states of the
//! server, such as too many sessions.

use tracing::info;

use crate::{
    doors::ftp::{
        greeting::{Greeting, Progress},
        reply::Reply,
        session::Flow,
    },
    partners::{Denied, Partner},
};

impl Greeting<'_> {
    /// USER. A certificate that is bound to the name may suffice.
    pub(in crate::doors::ftp) async fn user(&mut self, name: &str) -> Progress {
        // At USER and not at PASS: clients send the password without being asked twice.
        if self.client.context.tls_is_required() && !self.client.control.is_secure() {
            return self.say(Reply::new(534, "TLS is required: send AUTH TLS first")).await;
        }
        if name.is_empty() {
            return self.say(Reply::new(501, "USER needs a name")).await;
        }
        // 232 (RFC 2228): no password is needed.
        if let Some(partner) = self.certified(name) {
            return self.enter(&partner, "certificate", 232).await;
        }
        self.user = Some(name.to_owned());
        self.say(Reply::new(331, "Password required")).await
    }

    fn certified(&self, name: &str) -> Option<Partner> {
        let certificate = self.client.protection.certificate.as_ref()?;
        let (partners, peer) = (&self.client.context.common.partners, self.client.control.link.peer);
        partners.verify_certificate(certificate, name, peer.ip())
    }

    /// PASS (RFC 959, 4.1.1).
    pub(in crate::doors::ftp) async fn pass(&mut self, password: &str) -> Progress {
        // Taken: each try needs its own USER (RFC 959, 5.4).
        let Some(name) = self.user.take() else {
            return self.say(Reply::new(503, "Send USER first")).await;
        };
        let (context, peer) = (self.client.context.clone(), self.client.control.link.peer);
        let shown = self.client.protection.certificate.as_ref();
        match context.common.partners.verify_showing(shown, &name, password, peer.ip()).await {
            Ok(partner) => self.enter(&partner, "password", 230).await,
            Err(denied) => {
                context.common.login_failed(&denied);
                info!(%peer, why = %denied, "login refused");
                self.denied(denied).await
            }
        }
    }

    async fn denied(&mut self, denied: Denied) -> Progress {
        if denied == Denied::Unavailable {
            return self.last(denied).await;
        }
        // Only guesses count against the client: one that is refused for want of places has guessed
        // nothing.
        self.failed_logins += u32::from(denied.is_guess());
        // One reply for all reasons, so that it does not tell whether the name exists.
        if self.client.say(Reply::new(530, "Login incorrect")).await == Flow::End {
            return Progress::Over;
        }
        match self.failed_logins > self.client.context.common.partners.limits().max_failed_logins {
            true => self.client.control.goodbye("Too many failed logins").await.into(),
            false => Progress::Waits,
        }
    }

    /// Opens a session.
    async fn enter(&mut self, partner: &Partner, how: &str, code: u16) -> Progress {
        let common = &self.client.context.common;
        // The session before the reply: who reads "Logged in" has a place.
        let session = match common.open_session(partner, &self.client.control.link, how) {
            Ok(session) => session,
            Err(denied) => return self.last(denied).await,
        };
        let notice = common.notice().map(|notice| format!("; {notice}")).unwrap_or_default();
        match self.client.say(Reply::new(code, format!("Logged in{notice}"))).await {
            Flow::Continue => Progress::LoggedIn(session),
            Flow::End => Progress::Over,
        }
    }

    /// Says why there is no session for anyone now. It tells nothing of names and passwords.
    async fn last(&mut self, denied: Denied) -> Progress {
        self.say(Reply::new(421, denied.to_string())).await;
        Progress::Over
    }

    async fn say(&mut self, reply: Reply) -> Progress {
        self.client.say(reply).await.into()
    }
}
