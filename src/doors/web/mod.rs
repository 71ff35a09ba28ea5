//! The web faces: what a browser, a web service and a watchdog see.
//!
//! While the gate is closed for the web, every request is answered 503 Service Unavailable with the announcement in the
//! form that the caller speaks, and with `Retry-After`, before anyone logs in. While it is open there is the portal, whose
//! `/` tells the status to everybody (`portal`), and the services below `/v1/` (`service`). `/healthz`, `/readyz`, the calendar
//! of windows at `/maintenance.ics` and the files that pages are made of are answered in both; health also on a listener of
//! its own, if one is configured: what floods the one does not reach the other.
//! `/metrics` is on a listener of its own alone.
//!
//! # Trust
//! Callers are strangers until they have logged in, with each request anew or by the cookie of a browser. Heads, bodies, times and connections are
//! bounded. Passwords are taken over TLS, or from this machine. What operators wrote into a window is shown, escaped for
//! each form.

mod announcement;
mod answer;
mod apart;
mod cached;
mod context;
mod dialect;
mod door;
mod escape;
mod exchange;
mod faces;
mod health;
mod local_time;
mod metrics;
mod options;
mod pages;
mod portal;
mod problem;
mod readiness;
mod routes;
mod service;
mod soap;
mod status;

pub use door::{BindError, Door};
pub use health::HealthDoor;
pub use metrics::{MetricsDoor, Scrape};
pub use options::{HealthOptions, MetricsOptions, Options, Tls};
pub use readiness::Readiness;
