//! The third phase of a session: a transfer is under way. The client is heard all the time, and
//! reported the outcome.
//!
//! The transfer runs in a task of its own (`data_transfer`) and answers on a channel. This phase
//! has the control connection alone and decides what is said on it, in this order:
//!
//! # Guarantees
//! - 150 comes before the outcome, and the outcome before the reply to any line that came
//!   meanwhile.
//! - ABOR is looked at before lines that came earlier and wait (RFC 959, 4.1.3).
//! - When the client goes, the transfer is cancelled and the bytes that came are kept as a partial.
//!   If the commit was faster, the file is withdrawn (it waits for its confirmation) or doubted.
//! - The reply to a file and the wait for its confirmation begin together
//!   ([`Transferring::received`]).
//!
//! One compare-and-swap (`Transfer`) decides between cancel and commit; nothing here guesses which.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::doors::core::{PartnerSession, Shutdown, words};

use super::{
    client::Client,
    confirmation::{AcceptedFile, ClaimableWhen},
    data_transfer::Outcome,
    lines::Line,
    presence::gone,
    reply::Reply,
    session::Flow,
    transfer::{Rest, Transfer},
    unconfirmed::withdraw,
};

/// The time for a transfer to end that was told to stop.
/// Then the reply says 451, and the task goes on to its end without an audience.
const STOPPING: Duration = Duration::from_secs(2);
/// The time that committing a file may need.
/// A disk that takes longer has its file queued; it is then decided by the time in its record.
const COMMITTING: Duration = Duration::from_secs(60);

/// A transfer that is under way.
pub(super) struct Transferring<'a> {
    client: &'a mut Client,
    partner: &'a Arc<PartnerSession>,
    transfer: Arc<Transfer>,
    /// Tells when it is time for 150; None when that was said.
    open: Option<oneshot::Receiver<u64>>,
    outcome: oneshot::Receiver<Outcome>,
    began: Instant,
    /// ABOR came when the file was being committed already: it is answered behind the outcome.
    late_abort: bool,
}

enum Event {
    /// A download has begun, with so many bytes to come; None when it cannot.
    Open(Option<u64>),
    Over(Option<Outcome>),
    Line(Line),
    Gone,
    EndRequested,
}

impl<'a> Transferring<'a> {
    /// A transfer whose task has begun, and for which 150 was said.
    pub(super) fn new(
        client: &'a mut Client,
        partner: &'a Arc<PartnerSession>,
        transfer: Arc<Transfer>,
        outcome: oneshot::Receiver<Outcome>,
    ) -> Self {
        Self { client, partner, transfer, open: None, outcome, began: Instant::now(), late_abort: false }
    }

    /// 150 was not said yet: `open` tells when it is time.
    pub(super) fn opening(self, open: oneshot::Receiver<u64>) -> Self {
        Self { open: Some(open), ..self }
    }

    /// Hears the client until the transfer is over.
    pub(super) async fn run(mut self) -> Flow {
        loop {
            let event = self.next().await;
            if let Some(flow) = self.handle(event).await {
                return flow;
            }
        }
    }

    async fn next(&mut self) -> Event {
        let control = &mut self.client.control;
        if let Some(abort) = control.take_waiting_abort() {
            return Event::Line(abort);
        }
        let is_full = control.is_full();
        let Some(wire) = &mut control.wire else { return Event::Gone };
        tokio::select! {
            // 150 before the outcome, because a small download sends both at once. The outcome
            // before lines: a transfer that is over is reported before a command that came with it
            // is looked at. Without `biased` the client could read 226 before 150.
            biased;
            size = opened(&mut self.open), if self.open.is_some() => Event::Open(size),
            outcome = &mut self.outcome => Event::Over(outcome.ok()),
            line = control.lines.next(wire), if !is_full => match line {
                Ok(Some(line)) => Event::Line(line),
                Ok(None) | Err(_) => Event::Gone,
            },
            () = control.ends.changed() => Event::EndRequested,
            () = gone(&control.link), if is_full => Event::Gone,
        }
    }

    /// Handles one event. Returns what the session does then; `None` while the transfer goes on.
    async fn handle(&mut self, event: Event) -> Option<Flow> {
        match event {
            Event::Open(bytes) => self.opened(bytes).await,
            Event::Over(outcome) => Some(self.over(outcome).await),
            Event::Line(line) if line.is_abort() => self.abort().await,
            Event::Line(line) => match self.answer_meanwhile(line).await {
                Flow::Continue => None,
                Flow::End => Some(self.client_gone("the client went away").await),
            },
            Event::Gone => Some(self.client_gone("the control connection closed during the transfer").await),
            Event::EndRequested => self.end_requested().await,
        }
    }

    /// It is time for 150 of a download: its file is open, and `bytes` will come.
    async fn opened(&mut self, bytes: Option<u64>) -> Option<Flow> {
        // First: a receiver that was answered must not be polled again.
        self.open = None;
        let bytes = bytes?;
        // Lines that came before 150 are commands for after the transfer.
        self.client.control.hear_what_is_here();
        match self.client.say(Reply::new(150, format!("{bytes} bytes are coming"))).await {
            Flow::Continue => None,
            Flow::End => {
                self.transfer.cancel("the client went away", Rest::Dropped);
                Some(Flow::End)
            }
        }
    }

    /// The transfer is over: writes its reply, and what a late ABOR is owed.
    async fn over(&mut self, outcome: Option<Outcome>) -> Flow {
        // Lines that are here are taken in first: `expect_confirmation` (in `reply_to`) counts them
        // as sent before the reply. The wait is registered before the reply is written, because
        // `put_off` has to be in force before the client can react to it.
        self.client.control.hear_what_is_here();
        let (outcome, untaken) = match outcome {
            Some(Outcome::Untaken(refusal, untaken)) => (Some(Outcome::Refused(refusal)), Some(untaken)),
            outcome => (outcome, None),
        };
        let reply = self.reply_to(outcome);
        let said = self.client.say(reply).await;
        // After the reply: the connection has unread bytes, and closing it sends a reset that the
        // client may see before the reply.
        drop(untaken);
        match said {
            Flow::Continue if self.late_abort => {
                self.client.say(Reply::new(226, "Nothing to abort: the transfer is over")).await
            }
            flow => flow,
        }
    }

    /// Obeys ABOR: 426 for the transfer, then 226 for the command (RFC 959, 5.4). When the file is
    /// being committed already, ABOR is answered after the outcome.
    async fn abort(&mut self) -> Option<Flow> {
        if !self.transfer.cancel("the client aborted it", Rest::Dropped) {
            self.late_abort = true;
            return None;
        }
        self.partner.ticket.doing("");
        if self.client.say(Reply::new(426, "Transfer aborted")).await == Flow::End {
            return Some(Flow::End);
        }
        Some(self.client.say(Reply::new(226, "Aborted")).await)
    }

    /// Answers what can be answered during a transfer, when nothing waits before it.
    async fn answer_meanwhile(&mut self, line: Line) -> Flow {
        if let Line::Command(text) = &line
            && self.client.control.waiting.is_empty()
        {
            if text.eq_ignore_ascii_case("NOOP") {
                return self.client.say(Reply::new(200, "A transfer is under way")).await;
            }
            if text.eq_ignore_ascii_case("STAT") {
                return self.status().await;
            }
        }
        // All else waits for the end of the transfer, in its order.
        self.client.control.waiting.push_back(line);
        Flow::Continue
    }

    /// STAT during a transfer (RFC 959, 4.1.3).
    async fn status(&mut self) -> Flow {
        let (bytes, seconds) = (self.partner.ticket.moved(), self.began.elapsed().as_secs());
        self.client.say(Reply::new(213, format!("Transfer is under way: {bytes} bytes in {seconds} s"))).await
    }

    /// The client is gone: nobody reads a reply. What came is kept as a partial.
    async fn client_gone(&mut self, why: &str) -> Flow {
        if !self.transfer.cancel(why, Rest::Kept) {
            self.take_back_what_is_stored().await;
        }
        Flow::End
    }

    /// The client went while its file was being committed. Nobody has read a positive reply,
    /// because none was written: a file that waits for its confirmation is withdrawn. One that was
    /// claimable at once may be with a processor already, so it is held if it still can be.
    async fn take_back_what_is_stored(&mut self) {
        let Ok(Ok(Outcome::Stored(stored))) = timeout(COMMITTING, &mut self.outcome).await else { return };
        let ingest = &self.partner.ingest;
        match stored.claim {
            ClaimableWhen::OnceConfirmed => {
                withdraw(ingest, &stored.accepted, "its sender was gone before the reply").await
            }
            ClaimableWhen::AtOnce => ingest.doubt(&stored.accepted).await,
            ClaimableWhen::Settled => {}
        }
    }

    /// Ends the session if it has to be now; what may wait is for when the transfer is over.
    async fn end_requested(&mut self) -> Option<Flow> {
        let Shutdown::Now(why) = self.client.control.ends.latest() else { return None };
        // It may be too late: then the outcome comes within `STOPPING`, and the reply is that of
        // the file.
        self.transfer.cancel(why, Rest::Dropped);
        let outcome = timeout(STOPPING, &mut self.outcome).await.ok().and_then(Result::ok);
        let reply = self.reply_to(outcome);
        self.client.say(reply).await;
        Some(self.client.control.goodbye(why).await)
    }

    /// Returns the reply to an outcome. For a stored file this also begins the wait for its
    /// confirmation.
    fn reply_to(&mut self, outcome: Option<Outcome>) -> Reply {
        match outcome {
            Some(Outcome::Stored(stored)) => self.received(*stored),
            // Before all but a stored file: the port was contested, whatever the task says of its
            // own end.
            _ if let Some(why) = self.transfer.discarded() => Reply::new(425, words::capitalised(&why)),
            Some(Outcome::Sent(bytes)) => Reply::new(226, format!("Sent {bytes} bytes")),
            Some(Outcome::Refused(refusal) | Outcome::Untaken(refusal, _)) => Reply::from(&refusal),
            Some(Outcome::Told(reply)) => reply,
            None => Reply::new(451, words::capitalised(words::INTERNAL)),
        }
    }

    /// Builds the positive reply to a file, and registers the file to be confirmed. Nothing may be
    /// written between this and the reply itself.
    fn received(&mut self, stored: AcceptedFile) -> Reply {
        let reply = Reply::new(226, self.client.context.common.told_of(&stored.accepted));
        if stored.claim != ClaimableWhen::Settled {
            self.client.expect_confirmation(stored, self.partner);
        }
        reply
    }
}

async fn opened(open: &mut Option<oneshot::Receiver<u64>>) -> Option<u64> {
    match open {
        Some(open) => open.await.ok(),
        None => None,
    }
}
