//! The embedded queue through its contract, on a real disk.

#![allow(clippy::unwrap_used, reason = "a test may expect")]

mod acting;
mod catalogue;
mod claims;
mod confirmation;
mod contents;
mod continuations;
mod damage;
mod format;
mod house;
mod idempotency;
mod origins;
mod reading;
mod replay;
mod transitions;
