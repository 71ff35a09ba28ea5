//! Answers that come together: those of one group for one thread wake that thread once.
//!
//! A wake of a task on another thread is a system call of its own each time. So the committer gives each thread that has
//! a mailbox all its answers of a group at once, and a task of that thread hands them on, which costs no system call.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::command::Change;

/// Changes that know their outcomes.
type Answered = Vec<Box<dyn Change>>;

thread_local! {
    static HERE: RefCell<Option<Arc<Mailbox>>> = const { RefCell::new(None) };
}

/// Has the answers for askers on this thread come together, once for each group, by a task of this
/// runtime, which must be one that this thread alone drives. For threads with many sessions. When
/// the runtime ends, answers go to each asker by itself again.
pub fn gather_answers(runtime: &Handle) {
    let mailbox = Arc::new(Mailbox::default());
    runtime.spawn(Carrier(mailbox.clone()));
    HERE.set(Some(mailbox));
}

/// Answers that are on their way to the askers of one thread.
#[derive(Default)]
pub(super) struct Mailbox(Mutex<Letters>);

#[derive(Default)]
struct Letters {
    waiting: Answered,
    carrier: Option<Waker>,
    is_closed: bool,
}

impl Mailbox {
    /// The mailbox of this thread, if it has one.
    pub(super) fn here() -> Option<Arc<Self>> {
        HERE.with_borrow(Clone::clone)
    }

    /// Has these changes answered on the thread of the mailbox.
    fn put(&self, mut answered: Answered) {
        let mut letters = self.0.lock();
        if letters.is_closed {
            drop(letters);
            return answer_here(answered);
        }
        letters.waiting.append(&mut answered);
        let carrier = letters.carrier.take();
        drop(letters);
        // Without one the carrier has not looked yet, or is just looking again.
        if let Some(carrier) = carrier {
            carrier.wake();
        }
    }
}

/// Answers these changes: those of each mailbox together, and the others on the spot.
pub(super) fn answer_all(changes: Answered) {
    let mut sorted: Vec<(Arc<Mailbox>, Answered)> = Vec::new();
    for change in changes {
        let Some(mailbox) = change.mailbox() else {
            change.answer();
            continue;
        };
        match sorted.iter_mut().find(|(known, _)| Arc::ptr_eq(known, mailbox)) {
            Some((_, letters)) => letters.push(change),
            None => sorted.push((mailbox.clone(), vec![change])),
        }
    }
    for (mailbox, letters) in sorted {
        mailbox.put(letters);
    }
}

fn answer_here(changes: Answered) {
    changes.into_iter().for_each(Change::answer);
}

/// The task that hands a mailbox's answers on.
struct Carrier(Arc<Mailbox>);

impl Future for Carrier {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut letters = self.0.0.lock();
        // Under the lock: whoever puts something in behind this look finds whom to wake.
        letters.carrier = Some(context.waker().clone());
        let waiting = std::mem::take(&mut letters.waiting);
        drop(letters);
        answer_here(waiting);
        Poll::Pending
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        let mut letters = self.0.0.lock();
        letters.is_closed = true;
        let waiting = std::mem::take(&mut letters.waiting);
        drop(letters);
        answer_here(waiting);
    }
}
