//! HTTP/1.1 on connections of others: bounded heads, bodies and times, strict line ends, headers that guard an answer,
//! sessions of browsers and the files that pages are made of.
//!
//! # Trust
//! Whoever connects is a stranger. What another server before or behind this one may read otherwise is refused, and the
//! connection ends: bare line feeds in a head, a length beside a transfer coding, no Host or two.

mod assets;
mod body;
mod connection;
mod content_digest;
mod credentials;
mod headers;
mod heads;
mod host;
mod multipart;
mod range;
mod sessions;

pub use assets::{Asset, Assets};
pub use body::{Lent, Rest};
pub use connection::{Bounds, Transfer, Transfers, serve};
pub use content_digest::{BadDigest, ContentDigest};
pub use credentials::Credentials;
pub use headers::{guard_data, guard_page};
pub use host::{BadHost, HostName, Hosts};
pub use multipart::{BadForm, Event, Multipart, PartHead};
pub use range::Part;
pub use sessions::{CookieForm, Held, SessionBounds, Sessions};
