//! The embedded queue through its contract, on a real disk.

mod acting;
mod claims;
mod damage;
mod format;
mod house;
mod reading;
mod replay;
mod transitions;
