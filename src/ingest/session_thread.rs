//! Threads on which many sessions run: the one place where a door's thread meets the queue.

use tokio::runtime::Handle;

/// Prepares the thread that calls it for many sessions, all driven by this runtime on this thread: what is accepted for
/// several of them with one sync wakes the thread once, not once for each.
pub fn prepare_session_thread(runtime: &Handle) {
    forebay_queue::gather_answers(runtime);
}
