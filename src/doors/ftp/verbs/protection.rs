//! TLS as the client asks for it: AUTH, PBSZ, PROT.

use crate::doors::ftp::{
    data::Offer,
    reply::Reply,
    session::{Flow, Session},
};

impl Session {
    pub(in crate::doors::ftp) async fn auth(&mut self, mechanism: &str) -> Flow {
        let reply = match mechanism.to_ascii_uppercase().as_str() {
            _ if self.context.tls().is_none() => Reply::new(502, "There is no TLS here"),
            _ if self.is_secure() => Reply::new(503, "The connection is protected already"),
            _ if self.login.is_some() => Reply::new(503, "AUTH comes before the login"),
            "TLS" | "TLS-C" | "SSL" | "TLS-P" => {
                if self.say(Reply::new(234, "Go on with TLS")).await == Flow::End {
                    return Flow::End;
                }
                return Box::pin(self.secure()).await;
            }
            _ => Reply::new(504, "Only AUTH TLS is served"),
        };
        self.say(reply).await
    }

    pub(in crate::doors::ftp) fn pbsz(&mut self, argument: &str) -> Reply {
        if !self.is_secure() {
            return Reply::new(503, "Send AUTH TLS first");
        }
        if argument.parse::<u32>().is_err() {
            return Reply::new(501, "PBSZ needs a number");
        }
        self.sized = true;
        Reply::new(200, "PBSZ=0")
    }

    pub(in crate::doors::ftp) fn prot(&mut self, argument: &str) -> Reply {
        if !self.is_secure() || !self.sized {
            return Reply::new(503, "Send AUTH TLS and PBSZ first");
        }
        match argument.to_ascii_uppercase().as_str() {
            "P" => self.protected = true,
            "C" if self.tls_is_required() => return Reply::new(534, "Data connections must be protected"),
            "C" => {
                self.protected = false;
                // TLS may have begun on it.
                self.offer = self.offer.take().filter(|offer| !matches!(offer, Offer::Passive(on) if on.secure));
            }
            "S" | "E" => return Reply::new(536, "Only PROT P and C are served"),
            _ => return Reply::new(504, "Only PROT P and C are served"),
        }
        Reply::new(200, if self.protected { "Data connections are protected" } else { "Data connections are clear" })
    }

    /// The reply when a data connection would have to be protected and is not.
    pub(in crate::doors::ftp) fn unprotected(&self) -> Option<Reply> {
        let clear = self.tls_is_required() && !(self.protected && self.is_secure());
        clear.then(|| Reply::new(522, "Data connections must be protected: send PBSZ 0 and PROT P first"))
    }
}
