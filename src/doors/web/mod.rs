//! The web faces: what a browser, a web service and a watchdog see.
//!
//! While the gate is closed for the web, every request is answered 503 Service Unavailable with the announcement in the
//! form that the caller speaks, and with `Retry-After`. While it is open there is a plain status page at `/` and the
//! calendar of windows at `/calendar.ics`. `/healthz` and `/readyz` answer in both, and on a listener of their own, if one
//! is configured: what floods the one does not reach the other.
//!
//! # Trust
//! Callers are strangers. Nothing they send is stored or shown; heads, bodies, times and connections are bounded. What
//! operators wrote into a window is shown, escaped for each form.

mod announcement;
mod answer;
mod dialect;
mod door;
mod escape;
mod kept;
mod line_ends;
mod options;
mod page;
mod places;
mod problem;
mod readiness;
mod soap;
mod status;

pub use door::{BindError, Door};
pub use options::{HealthOptions, Options};
pub use readiness::Readiness;
