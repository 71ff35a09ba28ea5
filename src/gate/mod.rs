//! The gate: decides at each instant whether files may be processed and the web faces answer.
//!
//! It is computed from the clock, the schedule and the operators' overrides at every claim and again at every
//! hand-over ([`evaluate`]), never from events that can be missed. [`Gate`] is the live one: it watches the schedule's
//! file, remembers overrides and the last good schedule, and makes closing wait for hand-overs that are beginning.
//!
//! Where to look: the form of the file in `schedule`, times on the wall in `wall`, repetition in `recurrence`, what
//! overrides mean in `overrides` and `scope_line`, reloading in `source`, what partners read in `notices`.

mod calendar;
mod clock_trust;
mod fault;
mod live;
mod notices;
mod operators;
mod options;
mod overrides;
mod recurrence;
mod schedule;
mod scope_line;
mod settled;
mod snapshot;
mod source;
mod state;
mod status;
mod store;
mod timeline;
mod turnstile;
mod wall;
mod watch;
mod window;
mod zone;

pub use calendar::calendar;
pub use fault::Fault;
pub use live::{Gate, GateError};
pub use notices::{deferral, notice};
pub use operators::Until;
pub use options::{AtClose, Options};
pub use overrides::{Action, Override};
pub use recurrence::Recurrence;
pub use schedule::{FILE_BYTES, MESSAGE, REPEATING, Schedule, parse_schedule};
pub use state::{Cause, Closure, Scope, State, evaluate};
pub use status::{Jumped, Occurrence, ScheduleState, ScheduleStatus, ScopeStatus, Span, Status};
pub use store::look;
pub use turnstile::{Passage, Permit};
pub use window::{Length, WEB, Window};
pub use zone::fixed_zone;
