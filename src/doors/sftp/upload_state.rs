//! The state of an upload, and what each event makes of it.
//!
//! Pure but for what becomes of the bytes: which event leads where is in one place, and in its
//! tests.

use super::{
    packet::Code,
    refused::Status,
    writing::{Fault, Writing},
};

/// The state of an upload from OPEN to CLOSE.
pub(super) enum UploadState {
    /// Its sender sends, or may.
    Open(Progress),
    /// Its sender has set the size as one does that breaks off. Writing on takes it back.
    BrokenOff(Progress),
    /// A write was refused, or it took too long: this answers all that is asked from now on, CLOSE too.
    Spoiled(Status),
}

/// How far an upload has come.
pub(super) enum Progress {
    /// Nothing was written yet, and so many bytes are there to go on with.
    Untouched { have: u64 },
    /// Storage takes its bytes.
    Writing(Box<Writing>),
}

/// The upload at its CLOSE.
pub(super) enum Closed {
    /// All of it came.
    Whole(Box<Writing>),
    /// It was opened and not written.
    Untouched,
    /// It is known not to be whole.
    Cut(Option<Box<Writing>>, String),
    Spoiled(Status),
}

impl UploadState {
    /// Storage takes its bytes from now on.
    pub(super) fn writing(writing: Writing) -> Self {
        Self::Open(Progress::Writing(Box::new(writing)))
    }

    /// Returns whether nothing can come of it any more.
    pub(super) fn is_spoiled(&self) -> bool {
        matches!(self, Self::Spoiled(_))
    }

    /// How far it has come, unless it is spoiled.
    pub(super) fn progress(&mut self) -> Result<&mut Progress, &Status> {
        match self {
            Self::Open(progress) | Self::BrokenOff(progress) => Ok(progress),
            Self::Spoiled(status) => Err(status),
        }
    }

    /// The sender sends on.
    pub(super) fn goes_on(&mut self) {
        self.change(|state| match state {
            Self::BrokenOff(progress) => Self::Open(progress),
            other => other,
        });
    }

    /// The sender breaks off.
    pub(super) fn breaks_off(&mut self) {
        self.change(|state| match state {
            Self::Open(progress) => Self::BrokenOff(progress),
            other => other,
        });
    }

    /// A write was refused. In front of bytes that are misplaced all came, and can be gone on with.
    pub(super) async fn refuse(&mut self, fault: Fault) -> Status {
        let status = fault.status();
        match (self.spoil(status.clone()), fault) {
            (Some(writing), Fault::Refused(_)) => writing.into_intake().discard().await,
            (Some(writing), Fault::Misplaced(why)) => drop(writing.into_intake().cut(&why).await),
            (None, _) => {}
        }
        status
    }

    /// It takes too long: what came can be gone on with, through another handle.
    pub(super) async fn overdue(&mut self, why: &str) -> Status {
        let status = (Code::Failure, why.to_owned());
        if let Some(writing) = self.spoil(status.clone()) {
            writing.into_intake().cut(why).await;
        }
        status
    }

    /// Its connection has ended without a CLOSE.
    pub(super) async fn abandon(self) {
        if let Self::Open(Progress::Writing(writing)) | Self::BrokenOff(Progress::Writing(writing)) = self {
            writing.into_intake().cut("the connection ended before the file was closed").await;
        }
    }

    /// CLOSE.
    pub(super) fn close(self) -> Closed {
        let (progress, breaks_off) = match self {
            Self::Spoiled(status) => return Closed::Spoiled(status),
            Self::Open(progress) => (progress, None),
            Self::BrokenOff(progress) => (progress, Some("the sender broke off: what came can be resumed".to_owned())),
        };
        match (progress, breaks_off) {
            (Progress::Untouched { .. }, None) => Closed::Untouched,
            (Progress::Untouched { .. }, Some(why)) => Closed::Cut(None, why),
            (Progress::Writing(writing), breaks_off) => match writing.gap().or(breaks_off) {
                None => Closed::Whole(writing),
                Some(why) => Closed::Cut(Some(writing), why),
            },
        }
    }

    /// Spoils the upload, and returns the bytes that storage has, if any.
    fn spoil(&mut self, status: Status) -> Option<Box<Writing>> {
        match std::mem::replace(self, Self::Spoiled(status)) {
            Self::Open(Progress::Writing(writing)) | Self::BrokenOff(Progress::Writing(writing)) => Some(writing),
            _ => None,
        }
    }

    /// Replaces the state by what `transition` makes of it.
    fn change(&mut self, transition: impl FnOnce(Self) -> Self) {
        // Nobody sees what stands there meanwhile.
        let old = std::mem::replace(self, Self::Open(Progress::Untouched { have: 0 }));
        *self = transition(old);
    }
}

impl Closed {
    /// Keeps what came of an upload that is not whole, and returns its answer.
    pub(super) async fn cut(writing: Option<Box<Writing>>, why: String) -> Status {
        if let Some(writing) = writing {
            writing.into_intake().cut(&why).await;
        }
        (Code::Failure, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn untouched() -> UploadState {
        UploadState::Open(Progress::Untouched { have: 7 })
    }

    #[test]
    fn a_sender_that_breaks_off_may_go_on() {
        let mut state = untouched();
        state.breaks_off();
        assert!(matches!(state, UploadState::BrokenOff(Progress::Untouched { have: 7 })));
        state.goes_on();
        assert!(matches!(state.close(), Closed::Untouched));
        let mut state = untouched();
        state.breaks_off();
        assert!(matches!(state.close(), Closed::Cut(None, why) if why.contains("broke off")));
    }

    #[tokio::test]
    async fn what_is_spoiled_stays_so() {
        let mut state = untouched();
        let status = state.overdue("too long").await;
        state.goes_on();
        state.breaks_off();
        assert!(state.is_spoiled() && state.progress().is_err());
        assert!(matches!(state.close(), Closed::Spoiled(given) if given == status));
    }
}
