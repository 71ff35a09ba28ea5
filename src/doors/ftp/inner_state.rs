//! The state that one inner session and the guard before it share.
//!
//! One command at a time is under way on an inner session, so each place holds one thing at most;
//! what is put in is taken out by the other side before the next command.

use std::net::SocketAddr;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::ingest::Refusal;

use super::data_handover::DataHandover;

/// What goes from the guard to the backend and back, beside libunftp: it would not carry it.
#[derive(Default)]
pub(super) struct InnerState {
    handover: Mutex<Option<Box<DataHandover>>>,
    handover_taken: Notify,
    refusal: Mutex<Option<Refusal>>,
    data_address: Mutex<Option<SocketAddr>>,
}

impl InnerState {
    /// Leaves the client's data connection for the RETR that comes next.
    pub(super) fn hand_over(&self, handover: DataHandover) {
        *self.handover.lock() = Some(Box::new(handover));
    }

    /// Takes the client's data connection, if it was not taken yet.
    pub(super) fn take_handover(&self) -> Option<Box<DataHandover>> {
        let handover = self.handover.lock().take();
        // Also when there was none: the guard waits for a RETR that came, and not for its success.
        self.handover_taken.notify_one();
        handover
    }

    /// Returns whether a handover waits for its RETR.
    pub(super) fn has_handover(&self) -> bool {
        self.handover.lock().is_some()
    }

    /// Waits until the handover is taken. Cancel safe.
    pub(super) async fn handover_taken(&self) {
        self.handover_taken.notified().await;
    }

    /// Keeps the refusal of the command: libunftp's error kinds say less.
    pub(super) fn refuse(&self, refusal: Refusal) {
        *self.refusal.lock() = Some(refusal);
    }

    /// Takes the refusal of the last command, if `ingest` gave one.
    pub(super) fn take_refusal(&self) -> Option<Refusal> {
        self.refusal.lock().take()
    }

    /// Keeps the data port that libunftp listens on.
    pub(super) fn listens_on(&self, address: SocketAddr) {
        *self.data_address.lock() = Some(address);
    }

    /// Takes the data port that libunftp listens on, if it does.
    pub(super) fn take_data_address(&self) -> Option<SocketAddr> {
        self.data_address.lock().take()
    }
}
