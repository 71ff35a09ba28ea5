//! The part that doors with sessions have in common. A door adds its wire format and its evidence, and nothing else.
//!
//! A connection goes through these modules in this order: `listening` accepts it, `accept` puts it on one of the
//! `session_threads`, `admission` reads the header of a `proxy` and counts the client against the limits, and the door
//! serves it on its `link`. The partner who logs in gets a `partner_session` from the `context` of the door.
//! `session_time` says how long the session may wait, and `end_requests` whether others want it to end. Uploads begin
//! through `busy`; `transfer_clock` limits the time of each transfer. `words` has the sentences that partners are told,
//! `maintenance` what they should know of windows, and `paths` the rules for the names that they give.
//!
//! # Trust
//! Connections are counted before the first byte is read, those of a proxy in its own place until it has named its
//! client. What fails inside is for the log: no sentence here tells a partner of it.

mod accept;
mod admission;
mod busy;
mod context;
mod counted;
mod end_requests;
mod link;
mod listening;
mod maintenance;
mod partner_session;
pub(super) mod paths;
pub(super) mod proxy;
mod session_threads;
mod session_time;
mod transfer_clock;
pub(super) mod words;

pub(super) use accept::{AcceptLoop, SessionDoor};
pub(super) use admission::Accepted;
pub(super) use context::{DoorContext, DoorServices, DoorSettings};
pub(super) use end_requests::EndRequests;
pub(super) use link::{Link, Shutdown};
pub(super) use listening::{KEEPALIVE, Listeners, prepare};
pub(super) use partner_session::PartnerSession;
pub(super) use session_time::SessionTime;
pub(super) use transfer_clock::TransferTime;

pub use transfer_clock::TransferLimits;
