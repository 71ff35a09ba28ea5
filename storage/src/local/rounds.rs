//! Files enter the spool in rounds, so that those who come together are made durable by one commit of the file system.
//!
//! Who comes while a round runs waits for the next. A round begins with all its names, and then all its files and their
//! directories are synced side by side: by then everything that must be durable has happened, and a journalling file
//! system writes it down once. The next begins when the names are durable. Without rounds each sync of the directory
//! would also wait for names that came a moment later, and the file system would commit as often as there are files.

use std::{path::PathBuf, sync::Arc};

use parking_lot::{Condvar, Mutex};

use crate::{FileId, Result, StorageError};

/// What a round does with its members. Blocks.
pub(super) trait Entering: Sync {
    /// Gives the file its name.
    fn name(&self, member: &Member) -> Result<()>;
    /// Makes the names of all these durable.
    fn settle_names(&self, members: &[Member]) -> Result<()>;
}

/// A file that wants to enter.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: FileId,
    /// Its name until then.
    pub(super) from: PathBuf,
}

/// The round that runs and the one that gathers.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    running: bool,
    gathering: Arc<Round>,
}

#[derive(Debug, Default)]
struct Round {
    progress: Mutex<Progress>,
    /// It is the first member's turn.
    led: Condvar,
    /// The names are given, and then: they are durable or lost.
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    phase: Phase,
    members: Vec<Member>,
    /// Of each member, until it takes it.
    named: Vec<Option<Result<()>>>,
    /// Not before it is known: a leader that is cut short has made nothing durable.
    names_are_durable: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Gathering,
    /// The first member gives the names.
    Naming,
    Syncing,
    /// It is known whether the names are durable.
    Over,
}

impl Rounds {
    /// Names the file with the next round and has `sync` make it durable while the names are. Ok: all of it is durable.
    /// When the first is `false` nothing has the new name.
    ///
    /// The writing of its bytes should have begun: what is only then given its blocks needs another commit.
    pub(super) fn enter(
        &self,
        member: Member,
        house: &dyn Entering,
        sync: impl FnOnce() -> Result<()>,
    ) -> Result<(), (bool, StorageError)> {
        let (round, place) = self.join(member);
        let sync = |round: &Round| {
            let named = round.progress.lock().named[place].take().unwrap_or_else(|| Err(lost()));
            named.map_err(|error| (false, error))?;
            sync().map_err(|error| (true, error))
        };
        if place == 0 {
            round.wait_for(Phase::Naming, &round.led);
            self.lead(&round, house, sync)?;
        } else {
            round.wait_for(Phase::Syncing, &round.moved);
            sync(&round)?;
            round.wait_for(Phase::Over, &round.moved);
        }
        match round.progress.lock().names_are_durable {
            true => Ok(()),
            false => Err((true, lost())),
        }
    }

    /// Joins the round that gathers, and begins it when none runs.
    fn join(&self, member: Member) -> (Arc<Round>, usize) {
        let mut now = self.now.lock();
        let round = now.gathering.clone();
        let place = round.add(member);
        if !now.running {
            now.running = true;
            now.gathering = Arc::default();
            round.turn_to(Phase::Naming);
        }
        (round, place)
    }

    /// Gives the names, syncs the leader's own file while the others sync theirs, and makes the names durable.
    fn lead<T>(&self, round: &Round, house: &dyn Entering, sync: impl FnOnce(&Round) -> T) -> T {
        let _next = Next { rounds: self, round };
        let named = round.name_all(house);
        // First: with its bytes on the disk all that a commit must hold is there, and one serves both.
        let synced = sync(round);
        if named.is_empty() || house.settle_names(&named).is_ok() {
            round.progress.lock().names_are_durable = true;
        }
        synced
    }

    /// The next round, if anybody waits for it.
    fn begin_next(&self) {
        let mut now = self.now.lock();
        let next = std::mem::take(&mut now.gathering);
        now.running = !next.progress.lock().members.is_empty();
        if now.running {
            next.turn_to(Phase::Naming);
        }
    }
}

impl Round {
    fn add(&self, member: Member) -> usize {
        let mut progress = self.progress.lock();
        progress.members.push(member);
        progress.named.push(None);
        progress.members.len() - 1
    }

    fn turn_to(&self, phase: Phase) {
        self.progress.lock().phase = phase;
        match phase {
            Phase::Naming => drop(self.led.notify_one()),
            _ => drop(self.moved.notify_all()),
        }
    }

    fn wait_for(&self, phase: Phase, moved: &Condvar) {
        let mut progress = self.progress.lock();
        while (progress.phase as u8) < phase as u8 {
            moved.wait(&mut progress);
        }
    }

    /// Those who have their names now.
    fn name_all(&self, house: &dyn Entering) -> Vec<Member> {
        let members = self.progress.lock().members.clone();
        // Whatever happens, the others are let go on.
        let _go_on = GoOn(self);
        let mut entered = Vec::with_capacity(members.len());
        for (place, member) in members.into_iter().enumerate() {
            let named = house.name(&member);
            if named.is_ok() {
                entered.push(member);
            }
            self.progress.lock().named[place] = Some(named);
        }
        entered
    }
}

/// Lets those who were named sync.
struct GoOn<'a>(&'a Round);

impl Drop for GoOn<'_> {
    fn drop(&mut self) {
        self.0.turn_to(Phase::Syncing);
    }
}

/// Ends a round, however its leader comes out of it, and begins the next.
struct Next<'a> {
    rounds: &'a Rounds,
    round: &'a Round,
}

impl Drop for Next<'_> {
    fn drop(&mut self) {
        self.rounds.begin_next();
        self.round.turn_to(Phase::Over);
    }
}

fn lost() -> StorageError {
    StorageError::io("cannot enter the spool", std::io::Error::other("the round of the file was cut short"))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        sync::atomic::{AtomicBool, AtomicUsize, Ordering},
        thread,
    };

    use chrono::DateTime;

    use super::*;

    #[derive(Default)]
    struct House {
        named: Mutex<HashSet<FileId>>,
        settled: Mutex<HashSet<FileId>>,
        rounds: AtomicUsize,
        refuse: Option<FileId>,
        /// The round whose names are lost by a panic.
        breaks_in: Option<usize>,
        /// No round ends while this is so.
        holds: AtomicBool,
    }

    impl Entering for House {
        fn name(&self, member: &Member) -> Result<()> {
            if self.refuse == Some(member.id) {
                return Err(StorageError::Full);
            }
            self.named.lock().insert(member.id);
            Ok(())
        }

        fn settle_names(&self, members: &[Member]) -> Result<()> {
            let round = self.rounds.fetch_add(1, Ordering::SeqCst);
            assert_ne!(Some(round), self.breaks_in, "on purpose");
            while self.holds.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            let named = self.named.lock();
            self.settled.lock().extend(members.iter().map(|member| member.id).filter(|id| named.contains(id)));
            Ok(())
        }
    }

    fn member() -> Member {
        Member { id: FileId::new(DateTime::UNIX_EPOCH), from: PathBuf::new() }
    }

    #[test]
    fn whoever_is_let_go_was_named_and_settled() {
        let (rounds, house) = (Rounds::default(), House::default());
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let member = member();
                        let id = member.id;
                        let named = || {
                            assert!(house.named.lock().contains(&id), "synced before it had its name");
                            Ok(())
                        };
                        rounds.enter(member, &house, named).expect("it enters");
                        assert!(house.settled.lock().contains(&id), "let go before its name was durable");
                    }
                });
            }
        });
        assert_eq!(house.settled.lock().len(), 3_200);
        assert!(house.rounds.load(Ordering::SeqCst) < 3_200, "nobody ever shared a round");
        assert!(!rounds.now.lock().running);
    }

    #[test]
    fn what_fails_for_one_is_no_affair_of_the_others() {
        let rounds = Rounds::default();
        let bad = member();
        let house = House { refuse: Some(bad.id), ..House::default() };
        thread::scope(|scope| {
            scope.spawn(|| {
                let outcome = rounds.enter(bad.clone(), &house, || panic!("it has no name"));
                assert!(matches!(outcome, Err((false, StorageError::Full))), "{outcome:?}");
            });
            for _ in 0..8 {
                scope.spawn(|| rounds.enter(member(), &house, || Ok(())).expect("it enters"));
            }
        });
        let unsynced = rounds.enter(member(), &house, || Err(StorageError::Full));
        assert!(matches!(unsynced, Err((true, StorageError::Full))), "{unsynced:?}");
    }

    /// A round of as many as `syncs`, led by the first: what became of each, none for one that panicked.
    fn share_a_round(house: &House, syncs: Vec<fn() -> Result<()>>) -> Vec<Option<Result<(), (bool, StorageError)>>> {
        let rounds = &Rounds::default();
        let gathered = || rounds.now.lock().gathering.progress.lock().members.len();
        house.holds.store(true, Ordering::SeqCst);
        thread::scope(|scope| {
            let first = scope.spawn(move || rounds.enter(member(), house, || Ok(())));
            while !rounds.now.lock().running {
                thread::yield_now();
            }
            let mut members = Vec::new();
            for sync in syncs {
                members.push(scope.spawn(move || rounds.enter(member(), house, sync)));
                while gathered() < members.len() {
                    thread::yield_now();
                }
            }
            house.holds.store(false, Ordering::SeqCst);
            first.join().expect("it ends").expect("it enters");
            members.into_iter().map(|member| member.join().ok()).collect()
        })
    }

    #[test]
    fn nobody_is_let_go_when_the_leader_is_cut_short_before_the_names_are_durable() {
        let house = House { breaks_in: Some(1), ..House::default() };
        let outcomes = share_a_round(&house, vec![|| Ok(()), || Ok(()), || Ok(())]);
        assert!(matches!(outcomes[..], [None, Some(Err((true, _))), Some(Err((true, _)))]), "{outcomes:?}");
        assert_eq!(house.settled.lock().len(), 1, "only the round before was made durable");
    }

    #[test]
    fn a_member_that_is_cut_short_is_no_affair_of_the_others_unless_it_leads() {
        let panics: fn() -> Result<()> = || panic!("on purpose");
        let outcomes = share_a_round(&House::default(), vec![|| Ok(()), panics, || Ok(())]);
        assert!(matches!(outcomes[..], [Some(Ok(())), None, Some(Ok(()))]), "{outcomes:?}");
        let outcomes = share_a_round(&House::default(), vec![panics, || Ok(()), || Ok(())]);
        assert!(matches!(outcomes[..], [None, Some(Err((true, _))), Some(Err((true, _)))]), "{outcomes:?}");
    }

    #[test]
    fn a_member_that_panics_leaves_the_rounds_in_order() {
        let (rounds, house) = (Rounds::default(), House::default());
        thread::scope(|scope| {
            let panics = scope.spawn(|| rounds.enter(member(), &house, || panic!("on purpose")));
            assert!(panics.join().is_err());
        });
        struct Broken;
        impl Entering for Broken {
            fn name(&self, _: &Member) -> Result<()> {
                panic!("on purpose")
            }
            fn settle_names(&self, _: &[Member]) -> Result<()> {
                Ok(())
            }
        }
        thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| rounds.enter(member(), &Broken, || Ok(())))).collect();
            assert!(all.into_iter().all(|one| !matches!(one.join(), Ok(Ok(())))));
        });
        rounds.enter(member(), &house, || Ok(())).expect("the next enters");
    }
}
