//! What is counted as it happens.

use std::{
    fmt,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    histogram::Histogram,
    labels::{Content, Door, Label, LoginFailure, Refused, SyncedFile, Volume},
};

/// The counts of a server, from its start on. Shared in an [`Arc`].
#[derive(Debug, Default)]
pub struct Metrics {
    pub(super) accepted: By<Door, AtomicU64>,
    pub(super) refused: By<Door, By<Refused, AtomicU64>>,
    pub(super) cut: By<Door, AtomicU64>,
    pub(super) received_bytes: By<Door, AtomicU64>,
    pub(super) commits: By<Content, Histogram>,
    pub(super) syncs: By<Volume, By<SyncedFile, Histogram>>,
    pub(super) login_failures: By<Door, By<LoginFailure, AtomicU64>>,
    pub(super) connections: By<Door, Connections>,
}

/// The connections of a door.
#[derive(Debug, Default)]
pub(super) struct Connections {
    pub(super) open: AtomicU64,
    pub(super) admitted: AtomicU64,
    pub(super) refused: AtomicU64,
}

impl Metrics {
    /// An upload was accepted. Its bytes were durable so long after all of them had come.
    pub fn accepted(&self, door: Door, content: Content, took: Duration) {
        add(self.accepted.of(door), 1);
        self.commits.of(content).observe(took);
    }

    /// An upload was refused.
    pub fn refused(&self, door: Door, why: Refused) {
        add(self.refused.of(door).of(why), 1);
    }

    /// An upload did not arrive whole.
    pub fn cut(&self, door: Door) {
        add(self.cut.of(door), 1);
    }

    /// Bytes of uploads have come, whatever becomes of them.
    pub fn received(&self, door: Door, bytes: u64) {
        add(self.received_bytes.of(door), bytes);
    }

    /// Something was synced, and that took so long.
    pub fn synced(&self, volume: Volume, what: SyncedFile, took: Duration) {
        self.syncs.of(volume).of(what).observe(took);
    }

    /// A login has failed.
    pub fn login_failed(&self, door: Door, why: LoginFailure) {
        add(self.login_failures.of(door).of(why), 1);
    }

    /// A connection was turned away for want of a place.
    pub fn connection_refused(&self, door: Door) {
        add(&self.connections.of(door).refused, 1);
    }

    /// A connection was admitted. It is open until what this gives is dropped.
    #[must_use]
    pub fn connected(self: &Arc<Self>, door: Door) -> Connected {
        let connections = self.connections.of(door);
        add(&connections.admitted, 1);
        add(&connections.open, 1);
        Connected { metrics: Arc::clone(self), door }
    }
}

/// A connection that is open.
#[derive(Debug)]
pub struct Connected {
    metrics: Arc<Metrics>,
    door: Door,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.metrics.connections.of(self.door).open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add(to: &AtomicU64, more: u64) {
    to.fetch_add(more, Ordering::Relaxed);
}

/// One of something for each value of a label.
pub(super) struct By<L, T> {
    each: Box<[T]>,
    label: PhantomData<L>,
}

impl<L: Label, T> By<L, T> {
    pub(super) fn of(&self, label: L) -> &T {
        &self.each[label.place()]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (L, &T)> {
        L::ALL.iter().copied().zip(&self.each)
    }
}

impl<L: Label, T: Default> Default for By<L, T> {
    fn default() -> Self {
        Self { each: L::ALL.iter().map(|_| T::default()).collect(), label: PhantomData }
    }
}

impl<L, T: fmt::Debug> fmt::Debug for By<L, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.each.fmt(f)
    }
}
