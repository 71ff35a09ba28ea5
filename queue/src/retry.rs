//! When to try again.

/// Exponential back-off with jitter.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff;
