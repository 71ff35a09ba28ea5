//! Bearer tokens of partners: making, removing, and logging in with them.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use super::{
    Account, AccountToken, Authentication, ClientCertificate, Denied, Partner, PartnerName, Partners, PartnersError,
    login::Proof,
};
use crate::{
    credentials::{Token, TokenDigest},
    origin::Origin,
};

/// The most tokens of an account, and the bytes of a label: its file has a limit too.
const MOST_TOKENS: usize = 32;
const MOST_LABEL_BYTES: usize = 100;

impl Partners {
    /// Makes a token that the partner logs in with from now on, until `expires_at` if that is given. Gives what is stored of it,
    /// and its text, which nobody can find out again.
    ///
    /// # Errors
    /// [`PartnersError::Unknown`], [`PartnersError::Token`] when there are too many or the label is too long, or when it
    /// cannot be written.
    pub fn add_token(
        &self,
        name: &PartnerName,
        label: &str,
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<(AccountToken, String), PartnersError> {
        let created_at = self.clock.now();
        if label.len() > MOST_LABEL_BYTES || label.chars().any(char::is_control) {
            let what = format!("a label is one line of {MOST_LABEL_BYTES} bytes at most");
            return Err(PartnersError::Token(what));
        }
        if expires_at.is_some_and(|end| end <= created_at) {
            return Err(PartnersError::Token("a token has to end in the future".to_owned()));
        }
        let mut made = None;
        self.change(name, "token added", |account| {
            if account.tokens.len() >= MOST_TOKENS {
                let what = format!("{} has {MOST_TOKENS} tokens, as many as there may be", account.name);
                return Err(PartnersError::Token(what));
            }
            let token = Token::generate(account.name.as_str());
            let kept = AccountToken { digest: token.digest(), label: label.to_owned(), created_at, expires_at };
            account.tokens.push(kept.clone());
            made = Some((kept, token.into_text()));
            Ok(())
        })?;
        made.ok_or_else(|| PartnersError::Token("no token was made".to_owned()))
    }

    /// No longer lets the partner log in with the token of this id.
    ///
    /// # Errors
    /// [`PartnersError::Unknown`], [`PartnersError::Token`] when there is no such token, or when it cannot be written.
    pub fn remove_token(&self, name: &PartnerName, id: &str) -> Result<Account, PartnersError> {
        self.change(name, "token removed", |account| {
            let before = account.tokens.len();
            account.tokens.retain(|one| one.id() != id);
            match account.tokens.len() == before {
                true => Err(PartnersError::Token(format!("{} has no token {id}", account.name))),
                false => Ok(()),
            }
        })
    }

    /// Logs a partner in by a bearer token, together with the certificate that the client has shown, if it has. The token
    /// names its partner, and counts as a key where the policy asks for one; a certificate that is bound to another
    /// partner is refused. Costs one `stat` and one SHA-256.
    ///
    /// Nobody guesses a token. Wrong ones make the address and the name wait all the same, as wrong passwords do: what
    /// tries has no business here, and a name that it finds waiting tells it nothing.
    ///
    /// # Errors
    /// [`Denied::Wrong`], [`Denied::Wait`], [`Denied::Expired`], [`Denied::PasswordWanted`], [`Denied::Address`] or
    /// [`Denied::Unavailable`].
    pub fn verify_token(
        &self,
        certificate: Option<&ClientCertificate>,
        token: &str,
        peer: IpAddr,
    ) -> Result<Partner, Denied> {
        let origin = Origin::of(peer);
        let name = Token::holder_of(token).and_then(|holder| holder.parse::<PartnerName>().ok());
        let key = name.as_ref().map(PartnerName::folded).unwrap_or_default();
        if let Some(wait) = self.logins.wait(&key, origin) {
            return Err(Denied::Wait(wait));
        }
        let digest = TokenDigest::of(token);
        let account = self.enabled(name.as_ref())?;
        let found = account.as_ref().and_then(|account| account.tokens.iter().find(|one| one.digest == digest));
        let shown = name.as_ref().map(|name| self.shown(certificate, Proof::Key, name));
        let (Some(account), Some(found), Some((true, proof, shown))) = (&account, found, shown) else {
            self.logins.failed(&key, origin);
            return Err(Denied::Wrong);
        };
        if found.has_expired(self.clock.now()) {
            return Err(Denied::Expired);
        }
        if self.policy(account.name.as_str()).authentication == Authentication::KeyAndPassword {
            return Err(Denied::PasswordWanted);
        }
        self.enter(proof, shown.with_token(digest), account, peer)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc, time::Duration};

    use super::*;
    use crate::{
        clock::{Clock as _, SetClock},
        partners::{Limits, Override, Policies, Policy},
    };

    struct Scene {
        _root: tempfile::TempDir,
        clock: SetClock,
        partners: Arc<Partners>,
    }

    fn scene(policy: &str) -> Scene {
        let root = tempfile::tempdir().unwrap();
        let clock = SetClock::new(DateTime::UNIX_EPOCH);
        let own: Override = toml::from_str(&format!("name = \"Demo\"\n{policy}")).unwrap();
        let policies = Policies::new(Policy::default(), &[own]);
        let directory = root.path().join("partners");
        let partners = Partners::open(&directory, Limits::default(), policies, Arc::new(clock.clone())).unwrap();
        partners.add(&name(), "secret", "").unwrap();
        Scene { _root: root, clock, partners }
    }

    fn name() -> PartnerName {
        "Demo".parse().unwrap()
    }

    const HOME: &str = "192.0.2.1";

    impl Scene {
        fn token(&self, expires_in: Option<u64>) -> (String, String) {
            let end = expires_in.map(|seconds| self.clock.now() + Duration::from_secs(seconds));
            let (kept, token) = self.partners.add_token(&name(), "a job", end).unwrap();
            (kept.id(), token)
        }

        fn login(&self, token: &str, from: &str) -> Result<String, Denied> {
            self.partners.verify_token(None, token, from.parse().unwrap()).map(|partner| partner.name.to_string())
        }
    }

    #[test]
    fn a_token_lets_in_until_it_is_removed() {
        let scene = scene("");
        let ((first, one), (_, other)) = (scene.token(None), scene.token(None));
        assert!(one.starts_with("forebay_Demo_"));
        assert_eq!(scene.login(&one, HOME).unwrap(), "Demo");
        let peer: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let open = |token: &str| {
            let partner = scene.partners.verify_token(None, token, peer.ip()).unwrap();
            scene.partners.open_session(&partner, "web", peer).unwrap()
        };
        let (session, unharmed) = (open(&one), open(&other));
        let known = scene.partners.verify_token(None, &one, peer.ip()).unwrap();
        assert!(scene.partners.end_outdated().is_empty());
        scene.partners.remove_token(&name(), &first).unwrap();
        assert_eq!(scene.partners.end_outdated().len(), 1);
        assert!(session.is_kicked() && !unharmed.is_kicked());
        assert_eq!(scene.partners.open_session(&known, "web", peer).unwrap_err(), Denied::Wrong);
        assert_eq!(scene.login(&one, HOME), Err(Denied::Wrong));
        assert_eq!(scene.login(&other, HOME).unwrap(), "Demo");
        assert!(matches!(scene.partners.remove_token(&name(), &first), Err(PartnersError::Token(_))));
    }

    #[test]
    fn a_token_ends_at_its_time_and_that_is_no_guess() {
        let scene = scene("");
        let (_, token) = scene.token(Some(60));
        let peer: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let partner = scene.partners.verify_token(None, &token, peer.ip()).unwrap();
        let session = scene.partners.open_session(&partner, "web", peer).unwrap();
        scene.clock.advance(Duration::from_secs(59));
        assert!(scene.login(&token, HOME).is_ok());
        assert!(scene.partners.end_outdated().is_empty());
        scene.clock.advance(Duration::from_secs(1));
        for _ in 0..40 {
            let denied = scene.login(&token, HOME).unwrap_err();
            assert_eq!((denied.is_guess(), denied), (false, Denied::Expired));
        }
        assert_eq!(scene.partners.end_outdated().len(), 1);
        assert!(session.is_kicked());
        let past = Some(scene.clock.now());
        assert!(matches!(scene.partners.add_token(&name(), "", past), Err(PartnersError::Token(_))));
    }

    #[tokio::test]
    async fn who_guesses_waits_and_so_do_its_passwords() {
        let scene = scene("");
        let (_, right) = scene.token(None);
        let guesser = "203.0.113.1";
        for at in 0..6 {
            let wrong = Token::generate(["Demo", "nobody"][at % 2]).into_text();
            assert_eq!(scene.login(&wrong, guesser), Err(Denied::Wrong));
        }
        assert_eq!(scene.login(&right, guesser), Err(Denied::Wait(Duration::from_secs(1))));
        let denied = scene.partners.verify("demo", "secret", guesser.parse().unwrap()).await.unwrap_err();
        assert_eq!(denied, Denied::Wait(Duration::from_secs(1)), "one lockout for all that is guessed at");
        assert_eq!(scene.login(&right, HOME).unwrap(), "Demo", "elsewhere nobody waits for it");
        scene.clock.advance(Duration::from_secs(1));
        assert_eq!(scene.login(&right, guesser).unwrap(), "Demo");
    }

    #[test]
    fn what_is_no_token_of_the_partner_is_wrong() {
        let scene = scene("");
        let (_, right) = scene.token(None);
        scene.partners.add(&"other".parse().unwrap(), "secret", "").unwrap();
        let of_another = right.replace("Demo", "other");
        let other_case = right.replace("Demo", "demo");
        for (at, token) in ["", "Demo", "secret", &right[1..], &right[..right.len() - 1], &of_another, &other_case]
            .into_iter()
            .enumerate()
        {
            assert_eq!(scene.login(token, &format!("192.0.2.{}", 100 + at)), Err(Denied::Wrong), "{token}");
        }
    }

    #[test]
    fn the_policy_holds_for_tokens() {
        let with = |policy: &str| {
            let scene = scene(policy);
            let (_, token) = scene.token(None);
            (scene.login(&token, HOME), scene.login(&token, "10.0.0.1"))
        };
        let demo = || Ok("Demo".to_owned());
        assert_eq!(with("authentication = \"key\"").0, demo(), "it counts as a key");
        assert_eq!(with("require_certificate = true").0, demo());
        assert_eq!(with("authentication = \"key+password\"").0, Err(Denied::PasswordWanted));
        assert_eq!(with("allow_from = [\"10.0.0.0/8\"]"), (Err(Denied::Address), demo()));
        let off = scene("");
        let (_, token) = off.token(None);
        off.partners.disable(&name()).unwrap();
        assert_eq!(off.login(&token, HOME), Err(Denied::Wrong));
        off.partners.enable(&name()).unwrap();
        assert_eq!(off.login(&token, HOME), demo());
    }

    #[test]
    fn there_are_limits() {
        let scene = scene("");
        for label in ["x".repeat(101), "two\nlines".to_owned()] {
            assert!(matches!(scene.partners.add_token(&name(), &label, None), Err(PartnersError::Token(_))));
        }
        let widest = "\"".repeat(MOST_LABEL_BYTES);
        for _ in 0..MOST_TOKENS {
            scene
                .partners
                .add_token(&name(), &widest, Some(DateTime::UNIX_EPOCH + Duration::from_secs(1 << 33)))
                .unwrap();
        }
        assert!(matches!(scene.partners.add_token(&name(), "", None), Err(PartnersError::Token(_))));
        assert_eq!(scene.partners.get("demo").unwrap().tokens.len(), MOST_TOKENS);
        let nobody = "nobody".parse().unwrap();
        assert!(matches!(scene.partners.add_token(&nobody, "", None), Err(PartnersError::Unknown(_))));
    }
}
