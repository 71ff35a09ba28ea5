//! Files on their way through requests and answers, for web services and the portal alike.
//!
//! A request has a [`Login`], however its partner came in. `body` takes the file that a request has: `receiving` reads it,
//! within the bounds of transfers, and `taking` gives it to `ingest`; `receipt` is the answer when it is kept. `download`
//! gives a file, which `sending` moves. Whatever is refused is a [`Problem`].

pub(super) mod body;
pub(super) mod download;
mod login;
mod problem;
pub(super) mod query;
pub(super) mod receipt;
mod receiving;
mod sending;
mod taking;

pub(super) use login::Login;
pub(super) use problem::{Problem, ProblemBody};
pub(super) use receipt::{FileBody, ReceiptBody};
