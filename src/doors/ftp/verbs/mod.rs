//! The verbs of the protocol: a file for each, or for those that are one thing together.
//!
//! A new verb needs, beside a function here:
//! - a variant of `Command` and a line in one of its `of_*` functions (`command.rs`); there also a
//!   place in `needs_name` if it is nothing without a name, and in `keeps_position` if it may stand
//!   between REST and the transfer;
//! - an arm in `dispatch.rs`: in `any_time` if it needs no login, else in `dispatch` or `answer`;
//! - a place in the texts of FEAT and HELP (`feat.rs`), which are written by hand;
//! - a decision in `Sign::of` (`confirmation.rs`): a verb that is not named there counts as a sign
//!   that the client has read the reply before, and makes its file claimable.

mod auth;
mod cwd;
mod facts;
pub(super) mod feat;
mod hash;
mod list;
mod login;
mod mfmt;
mod mkd;
pub(super) mod mode;
pub(super) mod opts;
mod pasv;
mod port;
mod prot;
mod rest;
mod retr;
mod rnfr;
mod site;
mod stat;
pub(super) mod stor;
