//! Partners: accounts, what they log in with, policies and limits, shared by all doors.
//!
//! [`Partners`] is what doors ask. A connection is admitted before anything is read from it, a login is verified, a
//! session is opened; the tickets that are handed out give their place back when they are dropped.
//!
//! # Trust
//! Names, passwords and addresses come from strangers. An unknown name, a disabled account and a wrong password cost
//! the same argon2id run and get the same answer; failures make the next try wait, for the name and for the address.

mod account;
mod accounts;
mod bandwidth;
mod certificate;
mod connections;
mod credentials;
mod error;
mod former;
mod keeping;
mod key;
mod key_file;
mod limits;
mod login;
mod memory_budget;
mod name;
mod network;
mod policy;
mod registry;
mod renames;
mod resumption;
mod sessions;
mod startups;
mod temporary;
#[cfg(test)]
mod tests;
mod token_login;

pub use account::{Account, AccountToken};
pub use accounts::Listing;
pub use certificate::{BadBound, Bound, ClientCertificate};
pub use connections::{ConnectionTicket, PlacesApart};
pub use credentials::Credentials;
pub use error::PartnersError;
pub use key::{AuthorizedKey, BadKey};
pub use key_file::one_key;
pub use limits::Limits;
/// The section `[limits]`.
pub use limits::Limits as Options;
pub use login::{Denied, Partner, Proof};
pub use memory_budget::{MemoryPermit, PartnerMemory};
pub use name::{BadName, PartnerName};
pub use network::{BadNetwork, Network};
pub use policy::{Authentication, CloseNotify, Complete, DataResumption, Delete, Override, Policies, Policy};
pub use registry::Partners;
pub use renames::LateRenames;
pub use resumption::{Habit, Resumes};
pub use sessions::{SessionStatus, SessionTicket};
pub use startups::{BadStartups, MaxStartups};
pub use temporary::TemporaryNames;

pub use crate::{
    credentials::{TOKEN_PREFIX, generate_password},
    origin::Origin,
};
