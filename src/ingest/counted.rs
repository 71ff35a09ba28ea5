//! How each upload is counted: once, by its end.

use crate::metrics::{Door, Refused};

use super::{Accepted, Ingest, Intake, Refusal, SessionInfo};

impl SessionInfo {
    /// The door, as it is counted.
    pub(super) fn counted_door(&self) -> Door {
        Door::named(self.door)
    }
}

impl Ingest {
    /// Counts an upload that was refused before it began.
    pub(super) fn begun<T>(&self, session: &SessionInfo, begun: Result<T, Refusal>) -> Result<T, Refusal> {
        begun.inspect_err(|refusal| self.count_refused(session, refusal))
    }

    /// A name has stayed busy as long as the door would wait: the upload is refused.
    pub fn gave_up(&self, session: &SessionInfo) {
        self.count_refused(session, &Refusal::Busy);
    }

    /// Counts the end of an upload that had all its bytes, if it was not accepted.
    pub(super) fn count_unless_accepted(&self, door: Door, settled: &Result<Accepted, Refusal>) {
        if let Err(refusal) = settled {
            self.count_end(door, refusal.counted());
        }
    }

    /// Counts an upload that was refused, or cut where it was refused for nothing.
    pub(super) fn count_end(&self, door: Door, refused: Option<Refused>) {
        match refused {
            Some(why) => self.metrics.refused(door, why),
            None => self.metrics.cut(door),
        }
    }

    fn count_refused(&self, session: &SessionInfo, refusal: &Refusal) {
        self.count_end(session.counted_door(), refusal.counted());
    }
}

impl Intake {
    /// The upload was refused, and ends: it is counted as that, and not as one that was cut.
    pub fn mark_refused(&mut self, refusal: &Refusal) {
        self.refused = self.refused.or(refusal.counted());
    }

    pub(super) fn count_end(&self) {
        self.file.ingest.count_end(self.file.session.counted_door(), self.refused);
    }
}

impl Refusal {
    /// As what it is counted; none: as an upload that was cut.
    pub(super) fn counted(&self) -> Option<Refused> {
        Some(match self {
            Self::Cut(_) => return None,
            Self::BadName(_) | Self::NotFound | Self::Exists => Refused::Name,
            Self::Quota => Refused::Quota,
            Self::TooLarge => Refused::Size,
            Self::TooManyNames(_) | Self::TooFast => Refused::Names,
            Self::Full => Refused::Full,
            Self::Stopped(_) => Refused::Stopped,
            Self::Busy => Refused::Busy,
            Self::CannotResume { .. } | Self::NoBeginning => Refused::Resume,
            Self::Denied(_) => Refused::Policy,
            Self::Internal(_) => Refused::Internal,
        })
    }
}
