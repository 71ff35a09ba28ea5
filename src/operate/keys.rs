//! Public keys of partners.
//!
//! A key lets its partner log in by SFTP without a password; see `partners::AuthorizedKey` for the
//! form of a line and for what `from=` restricts. A change is in the account's file, synced, before
//! the audit trail gets its line and the operator the answer.

use forebay_queue::Actor;

use super::{
    accounts::parse,
    answer::Answer,
    operator::Operator,
    problem::{Problem, Result},
    reply::{KeyView, Reply},
};
use crate::partners::{AuthorizedKey, PartnersError};

impl Operator {
    /// Lets an account log in with a key.
    /// # Errors
    /// A usage problem for a line that is no public key, or a private one; not found; a key that is
    /// there already.
    pub(super) async fn key_add(&self, name: &str, line: &str, actor: Actor, answer: &Answer) -> Result<()> {
        let name = parse(name)?;
        let key = AuthorizedKey::parse(line).map_err(|error| Problem::usage(error.to_string()))?;
        let view = view(name.as_str(), &key);
        let account = self.dependencies.partners.add_key(&name, key)?;
        let text = format!("partner {} may log in with the key {}", account.name, view.fingerprint);
        self.note(&actor, "partner.key.add", &text).await?;
        answer.give(Reply::Said(text)).await?;
        answer.give(Reply::Key(view)).await
    }

    /// The keys of an account.
    /// One [`Reply::Key`] for each, in the order in which they were added.
    pub(super) async fn key_list(&self, name: &str, answer: &Answer) -> Result<()> {
        let name = parse(name)?;
        let account = self.dependencies.partners.get(name.as_str());
        let account = account.ok_or_else(|| Problem::from(PartnersError::Unknown(name)))?;
        for key in &account.keys {
            answer.give(Reply::Key(view(account.name.as_str(), key))).await?;
        }
        Ok(())
    }

    /// No longer lets an account log in with a key, and ends the sessions that came in by it.
    pub(super) async fn key_remove(&self, name: &str, fingerprint: &str, actor: Actor, answer: &Answer) -> Result<()> {
        let account = self.dependencies.partners.remove_key(&parse(name)?, fingerprint)?;
        let ended = self.end_outdated();
        let text = format!("partner {} may no longer log in with the key {fingerprint}", account.name);
        self.note(&actor, "partner.key.remove", &text).await?;
        answer.give(Reply::Said(text)).await?;
        self.tell_ended(ended, &actor, answer).await
    }
}

fn view(partner: &str, key: &AuthorizedKey) -> KeyView {
    KeyView {
        partner: partner.to_owned(),
        fingerprint: key.fingerprint(),
        algorithm: key.algorithm(),
        comment: key.comment(),
        from: key.places(),
    }
}
