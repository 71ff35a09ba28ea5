//! The decision whether the sender of a file lived to read the reply.
//!
//! In the clear a client that dies ends its data as one that has finished does. What tells them apart comes after the
//! reply: the system of a client that lives acknowledges it, and the client goes on. So the file is accepted and waits,
//! and this module decides from what is seen of the control connection. `unconfirmed` collects these facts.
//!
//! # Trust
//! - *Acknowledged* says that the reply has reached the client's system, or that of a proxy between, and not that
//!   anyone has read it. So a sign of life must follow.
//! - *Silent* does not say that the client is there: a reset is sent once, and networks lose it. So whoever stays silent is
//!   probed (TCP keep-alive, RFC 9293, 3.8.4), and time alone confirms nothing: a system without the connection answers
//!   with another reset.
//! - *Not acknowledged* does not say that nobody has read it: systems send an acknowledgement up to half a second late
//!   (RFC 9293, 3.8.6.3), networks lose it, and that of a reset, which a client may send right after the reply was read,
//!   is not counted (Linux handles a reset before its acknowledgement). How late the reset comes proves nothing either: it
//!   may have been on its way since. Who closes in order or has never been written to is different: a FIN acknowledges
//!   what came before it. So a file is withdrawn only when nobody can have read the reply, and is held when somebody may
//!   have: its sender may never send it again.

use std::time::Duration;

use crate::ingest::Accepted;

use super::command::Command;

/// A reply that is not acknowledged for this long will not be read.
/// Then TCP has sent it again several times (RFC 6298), and the client's system would have
/// answered.
const UNREAD_AFTER: Duration = Duration::from_secs(30);
/// The round trips within which a reset comes back.
const ROUND_TRIPS: u32 = 2;

/// A file that was accepted, and when a processor may claim it. The reply to it is not written yet.
#[derive(Debug)]
pub(super) struct AcceptedFile {
    pub(super) accepted: Accepted,
    pub(super) claim: ClaimableWhen,
}

/// When a file that was accepted is claimable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimableWhen {
    /// Once its sender was seen to have the reply.
    OnceConfirmed,
    /// At once, by the partner's policy, though nothing proves that it is whole.
    AtOnce,
    /// What comes after the reply changes nothing: it is proven whole, or is held, or waits for its name.
    Settled,
}

/// The facts of a file that waits for its confirmation, as they are at one moment. Pure data:
/// `unconfirmed` collects them, and [`Facts::decide`] needs nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) reply: ReplySeen,
    pub(super) client: PeerState,
    pub(super) sign: Sign,
    /// The time since the reply was about to be written.
    pub(super) since_reply: Duration,
    /// The kernel's smoothed round-trip time (`tcpi_rtt`).
    pub(super) round_trip: Duration,
}

/// The way of the positive reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplySeen {
    /// It was not given to the kernel, at least not all of it.
    Unwritten,
    /// All of it is with the kernel, and the client's system has not acknowledged all of it.
    Unacknowledged,
    /// The client's system, or a proxy's between, has all of it. Nobody need have read it yet.
    Acknowledged,
}

/// The client's end of the control connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerState {
    /// Nothing says that it is gone.
    Silent,
    /// Its system has answered a probe since: the connection is still there.
    Present,
    /// It has sent its FIN, so long ago.
    Ended(Duration),
    /// It has reset the connection.
    Reset {
        /// Its FIN had come before.
        ended_before: bool,
    },
}

/// A command that comes after the reply, as a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// No command, or one that was sent before the reply could be read.
    Nothing,
    /// One that leaves time for a second thought about the file: a rename or a continuation may follow.
    SecondThought,
    /// The client goes on with something else.
    GoesOn,
}

/// The decision about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is not decided, and not claimable yet.
    Wait,
    /// Its sender has the reply.
    Confirm,
    /// Its sender never had the reply, and will send it again.
    Withdraw,
    /// Its sender is gone, and may have had the reply or not.
    Doubt,
}

impl Facts {
    /// Decides by the facts of this moment. `confirm_after` is the time after which a client that
    /// stays connected counts as having read the reply.
    ///
    /// The order of the arms matters: the first that applies decides. A sign of life is asked
    /// first, because it came before whatever has happened to the connection since.
    pub(super) fn decide(self, confirm_after: Duration) -> Decision {
        use ReplySeen::{Acknowledged, Unacknowledged, Unwritten};
        let round_trips = self.round_trip * ROUND_TRIPS;
        match (self.reply, self.client) {
            // It came before whatever has happened to the connection since.
            (Acknowledged, _) if self.sign == Sign::GoesOn => Decision::Confirm,
            (Acknowledged, PeerState::Reset { .. }) => Decision::Doubt,
            (Unwritten, PeerState::Reset { .. }) => Decision::Withdraw,
            // A FIN acknowledges all that came before it: the client was closed when the reply came.
            (Unacknowledged, PeerState::Reset { ended_before: true }) => Decision::Withdraw,
            // The acknowledgement may have been lost, or dropped with the reset, and the reset may have taken its time.
            (Unacknowledged, PeerState::Reset { ended_before: false }) => Decision::Doubt,
            (Acknowledged, PeerState::Present) if self.since_reply >= confirm_after => Decision::Confirm,
            // A reset may have been lost: nothing sends it again until it is asked for.
            (Acknowledged, PeerState::Silent) if self.since_reply >= UNREAD_AFTER => Decision::Doubt,
            // A proxy passes a reset on that follows an end, later than two round trips to it: so the whole time is
            // waited.
            (Acknowledged, PeerState::Ended(ago)) if self.since_reply >= confirm_after && ago >= round_trips => {
                Decision::Confirm
            }
            // No arm above applies: the time is not over, or the reset that may follow a FIN can
            // still come.
            (Acknowledged, _) => Decision::Wait,
            (Unwritten | Unacknowledged, _) if self.since_reply >= UNREAD_AFTER => Decision::Doubt,
            (Unwritten | Unacknowledged, _) => Decision::Wait,
        }
    }
}

impl Sign {
    /// Returns the sign that a command gives of the file `name`. `path_of` makes an absolute path
    /// of a name that a client gives.
    ///
    /// A command that only prepares or asks may belong to a correction of this file, so it confirms
    /// nothing yet. Every command that is not named here confirms: a new verb that prepares
    /// something must be added, or it confirms the file before it.
    pub(super) fn of(command: &Command<'_>, name: &str, path_of: impl Fn(&str) -> Option<String>) -> Self {
        let is_same = |given| path_of(given).is_some_and(|path| path.trim_start_matches('/') == name);
        match command {
            Command::Type(_)
            | Command::Pasv
            | Command::Epsv(_)
            | Command::Port(_)
            | Command::Eprt(_)
            | Command::Rest(_)
            | Command::Allo(_)
            | Command::Size(_)
            | Command::Mdtm(_)
            | Command::Mfmt(_)
            | Command::Noop
            | Command::Rnfr(_) => Self::SecondThought,
            // It may have been meant for the upload, whose reply it has crossed.
            Command::Abor => Self::SecondThought,
            Command::Stor(given) | Command::Appe(given) if is_same(given) => Self::SecondThought,
            // On purpose the default: also a command that we do not know was sent by a client that
            // went on.
            _ => Self::GoesOn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIRM_AFTER: Duration = Duration::from_secs(2);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn each_row_of_facts_has_its_decision() {
        use Decision::{Confirm, Doubt, Wait, Withdraw};
        use PeerState::{Ended, Present, Reset, Silent};
        use ReplySeen::{Acknowledged, Unacknowledged, Unwritten};
        use Sign::{GoesOn, Nothing, SecondThought};
        const RESET: PeerState = Reset { ended_before: false };
        const ENDED_AND_RESET: PeerState = Reset { ended_before: true };
        for (reply, client, sign, since_reply, decision) in [
            // The client goes on after the reply, whatever happens to it then.
            (Acknowledged, Present, GoesOn, 0, Confirm),
            (Acknowledged, Ended(ms(0)), GoesOn, 0, Confirm),
            (Acknowledged, RESET, GoesOn, 0, Confirm),
            // It has time for a second thought, and not more than the queue's time.
            (Acknowledged, Present, SecondThought, 1999, Wait),
            (Acknowledged, Present, SecondThought, 2000, Confirm),
            // Nothing comes, or what was sent ahead.
            (Acknowledged, Present, Nothing, 1999, Wait),
            (Acknowledged, Present, Nothing, 2000, Confirm),
            // Nobody has answered a probe: its reset may have been lost.
            (Acknowledged, Silent, SecondThought, 2000, Wait),
            (Acknowledged, Silent, Nothing, 29_999, Wait),
            (Acknowledged, Silent, Nothing, 30_000, Doubt),
            (Acknowledged, Silent, GoesOn, 0, Confirm),
            // A clean end, and one that a reset may still follow.
            (Acknowledged, Ended(ms(1000)), Nothing, 1999, Wait),
            (Acknowledged, Ended(ms(1000)), Nothing, 2000, Confirm),
            (Acknowledged, Ended(ms(199)), Nothing, 2000, Wait),
            (Acknowledged, Ended(ms(200)), Nothing, 2000, Confirm),
            // A reset after the acknowledgement.
            (Acknowledged, RESET, Nothing, 0, Doubt),
            (Acknowledged, RESET, SecondThought, 1000, Doubt),
            (Acknowledged, ENDED_AND_RESET, Nothing, 0, Doubt),
            // The reply has not arrived: no command says that it was read.
            (Unacknowledged, Present, GoesOn, 0, Wait),
            (Unacknowledged, Present, Nothing, 2000, Wait),
            (Unacknowledged, Present, Nothing, 29_999, Wait),
            (Unacknowledged, Present, Nothing, 30_000, Doubt),
            (Unacknowledged, Ended(ms(29_000)), Nothing, 29_999, Wait),
            (Unacknowledged, Ended(ms(29_000)), Nothing, 30_000, Doubt),
            (Unwritten, Present, GoesOn, 0, Wait),
            (Unwritten, Present, Nothing, 30_000, Doubt),
            (Unwritten, Ended(ms(0)), Nothing, 0, Wait),
            // A reset instead of an acknowledgement.
            (Unwritten, RESET, Nothing, 0, Withdraw),
            (Unacknowledged, ENDED_AND_RESET, Nothing, 0, Withdraw),
            (Unacknowledged, ENDED_AND_RESET, GoesOn, 0, Withdraw),
            // However late the reset is: the acknowledgement may have been lost on its way.
            (Unacknowledged, RESET, Nothing, 0, Doubt),
            (Unacknowledged, RESET, Nothing, 29_999, Doubt),
        ] {
            let facts = Facts { reply, client, sign, since_reply: ms(since_reply), round_trip: ms(100) };
            assert_eq!(facts.decide(CONFIRM_AFTER), decision, "{facts:?}");
        }
    }

    #[test]
    fn commands_between_two_uploads_leave_time() {
        let sign = |line: &str| Sign::of(&Command::parse(line), "in/a", |given| Some(format!("/in/{given}")));
        for line in [
            "TYPE I", "PASV", "epsv", "PORT x", "EPRT x", "REST 5", "ALLO 5", "SIZE a", "MDTM a", "MFMT x a", "NOOP",
            "RNFR a", "ABOR", "STOR a", "APPE a",
        ] {
            assert_eq!(sign(line), Sign::SecondThought, "{line}");
        }
        for line in ["STOR b", "APPE in/a", "STOU", "QUIT", "RNTO b", "LIST", "DELE a", "CWD /", "RETR a", "XYZZY"] {
            assert_eq!(sign(line), Sign::GoesOn, "{line}");
        }
    }
}
