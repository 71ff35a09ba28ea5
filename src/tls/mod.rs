//! TLS of listeners: certificate, key and authorities in PEM files, loaded at the start and again when they change.
//!
//! # Trust
//! Certificates of clients are believed as far as the authorities go that were configured, and no further. A pair that was
//! made here proves nothing to anyone who has not been given it. Private keys are written with mode 0600.

mod files;
mod load;
mod look;
mod made;
mod reloaded;

pub use files::TlsFiles;
pub use load::{CertificateInfo, TlsError};
pub use look::Look;
pub use reloaded::Reloaded;
