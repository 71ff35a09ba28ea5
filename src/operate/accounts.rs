//! Accounts of partners.
//!
//! What an operator changes holds when the command returns: on disk, and for sessions that came in
//! by what is gone. Each step is in this order: the account's file, the line in the audit trail,
//! the sessions, the answer. A crash after the first leaves a change without its line; the log has
//! it.
//!
//! A generated password is in the answer and nowhere else: neither logged nor in the audit trail.

use std::time::Duration;

use forebay_queue::Actor;

use super::{
    answer::Answer,
    operator::Operator,
    problem::{Problem, Result},
    reply::{AccountView, PasswordView, Reply},
};
use crate::partners::{Account, PartnerName, PartnersError, SessionStatus, generate_password};

/// The interval at which sessions that were told to end are looked for, and how often.
const LOOK: Duration = Duration::from_millis(20);
const GONE_WITHIN: u32 = 250;

impl From<PartnersError> for Problem {
    fn from(error: PartnersError) -> Self {
        match &error {
            PartnersError::Unknown(_) => Self::not_found(format!("{error}; `forebay partner list` shows all")),
            PartnersError::Exists(name) => {
                Self::failed(format!("{error}; for a new password: `forebay partner passwd {name}`"))
            }
            PartnersError::Password(_) | PartnersError::Key(_) | PartnersError::Token(_) => {
                Self::usage(error.to_string())
            }
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
        take_over: bool,
        actor: Actor,
        answer: &Answer,
    ) -> Result<()> {
        let name = parse(name)?;
        let (given, generated) = chosen(password);
        let partners = self.dependencies.partners.clone();
        let (task_name, task_password) = (name.clone(), given.clone());
        let account = blocking(move || match take_over {
            true => partners.take_over(&task_name, &task_password, ""),
            false => partners.add(&task_name, &task_password, ""),
        })
        .await?;
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
        // Not on a thread of the runtime: argon2id takes a processor for some 20 ms.
        let account = blocking(move || partners.passwd(&task_name, &task_password)).await?;
        let ended = self.end_outdated();
        self.changed(&account, "partner.passwd", "has a new password", &actor, answer).await?;
        self.tell_ended(ended, &actor, answer).await?;
        self.tell_password(&name, given, generated, answer).await
    }

    /// Closes an account. What it has sent stays, and the names that led there go, with what was kept of uploads that
    /// were cut: whoever has the name next sees none of it.
    pub(super) async fn partner_remove(&self, name: &str, actor: Actor, answer: &Answer) -> Result<()> {
        let asked = parse(name)?;
        // Names and partials are kept under the name as it was registered.
        // Read before the account goes.
        let name = self.dependencies.partners.get(asked.as_str()).map_or(asked, |account| account.name);
        self.dependencies.partners.remove(&name)?;
        // First its sessions: what they do until they are over would be found by the next one of that name.
        let ended = self.end_outdated();
        self.note(&actor, "partner.remove", &format!("partner {name} removed")).await?;
        self.tell_ended(ended, &actor, answer).await?;
        // For five seconds at most: a session that hangs in the disk must not hold up the operator.
        self.wait_until_gone(&name).await;
        // After its sessions: what they did until now is the former partner's.
        self.dependencies.partners.is_gone(&name)?;
        let now = self.dependencies.clock.now();
        // After that: a session that was still there could have made names again.
        self.dependencies.catalogue.forget_partner(name.as_str(), now).await?;
        let forgotten = self.dependencies.storage.forget_partials(name.as_str()).await;
        forgotten
            .map_err(|error| Problem::failed(format!("it is removed, but for its interrupted uploads: {error}")))?;
        answer.give(Reply::Said(format!("partner {name} removed; its files and their history stay"))).await
    }

    /// Waits for the sessions of a partner that were told to end.
    async fn wait_until_gone(&self, name: &PartnerName) {
        let is_there = || self.dependencies.partners.sessions().iter().any(|session| session.partner == *name);
        let mut rounds = 0;
        while self.dependencies.live.is_some() && is_there() && rounds < GONE_WITHIN {
            tokio::time::sleep(LOOK).await;
            rounds += 1;
        }
    }

    /// Ends the sessions that came in by what holds no more. To be called as soon as it holds no more: ended earlier, a
    /// client could come in by it again; and what comes after may fail, by a journal without room or an operator who is gone.
    pub(super) fn end_outdated(&self) -> Vec<SessionStatus> {
        self.dependencies.partners.end_outdated()
    }

    /// Notes and tells which sessions were ended.
    pub(super) async fn tell_ended(&self, ended: Vec<SessionStatus>, actor: &Actor, answer: &Answer) -> Result<()> {
        for session in ended {
            let text = format!("session {} of {} from {} ended", session.id, session.partner, session.peer);
            self.note(actor, "session.end", &format!("{text}: what it came in by holds no more")).await?;
            answer.give(Reply::Said(text)).await?;
        }
        Ok(())
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
