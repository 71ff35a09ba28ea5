//! The login: by password, by key, by certificate, or by two of them where the partner's policy wants both.
//!
//! RFC 4252 has the methods. What fails is answered the same whether the partner exists or not, and
//! the log says why.

use russh::{
    MethodKind, MethodSet,
    keys::{Algorithm, Certificate},
    server::{Auth, PublicKeyOffer, VerifiedPublicKey},
};
use tracing::info;

use crate::partners::{Authentication, Denied, Partner, PartnerName, Proof};

use super::{client::Client, sftp_session::SftpSession};

/// The answer to what proves nothing: it tells the methods, and not which of them failed.
pub(super) fn rejected() -> Auth {
    go_on_with(&[MethodKind::PublicKey, MethodKind::Password], false)
}

fn go_on_with(methods: &[MethodKind], partial_success: bool) -> Auth {
    Auth::Reject { proceed_with_methods: Some(MethodSet::from(methods)), partial_success }
}

/// SHA-1 proves nothing any more.
fn is_sha1(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Rsa { hash: None })
}

impl Client {
    /// A password, also one behind a key where the policy wants both.
    /// A password counts as a guess only when it was wrong, and after some guesses no method is
    /// left.
    pub(super) async fn password(&mut self, user: &str, password: &str) -> Auth {
        let partners = &self.context.common.partners;
        // No methods are left: clients end the connection by themselves then.
        if self.failed_logins >= partners.limits().max_failed_logins {
            return go_on_with(&[], false);
        }
        // A key that another name has proved is no proof for this one.
        let is_same = |partner: &&Partner| user.parse::<PartnerName>().is_ok_and(|user| user == partner.name);
        let proved = self.proved.as_ref().filter(is_same).map(|partner| partner.credentials.clone());
        let proof = if proved.is_some() { Proof::Key } else { Proof::Nothing };
        match partners.verify_behind(proof, user, password, self.link.peer.ip()).await {
            Ok(partner) => {
                let credentials = partner.credentials.and(proved.unwrap_or_default());
                self.enter(&Partner { credentials, ..partner }, "password")
            }
            Err(denied) => {
                self.failed_logins += u32::from(denied.is_guess());
                self.denied(user, "password", &denied)
            }
        }
    }

    /// Answers whether a key may be of use. Whether a certificate comes with it is told only when it signs.
    /// This answers a question (RFC 4252, 7) and proves nothing yet.
    pub(super) fn key_offered(&self, user: &str, offer: &PublicKeyOffer<'_>) -> Auth {
        let known = || self.context.common.partners.knows_key(user, offer.public_key, self.link.peer.ip());
        // With authorities every key may come with a certificate, so every one is worth a
        // signature.
        match !is_sha1(offer.algorithm) && (self.context.authorities.is_some() || known()) {
            true => Auth::Accept,
            false => rejected(),
        }
    }

    /// A key whose signature russh has verified (RFC 4252, 7).
    pub(super) fn key(&mut self, user: &str, key: &VerifiedPublicKey<'_>) -> Auth {
        if is_sha1(key.algorithm) {
            return self.proves_nothing(user, "key", "it is signed with SHA-1");
        }
        match self.context.common.partners.verify_key(user, key.public_key, self.link.peer.ip()) {
            Ok(partner) => self.proved(partner, "key"),
            Err(denied) => self.denied(user, "key", &denied),
        }
    }

    /// An OpenSSH certificate, whose signature russh has verified; who has signed it is looked at here.
    pub(super) fn certificate(&mut self, user: &str, certificate: &Certificate) -> Auth {
        let (Some(authorities), Ok(name)) = (&self.context.authorities, user.parse::<PartnerName>()) else {
            return rejected();
        };
        let (common, peer) = (&self.context.common, self.link.peer.ip());
        if let Err(why) = authorities.vouch(certificate, &name, peer, common.clock.now()) {
            return self.proves_nothing(user, "certificate", &why);
        }
        match common.partners.verify_vouched(&name, peer) {
            Ok(partner) => self.proved(partner, "certificate"),
            Err(denied) => self.denied(user, "certificate", &denied),
        }
    }

    /// Logs and counts why a login was refused, and answers nothing of it.
    fn denied(&self, user: &str, how: &str, denied: &Denied) -> Auth {
        self.context.common.login_failed(denied);
        info!(peer = %self.link.peer, name = ?user, how, why = %denied, "login refused");
        rejected()
    }

    /// The same, of what no partner is asked about.
    fn proves_nothing(&self, user: &str, how: &str, why: &str) -> Auth {
        self.context.common.login_proved_nothing();
        info!(peer = %self.link.peer, name = ?user, how, why, "login refused");
        rejected()
    }

    /// Lets the partner in, or asks for what is wanted still.
    fn proved(&mut self, partner: Partner, how: &str) -> Auth {
        if partner.policy.authentication != Authentication::KeyAndPassword {
            return self.enter(&partner, how);
        }
        self.proved = Some(partner);
        // Partial success (RFC 4252, 5.1): what was proved stays proved.
        go_on_with(&[MethodKind::Password], true)
    }

    /// Opens a session. A partner that cannot have one is let in all the same, to be told why.
    fn enter(&mut self, partner: &Partner, how: &str) -> Auth {
        match self.context.common.open_session(partner, &self.link, how) {
            Ok(session) => {
                let (context, gone) = (self.context.clone(), self.shared.gone.clone());
                self.shared.log_in(SftpSession::new(session, context, gone));
            }
            // SSH has no place for a reason in a refusal; the first channel tells it.
            Err(denied) => self.turned_away = Some(denied.to_string()),
        }
        Auth::Accept
    }
}
