//! The login: USER and PASS.

use std::sync::Arc;

use crate::{
    doors::ftp::{
        login::{Failed, open, verify},
        reply::Reply,
        session::{Flow, Session},
    },
    partners::Partner,
};

impl Session {
    pub(in crate::doors::ftp) async fn user(&mut self, name: &str) -> Flow {
        if self.tls_is_required() && !self.is_secure() {
            return self.say(Reply::new(534, "TLS is required: send AUTH TLS first")).await;
        }
        if name.is_empty() {
            return self.say(Reply::new(501, "USER needs a name")).await;
        }
        let context = self.context.clone();
        let certified = self.certificate.as_ref();
        if let Some(partner) =
            certified.and_then(|shown| context.partners.verify_certificate(shown, name, self.link.peer.ip()))
        {
            return self.open(partner, 232).await;
        }
        self.user = Some(name.to_owned());
        self.say(Reply::new(331, "Password required")).await
    }

    pub(in crate::doors::ftp) async fn pass(&mut self, password: &str) -> Flow {
        let Some(name) = self.user.take() else {
            return self.say(Reply::new(503, "Send USER first")).await;
        };
        let context = self.context.clone();
        let shown = self.certificate.as_ref();
        match verify(&name, password, shown, self.link.peer, &context.partners).await {
            Ok(partner) => self.open(partner, 230).await,
            Err(Failed::Told(why)) => self.say(Reply::new(421, why)).await.and_end(),
            Err(Failed::Wrong) => {
                self.failed_logins += 1;
                // One reply for all reasons, so that it does not tell whether the name exists.
                if self.say(Reply::new(530, "Login incorrect")).await == Flow::End {
                    return Flow::End;
                }
                match self.failed_logins > context.partners.limits().max_failed_logins {
                    true => self.goodbye("Too many failed logins").await,
                    false => Flow::Continue,
                }
            }
        }
    }

    async fn open(&mut self, partner: Partner, code: u16) -> Flow {
        let context = self.context.clone();
        match open(&partner, &self.link, &context) {
            Ok(login) => {
                let notice = context.notice().map(|notice| format!("; {notice}")).unwrap_or_default();
                self.login = Some(Arc::new(login));
                self.say(Reply::new(code, format!("Logged in{notice}"))).await
            }
            Err(why) => self.say(Reply::new(421, why)).await.and_end(),
        }
    }
}
