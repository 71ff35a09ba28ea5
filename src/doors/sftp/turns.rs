//! Requests that touch the same names are done in the order in which they came; all others at the same time.
//!
//! So a client that sends RENAME and then OPEN of the new name without waiting gets what it means,
//! and one that writes a hundred files at once is not slowed down.

use tokio_util::sync::{CancellationToken, DropGuard};

/// The names that requests under way touch.
#[derive(Debug, Default)]
pub(super) struct Turns {
    under_way: Vec<(Vec<String>, CancellationToken)>,
}

/// A request's turn. Others may have theirs when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    before: Vec<CancellationToken>,
    _done: DropGuard,
}

impl Turns {
    /// A turn behind every earlier one that touches one of these names, something above it or something below it.
    pub(super) fn take(&mut self, names: Vec<String>) -> Turn {
        self.under_way.retain(|(_, done)| !done.is_cancelled());
        let touched = |others: &[String]| others.iter().any(|other| names.iter().any(|name| touch(name, other)));
        let before = self.under_way.iter().filter(|(others, _)| touched(others)).map(|(_, done)| done.clone());
        let before = before.collect();
        let done = CancellationToken::new();
        self.under_way.push((names, done.clone()));
        Turn { before, _done: done.drop_guard() }
    }
}

impl Turn {
    /// Waits until it has come.
    /// Cancel safe: what was waited for is not waited for again.
    pub(super) async fn come(&mut self) {
        for before in self.before.drain(..) {
            before.cancelled().await;
        }
    }
}

/// Returns whether two paths are the same, or one lies below the other. Both are absolute and without `.` and `..`.
fn touch(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    match long.strip_prefix(short) {
        Some(rest) => rest.is_empty() || rest.starts_with('/') || short == "/",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_touch_above_and_below() {
        for (one, other, touches) in [
            ("/a", "/a", true),
            ("/a", "/a/b", true),
            ("/a/b", "/a", true),
            ("/", "/x", true),
            ("/a", "/ab", false),
            ("/a/b", "/a/c", false),
        ] {
            assert_eq!(touch(one, other), touches, "{one} {other}");
        }
    }

    #[tokio::test]
    async fn a_turn_comes_when_those_before_are_done() {
        let mut turns = Turns::default();
        let first = turns.take(vec!["/a".to_owned()]);
        let mut other = turns.take(vec!["/b".to_owned()]);
        other.come().await;
        let mut second = turns.take(vec!["/a".to_owned(), "/c".to_owned()]);
        let mut third = turns.take(vec!["/c/d".to_owned()]);
        let waits = tokio::time::timeout(std::time::Duration::from_millis(20), third.come()).await;
        assert!(waits.is_err(), "it is behind the second");
        drop(first);
        second.come().await;
        drop(second);
        let mut fourth = turns.take(vec!["/c/d/e".to_owned()]);
        drop(third);
        fourth.come().await;
        assert_eq!(turns.under_way.len(), 3, "those that were over before are forgotten");
    }
}
