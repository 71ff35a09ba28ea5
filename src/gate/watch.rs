//! Wakes the gate when something happens in the directory of the schedule's file.
//!
//! The directory, because editors rename a new file over the old one. What the system does not tell (a network file
//! system, a link's target) is found by [`Gate::tick`] within a second.

use std::{path::Path, sync::Arc};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tracing::warn;

use super::Gate;

/// Begins to watch; None when there is nothing to watch, or the system cannot.
pub(super) fn begin(gate: &Arc<Gate>) -> Option<RecommendedWatcher> {
    let file = gate.options.file.as_deref()?;
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Weak: the gate owns the watcher, and a strong one would keep both for ever.
    let gate = Arc::downgrade(gate);
    let wake = move |event: notify::Result<Event>| {
        // Our own reading makes access events.
        let ours = matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(_)));
        if !ours && let Some(gate) = gate.upgrade() {
            gate.tick();
        }
    };
    let watching = notify::recommended_watcher(wake).and_then(|mut watcher| {
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watching.inspect_err(|error| warn!(%error, "cannot watch the directory of the schedule: polling every second")).ok()
}
