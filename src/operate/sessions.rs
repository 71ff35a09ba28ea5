//! Sessions of partners: listing and ending them.
//!
//! Ending a session is not a punishment: the partner can log in again at once. To keep one out,
//! disable the account, which ends its sessions too.

use forebay_queue::Actor;

use super::{
    answer::Answer,
    operator::Operator,
    problem::{Problem, Result},
    reply::{KickedView, Reply, SessionView},
};
use crate::partners::{PartnerName, SessionStatus};

impl From<SessionStatus> for SessionView {
    fn from(session: SessionStatus) -> Self {
        Self {
            id: session.id.to_string(),
            partner: session.partner.to_string(),
            door: session.door.to_owned(),
            peer: session.peer.to_string(),
            since: Some(session.since),
            doing: session.doing,
            bytes: session.bytes,
            bytes_per_second: session.bytes_per_second,
            idle_seconds: session.idle_seconds,
        }
    }
}

impl Operator {
    /// Sessions now, the oldest first.
    /// One [`Reply::Session`] for each.
    pub(super) async fn sessions_list(&self, answer: &Answer) -> Result<()> {
        for session in self.sessions() {
            answer.give(Reply::Session(session)).await?;
        }
        Ok(())
    }

    /// Ends sessions. What they were moving is cut, and what came of it is kept for resume.
    /// One [`Reply::Kicked`] for each that was named, or that was there when the request came: a
    /// filter names no session that begins later.
    ///
    /// # Errors
    /// A usage problem without a reason, which the audit trail keeps, and for a partner's name that
    /// can be none.
    pub(super) async fn sessions_kick(
        &self,
        ids: Vec<String>,
        partner: Option<String>,
        reason: String,
        actor: Actor,
        answer: &Answer,
    ) -> Result<()> {
        if reason.trim().is_empty() {
            return Err(Problem::usage("say why with --reason"));
        }
        if ids.is_empty() {
            let name = partner.map(|name| name.parse::<PartnerName>()).transpose();
            let name = name.map_err(|error| Problem::usage(error.to_string()))?;
            let mut there = self.dependencies.partners.sessions();
            there.retain(|session| name.as_ref().is_none_or(|name| session.partner == *name));
            for session in there {
                // Who has gone by himself meanwhile needs no telling.
                self.kick(session, &reason, &actor, answer).await?;
            }
            return Ok(());
        }
        for asked in ids {
            match self.session_of(&asked) {
                Ok(session) => self.kick(session, &reason, &actor, answer).await?,
                Err(problem) => {
                    let told = KickedView { asked, session: None, error: Some(problem) };
                    answer.give(Reply::Kicked(told)).await?;
                }
            }
        }
        Ok(())
    }

    /// The session first and the line after it: an operator who ends a session is in a hurry. A
    /// session that is gone by then gets no line.
    async fn kick(&self, session: SessionStatus, reason: &str, actor: &Actor, answer: &Answer) -> Result<()> {
        let Some(ended) = self.dependencies.partners.kick(session.id) else { return Ok(()) };
        let doing = if ended.doing.is_empty() { String::new() } else { format!(" in {}", ended.doing) };
        let text = format!("session {} of {} from {} ended{doing}: {reason}", ended.id, ended.partner, ended.peer);
        self.note(actor, "session.kick", &text).await?;
        let told = KickedView { asked: ended.id.to_string(), session: Some(ended.into()), error: None };
        answer.give(Reply::Kicked(told)).await
    }

    /// By the id or the beginning of it, in upper or lower case.
    ///
    /// # Errors
    /// Not found; a usage problem when several begin so.
    fn session_of(&self, asked: &str) -> Result<SessionStatus> {
        let wanted = asked.to_ascii_lowercase();
        let mut found = self.dependencies.partners.sessions();
        found.retain(|session| !wanted.is_empty() && session.id.to_string().starts_with(&wanted));
        match found.len() {
            0 => Err(Problem::not_found(format!("there is no session {asked}; `forebay sessions` shows all"))),
            1 => Ok(found.remove(0)),
            several => Err(Problem::usage(format!("{several} sessions begin with {asked}; give more of the id"))),
        }
    }

    /// Sessions as operators see them; none when no server runs.
    pub(super) fn sessions(&self) -> Vec<SessionView> {
        match &self.dependencies.live {
            Some(_) => self.dependencies.partners.sessions().into_iter().map(SessionView::from).collect(),
            None => Vec::new(),
        }
    }
}
