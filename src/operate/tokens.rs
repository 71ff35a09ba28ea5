//! Bearer tokens of partners.

use forebay_queue::Actor;

use super::{
    accounts::parse,
    answer::Answer,
    operator::Operator,
    problem::{Problem, Result},
    reply::{NewTokenView, Reply, TokenView},
};
use crate::partners::{AccountToken, PartnersError};

impl Operator {
    /// Makes a token that an account may log in with.
    pub(super) async fn token_add(
        &self,
        name: &str,
        expires: Option<&str>,
        label: &str,
        actor: Actor,
        answer: &Answer,
    ) -> Result<()> {
        let name = parse(name)?;
        let expires_at = expires.map(|text| self.future(text)).transpose()?;
        let (kept, token) = self.dependencies.partners.add_token(&name, label, expires_at)?;
        // It holds the name as it was registered.
        let name = self.dependencies.partners.get(name.as_str()).map_or(name, |account| account.name);
        let view = self.token_view(name.as_str(), &kept);
        let until = expires_at.map_or(String::new(), |end| format!(" until {}", end.format("%Y-%m-%dT%H:%M:%SZ")));
        let text = format!("partner {name} may log in with the token {}{until}", view.id);
        self.note(&actor, "partner.token.add", &text).await?;
        answer.give(Reply::Said(text)).await?;
        let (partner, id) = (name.to_string(), view.id.clone());
        answer.give(Reply::Token(view)).await?;
        answer.give(Reply::NewToken(NewTokenView { partner, id, token })).await
    }

    /// The tokens of an account.
    pub(super) async fn token_list(&self, name: &str, answer: &Answer) -> Result<()> {
        let name = parse(name)?;
        let account = self.dependencies.partners.get(name.as_str());
        let account = account.ok_or_else(|| Problem::from(PartnersError::Unknown(name)))?;
        for token in &account.tokens {
            answer.give(Reply::Token(self.token_view(account.name.as_str(), token))).await?;
        }
        Ok(())
    }

    /// No longer lets an account log in with a token.
    pub(super) async fn token_remove(&self, name: &str, id: &str, actor: Actor, answer: &Answer) -> Result<()> {
        let account = self.dependencies.partners.remove_token(&parse(name)?, id)?;
        let ended = self.end_outdated();
        let text = format!("partner {} may no longer log in with the token {id}", account.name);
        self.note(&actor, "partner.token.remove", &text).await?;
        answer.give(Reply::Said(text)).await?;
        self.tell_ended(ended, &actor, answer).await
    }

    fn token_view(&self, partner: &str, token: &AccountToken) -> TokenView {
        TokenView {
            partner: partner.to_owned(),
            id: token.id(),
            label: token.label.clone(),
            created_at: token.created_at,
            expires_at: token.expires_at,
            expired: token.has_expired(self.now()),
        }
    }
}
