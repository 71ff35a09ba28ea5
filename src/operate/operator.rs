//! The one place where operators' wishes come true.
//!
//! It may name every part of the server, since operators act on all of them; no other module but
//! the command line and the admin socket may name it. It prints nothing, reads no arguments and
//! knows no exit codes: it gets a [`Request`] and an [`Actor`], and sends [`Reply`]s. So the
//! command line on a stopped server, the socket of a running one and tests go the same way.
//!
//! Every deed that changes something leaves a line in the journal with the operator's name: by the
//! record itself (queue actions), or by [`Operator::note`] (accounts, gate, sessions), after the
//! deed.
//!
//! A new verb touches: `request.rs` (the request, and whether it works without a server),
//! `dispatch` here, a method in one of the files beside, `reply/` where its answer is of a new
//! form, `src/cli` (words and printing), and the documents.

use std::{path::PathBuf, sync::Arc};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use forebay_queue::{Actor, Catalogue, EmbeddedMaintenance, QueueStore};
use forebay_storage::{SpoolMaintenance, Storage};

use super::{
    answer::Answer,
    problem::{Cause, Problem, Result},
    reply::{DoorView, Hello, Reply},
    request::Request,
    time_input::{self, Direction},
};
use crate::{
    clock::Clock, contents::Contents, doors::drop, gate::Gate, partners::Partners, process::Dispatcher, routes::Routes,
};

/// The services that an operator acts on.
/// Without a server the command line opens the data directory itself and puts the same parts
/// together, with `live` left empty.
pub struct Dependencies {
    /// The data directory.
    pub data: PathBuf,
    /// Where bytes go.
    pub storage: Arc<dyn Storage>,
    /// Upkeep of those that are files of their own.
    pub spool: Arc<dyn SpoolMaintenance>,
    /// The bytes of accepted files.
    pub contents: Contents,
    /// The queue.
    pub queue: Arc<dyn QueueStore>,
    /// The names that partners see.
    pub catalogue: Arc<dyn Catalogue>,
    /// Upkeep of the queue.
    pub maintenance: Arc<dyn EmbeddedMaintenance>,
    /// The gate.
    pub gate: Arc<Gate>,
    /// Accounts.
    pub partners: Arc<Partners>,
    /// Which processor serves what.
    pub routes: Arc<Routes>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The services that only a running server has.
    pub live: Option<Live>,
}

/// The services that only a running server has.
/// A request that needs one of these is refused without a server; see [`Request::works_offline`].
pub struct Live {
    /// The dispatcher.
    pub dispatcher: Arc<Dispatcher>,
    /// Where it listens.
    pub doors: Vec<DoorView>,
    /// The folders of the drop door.
    pub folders: drop::Reports,
    /// When the certificate of FTPS ends.
    pub certificate_ends_at: Option<DateTime<Utc>>,
    /// The time at which it became ready.
    pub started_at: DateTime<Utc>,
}

/// Does what operators ask for, in a running server or, with no [`Live`] part, on the data of one that does not run.
pub struct Operator {
    pub(super) dependencies: Dependencies,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operator").field("data", &self.dependencies.data).finish_non_exhaustive()
    }
}

impl Operator {
    /// An operator of these dependencies.
    #[must_use]
    pub fn new(dependencies: Dependencies) -> Self {
        Self { dependencies }
    }

    /// Answers a request of `actor`, to the end: the last piece is `Done` or `Failed`.
    /// The first is always a [`Hello`], by whose zone and clock the reader shows all times.
    /// Whatever fails becomes a `Failed`; this itself does not fail.
    ///
    /// Cancel safety: run it in a task of its own. Dropped in the middle, a deed may be done
    /// without its line in the audit trail.
    pub async fn answer(&self, request: Request, actor: Actor, answer: Answer) {
        // Before the request is looked at: also a refusal is shown in the schedule's zone.
        let hello =
            Hello { zone: self.zone().name().to_owned(), now: self.now(), live: self.dependencies.live.is_some() };
        if answer.give(Reply::Hello(hello)).await.is_err() {
            return;
        }
        let last = match self.dispatch(request, actor, &answer).await {
            Ok(()) => Reply::Done,
            Err(problem) if problem.cause == Cause::Gone => return,
            Err(problem) => Reply::Failed(problem),
        };
        // Nobody listens any more: then nobody misses it.
        let _ = answer.give(last).await;
    }

    /// One arm for each request. There is no catch-all arm, so a new request does not compile until
    /// it has its own.
    async fn dispatch(&self, request: Request, actor: Actor, answer: &Answer) -> Result<()> {
        if self.dependencies.live.is_none() && !request.works_offline() {
            return Err(Problem::needs_server("this needs the running server; start it with `forebay serve`"));
        }
        match request {
            Request::Status => self.status(answer).await,
            Request::PartnerAdd { name, password, take_over } => {
                self.partner_add(&name, password, take_over, actor, answer).await
            }
            Request::PartnerList => self.partner_list(answer).await,
            Request::PartnerDisable { name } => self.partner_disable(&name, actor, answer).await,
            Request::PartnerEnable { name } => self.partner_enable(&name, actor, answer).await,
            Request::PartnerPasswd { name, password } => self.partner_passwd(&name, password, actor, answer).await,
            Request::PartnerRemove { name } => self.partner_remove(&name, actor, answer).await,
            Request::PartnerKeyAdd { name, line } => self.key_add(&name, &line, actor, answer).await,
            Request::PartnerKeyList { name } => self.key_list(&name, answer).await,
            Request::PartnerKeyRemove { name, fingerprint } => {
                self.key_remove(&name, &fingerprint, actor, answer).await
            }
            Request::PartnerTokenAdd { name, expires, label } => {
                self.token_add(&name, expires.as_deref(), &label, actor, answer).await
            }
            Request::PartnerTokenList { name } => self.token_list(&name, answer).await,
            Request::PartnerTokenRemove { name, id } => self.token_remove(&name, &id, actor, answer).await,
            Request::Sessions => self.sessions_list(answer).await,
            Request::SessionsKick { ids, partner, reason } => {
                self.sessions_kick(ids, partner, reason, actor, answer).await
            }
            Request::QueueList { which, since, limit } => self.queue_list(which, since, limit, answer).await,
            Request::QueueShow { id } => self.queue_show(&id, answer).await,
            Request::MessageList { id, results, from, limit } => {
                self.message_list(&id, &results, from, limit, answer).await
            }
            Request::QueueAct { act, ids, which, reason } => {
                self.queue_act(act, ids, which, reason, actor, answer).await
            }
            Request::QueueStats => self.queue_stats(answer).await,
            Request::QueueWatch => self.queue_watch(answer).await,
            Request::QueueExport { id } => self.queue_export(&id, answer).await,
            Request::QueueVerify => self.queue_verify(answer).await,
            Request::QueueRebuild => self.queue_rebuild(actor, answer).await,
            Request::GateStatus => self.gate_status(answer).await,
            Request::GateList { to } => self.gate_list(&to, answer).await,
            Request::GateSimulate { from, to } => self.gate_simulate(&from, &to, answer).await,
            Request::GateClose { routes, end, reason, message, wait } => {
                self.gate_close(routes, end, reason, message, wait, actor, answer).await
            }
            Request::GateOpen { routes, reason } => self.gate_open(routes, reason, actor, answer).await,
            Request::GateExtend { end, reason } => self.gate_extend(end, reason, actor, answer).await,
            Request::GateClear { id, reason } => self.gate_clear(id, reason, actor, answer).await,
            Request::GateConfirmClock => self.gate_confirm_clock(actor, answer).await,
            Request::Audit { since, follow } => self.audit(since, follow, answer).await,
        }
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.dependencies.clock.now()
    }

    pub(super) fn zone(&self) -> Tz {
        self.dependencies.gate.zone()
    }

    /// An instant that the operator wrote, a duration counting back from now.
    ///
    /// # Errors
    /// A usage problem that says what can be written.
    pub(super) fn past(&self, text: &str) -> Result<DateTime<Utc>> {
        time_input::parse(text, self.zone(), self.now(), Direction::Ago).map_err(Problem::usage)
    }

    /// An instant that the operator wrote, a duration counting from now on.
    ///
    /// # Errors
    /// A usage problem that says what can be written.
    pub(super) fn future(&self, text: &str) -> Result<DateTime<Utc>> {
        time_input::parse(text, self.zone(), self.now(), Direction::Ahead).map_err(Problem::usage)
    }

    /// Writes an operator's deed into the audit trail.
    /// On disk when this returns.
    ///
    /// # Errors
    /// When the journal takes nothing: the deed is done and stays done, which the problem says.
    pub(super) async fn note(&self, actor: &Actor, topic: &str, text: &str) -> Result<()> {
        self.dependencies.queue.note(actor.clone(), topic, text, self.now()).await.map_err(|error| {
            Problem::failed(format!("it is done, but could not be written into the audit trail: {error}"))
        })
    }
}

/// The name that stands in the gate's memory and in sentences.
pub(super) fn name_of(actor: &Actor) -> String {
    match actor {
        Actor::Server => "server".to_owned(),
        Actor::Partner(name) | Actor::Operator(name) => name.clone(),
    }
}
