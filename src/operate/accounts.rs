//! Accounts of partners.

use forebay_queue::Actor;

use super::{
    answer::Answer,
    operator::Operator,
    problem::{Problem, Result},
    reply::{AccountView, PasswordView, Reply},
};
use crate::partners::{Account, PartnerName, PartnersError, generate_password};

impl From<PartnersError> for Problem {
    fn from(error: PartnersError) -> Self {
        match &error {
            PartnersError::Unknown(_) => Self::not_found(format!("{error}; `forebay partner list` shows all")),
            PartnersError::Exists(name) => {
                Self::failed(format!("{error}; for a new password: `forebay partner passwd {name}`"))
            }
            PartnersError::Password(_) | PartnersError::Key(_) => Self::usage(error.to_string()),
            PartnersError::Io { source, .. } => Self::failed(format!("{error}: {source}")),
            _ => Self::failed(error.to_string()),
        }
    }
}

pub(super) fn parse(name: &str) -> Result<PartnerName> {
    name.parse::<PartnerName>().map_err(|error| Problem::usage(error.to_string()))
}

impl Operator {
    /// Opens an account.
    pub(super) async fn partner_add(
        &self,
        name: &str,
        password: Option<String>,
        actor: Actor,
        answer: &Answer,
    ) -> Result<()> {
        let name = parse(name)?;
        let (given, generated) = chosen(password);
        let partners = self.dependencies.partners.clone();
        let (task_name, task_password) = (name.clone(), given.clone());
        let account = blocking(move || partners.add(&task_name, &task_password, "")).await?;
        self.note(&actor, "partner.add", &format!("partner {name} added")).await?;
        answer.give(Reply::Said(format!("partner {name} added"))).await?;
        self.tell(&account, answer).await?;
        self.tell_password(&name, given, generated, answer).await
    }

    /// All accounts.
    pub(super) async fn partner_list(&self, answer: &Answer) -> Result<()> {
        let listing = self.dependencies.partners.list()?;
        for account in &listing.accounts {
            self.tell(account, answer).await?;
        }
        match listing.faults.first() {
            None => Ok(()),
            Some(fault) => {
                Err(Problem::failed(format!("{} account files cannot be read; {fault}", listing.faults.len())))
            }
        }
    }

    /// Refuses an account's logins.
    pub(super) async fn partner_disable(&self, name: &str, actor: Actor, answer: &Answer) -> Result<()> {
        let account = self.dependencies.partners.disable(&parse(name)?)?;
        self.changed(&account, "partner.disable", "disabled", &actor, answer).await
    }

    /// Allows an account's logins.
    pub(super) async fn partner_enable(&self, name: &str, actor: Actor, answer: &Answer) -> Result<()> {
        let account = self.dependencies.partners.enable(&parse(name)?)?;
        self.changed(&account, "partner.enable", "enabled", &actor, answer).await
    }

    /// Sets an account's password.
    pub(super) async fn partner_passwd(
        &self,
        name: &str,
        password: Option<String>,
        actor: Actor,
        answer: &Answer,
    ) -> Result<()> {
        let name = parse(name)?;
        let (given, generated) = chosen(password);
        let partners = self.dependencies.partners.clone();
        let (task_name, task_password) = (name.clone(), given.clone());
        let account = blocking(move || partners.passwd(&task_name, &task_password)).await?;
        self.changed(&account, "partner.passwd", "has a new password", &actor, answer).await?;
        self.tell_password(&name, given, generated, answer).await
    }

    /// Closes an account. What it has sent stays, and the names that led there go: whoever has the name next sees none of it.
    pub(super) async fn partner_remove(&self, name: &str, actor: Actor, answer: &Answer) -> Result<()> {
        let name = parse(name)?;
        self.dependencies.partners.remove(&name)?;
        self.note(&actor, "partner.remove", &format!("partner {name} removed")).await?;
        let now = self.dependencies.clock.now();
        self.dependencies.catalogue.forget_partner(name.as_str(), now).await?;
        answer.give(Reply::Said(format!("partner {name} removed; its files and their history stay"))).await
    }

    async fn changed(&self, account: &Account, topic: &str, what: &str, actor: &Actor, answer: &Answer) -> Result<()> {
        let text = format!("partner {} {what}", account.name);
        self.note(actor, topic, &text).await?;
        answer.give(Reply::Said(text)).await?;
        self.tell(account, answer).await
    }

    async fn tell(&self, account: &Account, answer: &Answer) -> Result<()> {
        let name = account.name.as_str();
        let sessions = self.dependencies.live.as_ref().map(|_| {
            let sessions = self.dependencies.partners.sessions();
            sessions.iter().filter(|session| session.partner == account.name).count() as u64
        });
        let view = AccountView {
            name: name.to_owned(),
            enabled: account.enabled,
            created_at: Some(account.created_at),
            sessions,
            unprocessed_bytes: self.dependencies.queue.unprocessed_bytes(name).await?,
        };
        answer.give(Reply::Account(view)).await
    }

    /// A password is returned only if it was generated.
    async fn tell_password(
        &self,
        name: &PartnerName,
        password: String,
        generated: bool,
        answer: &Answer,
    ) -> Result<()> {
        if !generated {
            return Ok(());
        }
        answer.give(Reply::Password(PasswordView { partner: name.to_string(), password })).await
    }
}

fn chosen(password: Option<String>) -> (String, bool) {
    match password {
        Some(password) => (password, false),
        None => (generate_password(), true),
    }
}

/// Hashing a password takes a processor for a while.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, PartnersError> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| Problem::failed(format!("the work was cut: {error}")))??)
}
