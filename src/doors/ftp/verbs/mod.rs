//! The verbs of the protocol, each with its like. A new one is a variant in `command`, an arm in `dispatch`, and a
//! function here.

mod data_port;
mod digests;
mod facts;
mod login;
mod names;
pub(super) mod parameters;
mod protect;
mod retrieve;
mod server;
pub(super) mod store;
