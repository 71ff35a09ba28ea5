//! The second phase of a session: a partner has logged in, and gives commands.
//!
//! It holds what lasts between commands (directory, REST, RNFR, data port, inner session) and one
//! transfer at a time. Verbs are methods of [`LoggedIn`] in `verbs/`; `dispatch` chooses among
//! them. What `ingest` and the catalogue hold is reached through the [`PartnerSession`] alone.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::doors::core::PartnerSession;

use super::{
    client::Client,
    command::Command,
    confirmation::{AcceptedFile, ClaimableWhen},
    control::Event,
    data_port::DataPort,
    inner_session::InnerSession,
    lines::Line,
    paths::changed,
    reply::Reply,
    session::Flow,
    transfer::{Rest, Transfer},
};

/// The time for what an upload that is over for the client may still have to do before the next begins.
const ENDING_TIME: Duration = Duration::from_secs(60);

/// A partner that has logged in, between two commands.
pub(super) struct LoggedIn<'a> {
    pub(super) client: &'a mut Client,
    pub(super) partner: Arc<PartnerSession>,
    /// The working directory: absolute, without `.` and `..`.
    pub(super) directory: String,
    /// What was said of the next transfer alone.
    pub(super) next: NextTransfer,
    /// The path of RNFR, for RNTO.
    pub(super) rename_from: Option<String>,
    pub(super) data_port: DataPort,
    pub(super) inner: InnerSession,
    /// The last upload, which for the client may be over while what it still sends is dropped.
    pub(super) last_upload: Option<(Arc<Transfer>, JoinHandle<()>)>,
}

/// The parameters of the next transfer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NextTransfer {
    /// The position of REST.
    pub(super) start: u64,
    /// The size of ALLO.
    pub(super) declared: Option<u64>,
}

impl<'a> LoggedIn<'a> {
    /// The login was told to the client, and nothing else yet.
    pub(super) fn new(client: &'a mut Client, partner: Arc<PartnerSession>) -> Self {
        client.control.ends.logged_in(&partner);
        client.time.active_at(Instant::now());
        Self {
            client,
            partner,
            directory: "/".to_owned(),
            next: NextTransfer::default(),
            rename_from: None,
            data_port: DataPort::default(),
            inner: InnerSession::default(),
            last_upload: None,
        }
    }

    /// Serves until the client or the server ends the session.
    pub(super) async fn run(mut self) {
        while Box::pin(self.step()).await == Flow::Continue {}
    }

    async fn step(&mut self) -> Flow {
        if let Some(flow) = self.client.dismissed().await {
            return flow;
        }
        let until = self.wakes();
        match self.client.control.next(until).await {
            Event::Line(line) => self.hear(line).await,
            Event::Closed => Flow::End,
            Event::EndRequested => Flow::Continue,
            Event::Time => self.time_passed().await,
        }
    }

    fn wakes(&self) -> Instant {
        let ends = self.client.ends();
        // The earliest of the three: the session wakes to close an idle inner session or an unused
        // port too.
        [self.inner.closes_at(), self.data_port.closes_at()].into_iter().flatten().fold(ends, Instant::min)
    }

    async fn time_passed(&mut self) -> Flow {
        let now = Instant::now();
        self.inner.close_if_idle(now);
        self.data_port.close_if_unused(now);
        self.client.time_passed().await
    }

    async fn hear(&mut self, line: Line) -> Flow {
        self.client.time.active_at(Instant::now());
        self.partner.ticket.touch();
        let flow = match &line {
            Line::Command(text) => self.obey(Command::parse(text)).await,
            line => {
                self.client.control.confirmations.heard_other();
                self.client.answer_bad_line(line).await
            }
        };
        self.client.time.active_at(Instant::now());
        flow
    }

    /// Obeys a command, and confirms the files before which it was sent as a sign of life.
    ///
    /// A command that renames or removes a file is obeyed first: the processor must not begin a
    /// file that its sender is about to take away. Every other command confirms first, so that the
    /// file is claimable at once, however long the command takes.
    async fn obey(&mut self, command: Command<'_>) -> Flow {
        let directory = &self.directory;
        let path_of = |given: &str| changed(directory, given).ok();
        let mut confirmed = self.client.control.confirmations.heard(&command, path_of);
        if !matches!(command, Command::Rnto(_) | Command::Dele(_)) {
            self.confirm(&std::mem::take(&mut confirmed));
        }
        let flow = Box::pin(self.dispatch(command)).await;
        self.confirm(&confirmed);
        flow
    }

    /// Makes confirmed files claimable. In memory only: after a restart the time in the record
    /// decides.
    fn confirm(&self, files: &[AcceptedFile]) {
        for file in files.iter().filter(|file| file.claim == ClaimableWhen::OnceConfirmed) {
            self.partner.ingest.confirm(&file.accepted);
        }
    }

    /// Waits until the upload before is over altogether, its draining included: a session has one
    /// data connection at a time, however fast its client sends what is refused. A client that asks
    /// for the next transfer has read the reply to the last, so draining it longer helps nobody: it
    /// is cancelled.
    pub(super) async fn last_upload_is_over(&mut self) {
        if let Some((transfer, upload)) = self.last_upload.take() {
            transfer.cancel("another upload begins", Rest::Dropped);
            // One that panicked is over too.
            let _ = timeout(ENDING_TIME, upload).await;
        }
    }

    /// Asks the inner server.
    pub(super) async fn ask(&mut self, line: &str) -> Reply {
        self.inner.ask(line, &self.partner).await
    }
}
