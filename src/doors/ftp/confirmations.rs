//! A session's part in the confirmations: it counts the lines that it hears, notes what it writes,
//! and returns the files that are confirmed by what the client sends next.
//!
//! Five files make up the check whether a sender has its reply: `confirmation` decides by facts,
//! `unconfirmed` collects the facts of one control connection, this one belongs to the session,
//! `unconfirmed_watch` looks after silent and ended sessions, and `ingest/confirmation.rs` carries
//! the decision out. A session whose uploads are all proven never makes an [`Unconfirmed`].

use std::sync::Arc;

use super::{
    command::Command,
    confirmation::{AcceptedFile, Sign},
    unconfirmed::Unconfirmed,
    unconfirmed_watch::Watch,
};

/// The files of a session whose sender was not yet seen to have the reply, and the count of lines by which it is seen.
#[derive(Debug, Default)]
pub(super) struct Confirmations {
    /// Lines that the session has taken up as commands or as bad lines, since it began.
    heard: u64,
    /// None until there was such a file.
    unconfirmed: Option<Arc<Unconfirmed>>,
}

impl Confirmations {
    /// The reply to a file is written next. `lines_ahead` is the number of lines that are here
    /// already and were not taken up; `first` makes the [`Unconfirmed`] for the first file of a
    /// session.
    pub(super) fn add(&mut self, stored: AcceptedFile, lines_ahead: usize, first: impl FnOnce() -> Arc<Unconfirmed>) {
        let unconfirmed = self.unconfirmed.get_or_insert_with(first);
        unconfirmed.add(stored, self.heard + lines_ahead as u64);
    }

    /// A line has come that is no command. It counts, or later lines would have the number of
    /// earlier ones.
    pub(super) fn heard_other(&mut self) {
        self.heard += 1;
    }

    /// A command has come: takes out the files whose sender goes on with it.
    pub(super) fn heard(
        &mut self,
        command: &Command<'_>,
        path_of: impl Fn(&str) -> Option<String>,
    ) -> Vec<AcceptedFile> {
        self.heard += 1;
        let Some(unconfirmed) = &self.unconfirmed else { return Vec::new() };
        unconfirmed.heard(self.heard, |name| Sign::of(command, name, &path_of))
    }

    /// Something is written next.
    pub(super) fn before_writing(&self) {
        if let Some(unconfirmed) = &self.unconfirmed {
            unconfirmed.before_writing();
        }
    }

    /// All that was to be written is with the kernel.
    pub(super) fn written(&self) {
        if let Some(unconfirmed) = &self.unconfirmed {
            unconfirmed.written();
        }
    }

    /// The session is over: hands what is left to the door's watch, and returns whether the client has ended the
    /// connection.
    pub(super) async fn leave(&mut self, watch: &Watch) -> bool {
        match self.unconfirmed.take() {
            Some(unconfirmed) => watch.take_over(unconfirmed).await,
            None => false,
        }
    }
}
