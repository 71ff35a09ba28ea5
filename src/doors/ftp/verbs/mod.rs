//! The verbs of the protocol: a file for each, or for those that are one thing together. A new one is a variant in
//! `command`, an arm in `dispatch`, and a function here.

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
