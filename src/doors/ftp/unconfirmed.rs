//! Files that wait for the sign that their sender has the reply, and the facts of their connection.
//!
//! A session keeps its own, oldest first. A client that goes on costs one look at the kernel for each file, when its
//! next command is here: mostly that came with the acknowledgement. Nothing else is done for it, no timer and no task.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustix::{
    io::Errno,
    net::sockopt::{set_tcp_keepidle, socket_error},
};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::{
    descriptors,
    doors::core::{KEEPALIVE, Link},
    ingest::{Accepted, Ingest},
};

use super::{
    confirmation::{AcceptedFile, ClaimableWhen, Decision, Facts, PeerState, ReplySeen, Sign},
    tcp_state::{Stage, tcp_state, unacknowledged_bytes},
};

const TICK: Duration = Duration::from_millis(500);
/// The shortest tick, where files wait for less than some seconds.
const LEAST_TICK: Duration = Duration::from_millis(10);
/// Ticks before `confirm_after` is over at which a session that has fallen silent is first looked at and probed.
const TICKS_BEFORE: u32 = 2;
/// No claim gives a file before it is decided. The watch takes half a minute at most; this is for files that it has
/// lost.
const DECIDED_WITHIN: Duration = Duration::from_secs(86_400);
/// The least time after which a kernel probes.
const PROBED_AFTER: Duration = Duration::from_secs(1);
/// The kernel counts time in steps of at most so long.
const CLOCK_STEP: Duration = Duration::from_millis(10);
/// Looks for a moment at which no acknowledgement comes in between.
const STEADY_LOOKS: u32 = 8;
const NEVER_READ: &str = "the connection was reset before its sender had the reply";

/// The files of one control connection that wait.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    ingest: Arc<Ingest>,
    control: Descriptor,
    files: Mutex<Files>,
}

#[derive(Clone, Debug)]
enum Descriptor {
    OfSession(Arc<Link>),
    /// The session is over.
    Own(Arc<OwnedFd>),
}

/// The files that a session leaves when it is over.
pub(super) struct Left {
    pub(super) files: Arc<Unconfirmed>,
    /// They hold no place of the session's connection.
    pub(super) has_descriptor: bool,
    /// The client has ended the connection, and a reset may follow.
    pub(super) client_has_ended: bool,
}

#[derive(Debug, Default)]
struct Files {
    waiting: VecDeque<Waiting>,
    /// When the client's FIN was seen.
    ended: Option<Instant>,
    reset: Option<Reset>,
    /// The latest sign that the client's system still has the connection.
    heard: Option<Instant>,
    /// The kernel asks for such a sign each second.
    is_probing: bool,
    /// The age of a file from which on such a sign tells something.
    told_by: Duration,
    /// Our own FIN goes out, or has.
    closing: bool,
    round_trip: Duration,
    shortest_round_trip: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Reset {
    ended_before: bool,
}

#[derive(Debug)]
struct Waiting {
    stored: AcceptedFile,
    /// Right before the reply was written.
    replied_at: Instant,
    reply: ReplySeen,
    /// The count of acknowledged bytes from which on the reply is acknowledged; none while nothing was written after
    /// it.
    reply_end: Option<u64>,
    /// Lines up to this one had come, in part at least, before the reply.
    sent_ahead: u64,
}

impl Unconfirmed {
    /// None wait yet on this connection.
    pub(super) fn new(ingest: &Arc<Ingest>, link: &Arc<Link>) -> Self {
        let confirm_after = ingest.confirm_after();
        let told_by = confirm_after.saturating_sub(tick(confirm_after) * TICKS_BEFORE);
        let files = Mutex::new(Files { told_by, ..Files::default() });
        Self { ingest: ingest.clone(), control: Descriptor::OfSession(link.clone()), files }
    }

    /// The reply to a file is written next. `sent_ahead` counts the session's lines that have come before it.
    pub(super) fn add(&self, stored: AcceptedFile, sent_ahead: u64) {
        // The queue's own time must not be faster than the looks at the connection, which are late on a busy machine.
        if stored.claim == ClaimableWhen::OnceConfirmed {
            self.ingest.put_off(&stored.accepted, DECIDED_WITHIN);
        }
        let (replied_at, reply) = (Instant::now(), ReplySeen::Unwritten);
        self.files.lock().waiting.push_back(Waiting { stored, replied_at, reply, reply_end: None, sent_ahead });
    }

    /// Something is written next: the end of the last reply to a file is noted before.
    pub(super) fn before_writing(&self) {
        let mut files = self.files.lock();
        if files.waiting.iter().any(Waiting::has_open_end) {
            files.look(self.control.as_fd());
        }
    }

    /// All that was to be written is with the kernel.
    pub(super) fn written(&self) {
        for waiting in &mut self.files.lock().waiting {
            if waiting.reply == ReplySeen::Unwritten {
                waiting.reply = ReplySeen::Unacknowledged;
            }
        }
    }

    /// A command has come, the session's line of this number; gives the files whose sender goes on by it.
    pub(super) fn heard(&self, line: u64, sign_of: impl Fn(&str) -> Sign) -> Vec<AcceptedFile> {
        let mut files = self.files.lock();
        if files.waiting.iter().any(|waiting| waiting.reply == ReplySeen::Unacknowledged) {
            files.look(self.control.as_fd());
        }
        let (now, shortest) = (Instant::now(), files.shortest_round_trip);
        let goes_on = |waiting: &Waiting| match sign_of(waiting.stored.accepted.name()) {
            // A client that has read the reply is not heard before a round trip has passed. That may be shorter than the
            // shortest which was measured: the kernel measures none where something was sent twice.
            _ if line <= waiting.sent_ahead || now - waiting.replied_at < shortest / 2 => Sign::Nothing,
            sign => sign,
        };
        let is_confirmed = |facts: Facts| facts.decide(self.ingest.confirm_after()) == Decision::Confirm;
        let taken = files.take(now, goes_on, is_confirmed);
        if files.is_probing {
            files.probe(self.control.as_fd());
        }
        taken.into_iter().map(|(waiting, _)| waiting.stored).collect()
    }

    /// Decides what can be decided by the connection alone; gives what is left to do.
    fn decide(&self) -> Vec<(AcceptedFile, Decision)> {
        let confirm_after = self.ingest.confirm_after();
        let mut files = self.files.lock();
        files.look(self.control.as_fd());
        files.probe(self.control.as_fd());
        let is_decided = |facts: Facts| facts.decide(confirm_after) != Decision::Wait;
        let taken = files.take(Instant::now(), |_| Sign::Nothing, is_decided).into_iter();
        taken.map(|(waiting, facts)| (waiting.stored, facts.decide(confirm_after))).collect()
    }

    /// Decides what can be decided now, and does it.
    pub(super) async fn act_on_decided(&self) {
        for (stored, decision) in self.decide() {
            act(&self.ingest, &stored, decision).await;
        }
    }

    /// The server stops: whoever has the reply counts as having read it.
    pub(super) async fn act_on_all(&self) {
        self.act_on_decided().await;
        let left = std::mem::take(&mut self.files.lock().waiting);
        for waiting in left {
            let is_acknowledged = waiting.reply == ReplySeen::Acknowledged;
            let decision = if is_acknowledged { Decision::Confirm } else { Decision::Doubt };
            act(&self.ingest, &waiting.stored, decision).await;
        }
    }

    /// The session is over: the files that are left, on a descriptor of their own if the system has one.
    pub(super) fn leave(&self) -> Left {
        // The facts move with the files: what was seen of this connection stays true for the new
        // owner.
        let mut files = std::mem::take(&mut *self.files.lock());
        let client_has_ended = files.ended.is_some();
        // Our FIN comes next, unless the client's was first. After ours an end is no sign against
        // the client.
        files.closing = !client_has_ended;
        let own = self.control.as_fd().try_clone_to_owned().and_then(descriptors::spared);
        let has_descriptor = own.is_ok();
        let control = own.map_or_else(|_| self.control.clone(), |own| Descriptor::Own(Arc::new(own)));
        let files = Arc::new(Self { ingest: self.ingest.clone(), control, files: Mutex::new(files) });
        Left { files, has_descriptor, client_has_ended }
    }

    /// Returns whether no file waits any more.
    pub(super) fn is_empty(&self) -> bool {
        self.files.lock().waiting.is_empty()
    }

    /// Returns whether the oldest file is to be looked at already.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let files = self.files.lock();
        files.waiting.front().is_some_and(|oldest| files.is_due(oldest, now))
    }
}

impl Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::OfSession(link) => link.control.as_fd(),
            Self::Own(control) => control.as_fd(),
        }
    }
}

impl Waiting {
    /// Whether it is still to be noted where its reply ends.
    fn has_open_end(&self) -> bool {
        self.reply == ReplySeen::Unacknowledged && self.reply_end.is_none()
    }
}

impl Files {
    /// Returns whether the file has waited long enough to be looked at.
    fn is_due(&self, waiting: &Waiting, now: Instant) -> bool {
        now.saturating_duration_since(waiting.replied_at) >= self.told_by
    }

    /// Returns whether the client's system was heard when the file had waited that long.
    fn is_present(&self, waiting: &Waiting) -> bool {
        self.heard.is_some_and(|heard| heard.saturating_duration_since(waiting.replied_at) >= self.told_by)
    }

    /// Has the kernel probe the client's system as long as a file is due that nothing was heard for since.
    fn probe(&mut self, control: BorrowedFd<'_>) {
        let now = Instant::now();
        let is_needed = self.waiting.iter().any(|waiting| self.is_due(waiting, now) && !self.is_present(waiting));
        if is_needed == self.is_probing {
            return;
        }
        match set_tcp_keepidle(control, if is_needed { PROBED_AFTER } else { KEEPALIVE }) {
            Ok(()) => self.is_probing = is_needed,
            Err(error) => debug!(%error, "cannot change how soon a silent connection is probed"),
        }
    }

    /// Looks at the connection. One call of the kernel when all is acknowledged.
    fn look(&mut self, control: BorrowedFd<'_>) {
        let Ok(state) = tcp_state(control) else { return };
        (self.round_trip, self.shortest_round_trip) = (state.round_trip, state.shortest_round_trip);
        if state.stage == Stage::Open {
            // Rather too early than too late, for the kernel's clock has steps.
            self.heard = Instant::now().checked_sub(state.since_heard + CLOCK_STEP).max(self.heard);
        }
        let mut is_all_acknowledged = state.is_all_acknowledged;
        match state.stage {
            Stage::Open => {}
            Stage::PeerClosed => _ = self.ended.get_or_insert_with(Instant::now),
            Stage::Over => {
                is_all_acknowledged = unacknowledged_bytes(control).is_ok_and(|bytes| bytes == 0);
                self.is_over(control, is_all_acknowledged);
            }
        }
        let mut end = None;
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.reply == ReplySeen::Unacknowledged) {
            if is_all_acknowledged || waiting.reply_end.is_some_and(|end| state.acknowledged_bytes >= end) {
                waiting.reply = ReplySeen::Acknowledged;
            } else if waiting.has_open_end() {
                // Nothing was written since, or it would have been noted before.
                end = end.or_else(|| written_bytes(control));
                waiting.reply_end = end;
            }
        }
    }

    /// The connection is no more. After our own FIN that is a clean end, unless an error or something unacknowledged
    /// says otherwise; before it, it was reset. The error is that of a reset; after a FIN it is EPIPE.
    fn is_over(&mut self, control: BorrowedFd<'_>, is_all_acknowledged: bool) {
        let error = socket_error(control).ok().and_then(Result::err);
        if self.reset.is_some() {
            return;
        }
        match self.closing && is_all_acknowledged && error.is_none() {
            true => _ = self.ended.get_or_insert_with(Instant::now),
            false => self.reset = Some(Reset { ended_before: self.ended.is_some() || error == Some(Errno::PIPE) }),
        }
    }

    fn facts(&self, waiting: &Waiting, now: Instant, sign: Sign) -> Facts {
        let client = match (self.reset, self.ended) {
            (Some(Reset { ended_before }), _) => PeerState::Reset { ended_before },
            (None, Some(ended)) => PeerState::Ended(now.saturating_duration_since(ended)),
            (None, None) if self.is_present(waiting) => PeerState::Present,
            (None, None) => PeerState::Silent,
        };
        let since_reply = now.saturating_duration_since(waiting.replied_at);
        Facts { reply: waiting.reply, client, sign, since_reply, round_trip: self.round_trip }
    }

    /// Takes out the files of which `is_taken` says so, with the facts of each.
    fn take(
        &mut self,
        now: Instant,
        sign_of: impl Fn(&Waiting) -> Sign,
        is_taken: impl Fn(Facts) -> bool,
    ) -> Vec<(Waiting, Facts)> {
        let mut taken = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            let facts = self.facts(&waiting, now, sign_of(&waiting));
            match is_taken(facts) {
                true => taken.push((waiting, facts)),
                false => self.waiting.push_back(waiting),
            }
        }
        taken
    }
}

/// The count that `tcpi_bytes_acked` comes to when all that is written by now is acknowledged.
fn written_bytes(control: BorrowedFd<'_>) -> Option<u64> {
    for _ in 0..STEADY_LOOKS {
        let before = tcp_state(control).ok()?.acknowledged_bytes;
        let left = unacknowledged_bytes(control).ok()?;
        if tcp_state(control).ok()?.acknowledged_bytes == before {
            return Some(before + left);
        }
    }
    None
}

async fn act(ingest: &Arc<Ingest>, stored: &AcceptedFile, decision: Decision) {
    match (decision, stored.claim) {
        (Decision::Confirm, ClaimableWhen::OnceConfirmed) => ingest.confirm(&stored.accepted),
        (Decision::Withdraw, ClaimableWhen::OnceConfirmed) => withdraw(ingest, &stored.accepted, NEVER_READ).await,
        (Decision::Doubt | Decision::Withdraw, ClaimableWhen::OnceConfirmed | ClaimableWhen::AtOnce) => {
            ingest.doubt(&stored.accepted).await;
        }
        _ => {}
    }
}

/// Takes a file back whose sender never had the reply.
pub(super) async fn withdraw(ingest: &Arc<Ingest>, accepted: &Accepted, why: &str) {
    if let Err(refusal) = ingest.withdraw(accepted, why).await {
        warn!(file.id = %accepted.id, %refusal, "cannot take back a file whose sender never had the reply");
    }
}

/// The time between two looks at a file that waits.
pub(super) fn tick(confirm_after: Duration) -> Duration {
    (confirm_after / 4).clamp(LEAST_TICK, TICK)
}
