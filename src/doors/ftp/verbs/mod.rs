//! The verbs of the protocol, one file for each group. Transfers themselves are in `moving`.

mod data_channel;
mod digests;
mod facts;
mod login;
mod names;
pub(super) mod parameters;
mod protection;
mod server;
