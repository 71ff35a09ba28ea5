//! Whether files can be taken in: the server knows, and the web only says so.

/// Asked at every `/readyz`.
pub trait Readiness: Send + Sync + 'static {
    /// What keeps files from being taken in, in words for an operator; nothing: all is well. A closed gate is no fault.
    fn faults(&self) -> Vec<String>;
}

impl<F: Fn() -> Vec<String> + Send + Sync + 'static> Readiness for F {
    fn faults(&self) -> Vec<String> {
        self()
    }
}
