//! One piece of work for all who come together.
//!
//! Who comes while a round runs waits for the next. The first of a round leads it: it does the work for all of them, and
//! the others learn what became of it. Rounds follow each other; no two run at once.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// Rounds of members `M`, whose work may fail with `E`.
#[derive(Debug)]
pub(super) struct Rounds<M, E> {
    now: Mutex<Now<M, E>>,
}

/// The round that runs, if one does, and the one that gathers.
#[derive(Debug)]
struct Now<M, E> {
    running: bool,
    gathering: Arc<Round<M, E>>,
}

#[derive(Debug)]
struct Round<M, E> {
    progress: Mutex<Progress<M, E>>,
    /// It is the first member's turn.
    turn: Condvar,
    over: Condvar,
}

#[derive(Debug)]
struct Progress<M, E> {
    members: Vec<M>,
    phase: Phase<E>,
}

#[derive(Debug)]
enum Phase<E> {
    Gathering,
    Running,
    /// None: its leader was cut short, and nobody knows.
    Over(Option<Result<(), E>>),
}

impl<M, E> Default for Rounds<M, E> {
    fn default() -> Self {
        Self { now: Mutex::new(Now { running: false, gathering: Arc::default() }) }
    }
}

impl<M, E> Default for Round<M, E> {
    fn default() -> Self {
        let progress = Mutex::new(Progress { members: Vec::new(), phase: Phase::Gathering });
        Self { progress, turn: Condvar::new(), over: Condvar::new() }
    }
}

impl<M, E: Clone> Rounds<M, E> {
    /// Has `work` done for `member`, by itself or by the leader of its round. Blocks.
    ///
    /// # Errors
    /// What the work of the round failed with, or nothing when its leader was cut short by a panic.
    pub(super) fn enter(&self, member: M, work: impl FnOnce(Vec<M>) -> Result<(), E>) -> Result<(), Option<E>> {
        let (round, leads) = self.join(member);
        if !leads {
            return round.outcome();
        }
        let members = round.members();
        let mut end = End { rounds: self, round: &round, outcome: None };
        let outcome = work(members);
        end.outcome = Some(outcome.clone());
        outcome.map_err(Some)
    }

    /// Joins the round that gathers, and begins it when none runs. Gives whether the caller leads it.
    fn join(&self, member: M) -> (Arc<Round<M, E>>, bool) {
        let mut now = self.now.lock();
        let round = now.gathering.clone();
        let leads = round.add(member);
        if !now.running {
            now.begin();
        }
        (round, leads)
    }
}

impl<M, E> Now<M, E> {
    /// Lets the round that gathers run, if anybody waits for it.
    fn begin(&mut self) {
        self.running = !self.gathering.progress.lock().members.is_empty();
        if self.running {
            std::mem::take(&mut self.gathering).run();
        }
    }
}

impl<M, E> Round<M, E> {
    /// Adds a member. Returns true if it is the first, which leads the round.
    fn add(&self, member: M) -> bool {
        let mut progress = self.progress.lock();
        progress.members.push(member);
        progress.members.len() == 1
    }

    fn run(&self) {
        self.progress.lock().phase = Phase::Running;
        self.turn.notify_one();
    }

    /// For the leader: returns all members, once it is the round's turn. Nobody can join it from
    /// then on.
    fn members(&self) -> Vec<M> {
        let mut progress = self.progress.lock();
        while matches!(progress.phase, Phase::Gathering) {
            self.turn.wait(&mut progress);
        }
        std::mem::take(&mut progress.members)
    }

    fn end(&self, outcome: Option<Result<(), E>>) {
        self.progress.lock().phase = Phase::Over(outcome);
        self.over.notify_all();
    }
}

impl<M, E: Clone> Round<M, E> {
    fn outcome(&self) -> Result<(), Option<E>> {
        let mut progress = self.progress.lock();
        loop {
            match &progress.phase {
                Phase::Over(Some(outcome)) => return outcome.clone().map_err(Some),
                Phase::Over(None) => return Err(None),
                _ => self.over.wait(&mut progress),
            }
        }
    }
}

/// Ends a round, however its leader comes out of it, and begins the next.
struct End<'a, M, E> {
    rounds: &'a Rounds<M, E>,
    round: &'a Round<M, E>,
    outcome: Option<Result<(), E>>,
}

impl<M, E> Drop for End<'_, M, E> {
    fn drop(&mut self) {
        // The next round begins before the members of this one are woken: those of the next need
        // not wait for them.
        self.rounds.now.lock().begin();
        self.round.end(self.outcome.take());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;

    type Numbers = Rounds<usize, &'static str>;

    #[test]
    fn whoever_is_let_go_was_served() {
        let (rounds, served) = (Numbers::default(), Mutex::new(HashSet::new()));
        thread::scope(|scope| {
            for caller in 0..16 {
                let (rounds, served) = (&rounds, &served);
                scope.spawn(move || {
                    for at in 0..200 {
                        let mine = caller * 1_000 + at;
                        let outcome = rounds.enter(mine, |members| {
                            served.lock().extend(members);
                            Ok(())
                        });
                        assert_eq!(outcome, Ok(()));
                        assert!(served.lock().contains(&mine), "let go before it was served");
                    }
                });
            }
        });
        assert_eq!(served.lock().len(), 3_200);
        assert!(!rounds.now.lock().running);
    }

    /// What becomes of four callers of whom the first waits until the others have come, each round ending as `end` says.
    fn share(end: impl Fn(usize) -> Result<(), &'static str> + Sync) -> Vec<Option<Result<(), Option<&'static str>>>> {
        let (rounds, round) = (Numbers::default(), AtomicUsize::new(0));
        let gathered = || rounds.now.lock().gathering.progress.lock().members.len();
        let work = |_| {
            let mine = round.fetch_add(1, Ordering::SeqCst);
            while mine == 0 && gathered() < 3 {
                thread::yield_now();
            }
            end(mine)
        };
        let outcomes = thread::scope(|scope| {
            let first = scope.spawn(|| rounds.enter(0, work));
            while !rounds.now.lock().running {
                thread::yield_now();
            }
            let others = (1..4).map(|member| (member, &rounds, &work));
            let others: Vec<_> =
                others.map(|(member, rounds, work)| scope.spawn(move || rounds.enter(member, work))).collect();
            [first].into_iter().chain(others).map(|caller| caller.join().ok()).collect()
        });
        assert!(!rounds.now.lock().running);
        assert_eq!(round.into_inner(), 2, "the first alone, and then the others together");
        outcomes
    }

    #[test]
    fn a_failure_is_all_its_members_and_nobody_elses() {
        let outcomes = share(|round| if round == 1 { Err("broken") } else { Ok(()) });
        assert_eq!(outcomes, [&[Some(Ok(()))][..], &[Some(Err(Some("broken"))); 3]].concat());
    }

    #[test]
    fn nobody_is_let_go_as_served_when_the_leader_is_cut_short_and_the_next_round_runs() {
        let outcomes = share(|round| if round == 0 { panic!("on purpose") } else { Ok(()) });
        assert_eq!(outcomes, [None, Some(Ok(())), Some(Ok(())), Some(Ok(()))]);
        let outcomes = share(|round| if round == 1 { panic!("on purpose") } else { Ok(()) });
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_none()).count(), 1, "{outcomes:?}");
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Some(Err(None))).count(), 2, "{outcomes:?}");
    }
}
