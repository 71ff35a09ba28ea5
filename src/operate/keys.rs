//! Public keys of partners.

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
    pub(super) async fn key_list(&self, name: &str, answer: &Answer) -> Result<()> {
        let name = parse(name)?;
        let account = self.dependencies.partners.get(name.as_str());
        let account = account.ok_or_else(|| Problem::from(PartnersError::Unknown(name)))?;
        for key in &account.keys {
            answer.give(Reply::Key(view(account.name.as_str(), key))).await?;
        }
        Ok(())
    }

    /// No longer lets an account log in with a key.
    pub(super) async fn key_remove(&self, name: &str, fingerprint: &str, actor: Actor, answer: &Answer) -> Result<()> {
        let account = self.dependencies.partners.remove_key(&parse(name)?, fingerprint)?;
        let text = format!("partner {} may no longer log in with the key {fingerprint}", account.name);
        self.note(&actor, "partner.key.remove", &text).await?;
        answer.give(Reply::Said(text)).await?;
        self.end_outdated(&actor, answer).await
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
