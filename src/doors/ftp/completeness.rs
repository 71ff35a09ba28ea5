//! Whether an upload is whole, by what is known when its data has ended: how it ended, and the size
//! that ALLO declared.
//!
//! Asked once, when the last byte is there, and before the evidence (`evidence`). Pure: no
//! connection is looked at, so that all cases are in one table test. It names the verdicts of
//! `ingest` and the partner's policy.

use crate::{
    ingest::Verdict,
    partners::{CloseNotify, Complete},
};

/// The end of the data, as far as it tells by itself that nothing is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataEnd {
    /// TLS ended with close_notify: the client has ended it, and its death does not.
    /// RFC 8446, 6.1: data after close_notify does not exist, and a dying client sends none.
    Marked,
    /// A connection in the clear ended, or one of which nothing is known.
    Unmarked,
    /// TLS ended without close_notify.
    MarkMissing,
}

/// The facts of an upload whose data has ended.
///
/// All sizes are in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    /// Its length, with what it went on from.
    pub(super) bytes: u64,
    /// Where in the file the client began to send.
    pub(super) start: u64,
    pub(super) declared: Option<u64>,
    pub(super) end: DataEnd,
}

impl Came {
    /// The verdict if the client is still there.
    ///
    /// A declared size that is larger than what came holds the file, or cuts it when the policy
    /// demands the exact size. One that is smaller says nothing unless the policy is `allo`: ALLO
    /// reserves room (RFC 959, 4.1.3), and more may come.
    pub(super) fn verdict(self, complete: Complete, close_notify: CloseNotify) -> Verdict {
        if let Some(declared) = self.declared {
            let why = format!("{} bytes came, and ALLO declared {declared}", self.bytes);
            match complete {
                Complete::Allo if !self.agrees(declared) => return Verdict::Cut(why),
                // Not cut: ALLO need not be exact, so this may be the whole file. An operator
                // decides.
                _ if self.bytes < declared && !self.agrees(declared) => return Verdict::Hold(why),
                _ => {}
            }
        }
        let why = "the data connection ended without TLS close_notify";
        match (self.end, close_notify) {
            (DataEnd::MarkMissing, CloseNotify::Refuse) => Verdict::Cut(why.to_owned()),
            (DataEnd::MarkMissing, CloseNotify::Hold) => Verdict::Hold(why.to_owned()),
            // Nothing is wrong, and nothing is proven: the confirmation after the reply decides.
            _ if complete == Complete::Confirmed && !self.is_proven() => Verdict::Unconfirmed,
            _ => Verdict::Whole,
        }
    }

    /// The end was marked, or the size is the declared one. A declared 0 proves nothing: some clients always send it.
    pub(super) fn is_proven(self) -> bool {
        self.end == DataEnd::Marked || self.declared.is_some_and(|declared| declared > 0 && self.agrees(declared))
    }

    /// Of an upload that goes on, either the whole or the rest may have been declared.
    fn agrees(self, declared: u64) -> bool {
        self.bytes == declared || self.bytes - self.start.min(self.bytes) == declared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_of_the_data_has_its_verdict() {
        use DataEnd::{MarkMissing, Marked, Unmarked};
        let whole = || Verdict::Whole;
        let cut = |_| Verdict::Cut(String::new());
        let hold = |_| Verdict::Hold(String::new());
        let rows = [
            (Complete::Confirmed, CloseNotify::Accept, Unmarked, None, Verdict::Unconfirmed),
            (Complete::Confirmed, CloseNotify::Accept, MarkMissing, None, Verdict::Unconfirmed),
            (Complete::Confirmed, CloseNotify::Hold, MarkMissing, None, hold(())),
            (Complete::Confirmed, CloseNotify::Refuse, MarkMissing, None, cut(())),
            (Complete::Confirmed, CloseNotify::Refuse, Marked, None, whole()),
            (Complete::Confirmed, CloseNotify::Accept, Unmarked, Some(10), whole()),
            (Complete::Confirmed, CloseNotify::Accept, Unmarked, Some(6), whole()),
            (Complete::Confirmed, CloseNotify::Accept, Unmarked, Some(0), Verdict::Unconfirmed),
            (Complete::Confirmed, CloseNotify::Accept, Unmarked, Some(9), Verdict::Unconfirmed),
            (Complete::Confirmed, CloseNotify::Accept, Marked, Some(11), hold(())),
            (Complete::Eof, CloseNotify::Accept, Unmarked, None, whole()),
            (Complete::Eof, CloseNotify::Accept, MarkMissing, None, whole()),
            (Complete::Rename, CloseNotify::Accept, Unmarked, None, whole()),
            (Complete::Allo, CloseNotify::Accept, Unmarked, Some(10), whole()),
            (Complete::Allo, CloseNotify::Accept, Unmarked, Some(9), cut(())),
            (Complete::Allo, CloseNotify::Accept, Unmarked, Some(11), cut(())),
        ];
        for (complete, close_notify, end, declared, expected) in rows {
            let came = Came { bytes: 10, start: 4, declared, end };
            let verdict = came.verdict(complete, close_notify);
            let same = std::mem::discriminant(&verdict) == std::mem::discriminant(&expected);
            assert!(same, "{complete:?} {close_notify:?} {came:?}: {verdict:?}");
        }
    }
}
