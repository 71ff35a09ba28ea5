//! One folder: what is heard of it, what is found in it, and which of its files are visited.
//!
//! The task that runs this owns all that is known of names, so nothing is locked. It learns of
//! changes in two ways: hints of the system (`watch`), which may be lost, and a look at the whole
//! folder (`survey`), which is certain and costs more. A name that is due is visited in a task
//! (`job`), a few at once, and the outcome decides when it is due again.
//!
//! # Guarantees
//! - A name has one visit at a time. What happens to it meanwhile makes another visit follow.
//! - What is known of names is bounded; more are looked at when others are gone.
//! - A folder that cannot be read is reported, and nothing in it is taken. When it is there again,
//!   everything in it counts as new.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::{
    job::{FolderContext, Outcome, Visit},
    names::{FIRST_WAIT, Name, Tracked, put_due},
    options::Accept,
    report::{Failing, Reports},
    survey::{MOST_NAMES, Names, Survey, is_wanted, survey},
    suspects::Suspects,
    watch::{self, Hint, Watch},
};
use crate::{
    ingest::FileId,
    partners::{Partners, Policy},
    telemetry::Repeated,
};

/// The interval at which the folder itself is looked at.
const TICK: Duration = Duration::from_secs(1);
/// The longest interval at which everything in it is looked at where the system tells nothing.
const SWEEP_UNWATCHED: Duration = Duration::from_secs(5);
/// The time after a write at which a file is looked at.
const SOON: Duration = Duration::from_millis(100);
/// Files that wait longer than this are reported.
const STALE: Duration = Duration::from_secs(600);
/// The most failing files that are named.
const NAMED: usize = 20;

/// One folder, as a task of its own.
pub(super) struct Folder {
    pub(super) index: usize,
    pub(super) context: Arc<FolderContext>,
    pub(super) partners: Arc<Partners>,
    pub(super) suspects: Arc<Suspects>,
    pub(super) reports: Reports,
    pub(super) names: Tracked,
    pub(super) standing: Standing,
}

/// The state of the folder itself.
#[derive(Default)]
pub(super) struct Standing {
    watch: Option<Watch>,
    /// Device and inode of the folder whose names these are.
    identity: Option<(u64, u64)>,
    problem: Option<String>,
    sweep_at: Duration,
    more: bool,
    strange: Vec<(DateTime<Utc>, String)>,
    aside: HashSet<FileId>,
    taken: u64,
}

impl Folder {
    /// Takes files until the door closes; then those that are being copied are given up, and commits end.
    pub(super) async fn run(mut self) {
        let mut stop = self.context.stop.clone();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.dispatch();
            let room = self.names.visits.len() < self.context.options.at_once && self.standing.problem.is_none();
            let next = self.names.due.first().map(|(at, _)| at.saturating_sub(self.context.clock.elapsed()));
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                Some(hint) = hint(&mut self.standing.watch) => self.hear(hint),
                Some(done) = self.names.visits.join_next(), if !self.names.visits.is_empty() => match done {
                    Ok((name, outcome)) => self.record_visit(name, outcome),
                    Err(error) => warn!(%error, "a visit to a file did not end well"),
                },
                _ = tick.tick() => self.tick().await,
                () = tokio::time::sleep(next.unwrap_or(TICK)), if room && next.is_some() => {}
            }
        }
        while self.names.visits.join_next().await.is_some() {}
        self.report();
    }

    /// Begins visits to names that are due, as many as may run at once.
    fn dispatch(&mut self) {
        let now = self.context.clock.elapsed();
        while self.standing.problem.is_none() && self.names.visits.len() < self.context.options.at_once {
            let Some(name) = self.names.take_due(now) else { return };
            let Some(known) = self.names.by_name.get_mut(&name) else { continue };
            (known.running, known.again) = (true, false);
            let visit = Visit {
                name: name.clone(),
                seen: Arc::clone(&known.seen),
                before: known.before.clone(),
                taken: known.taken,
            };
            let context = Arc::clone(&self.context);
            self.names.visits.spawn(async move { (name, context.visit(visit).await) });
        }
    }

    /// Acts on a hint of the system.
    fn hear(&mut self, hint: Hint) {
        let policy = self.policy();
        let options = &self.context.options;
        let (Hint::Created(name) | Hint::Renamed(name) | Hint::Touched(name)) = &hint;
        // A marker speaks for its file.
        if options.accept == Accept::Marker
            && let Some(marked) = name.strip_suffix(&options.marker).filter(|name| !name.is_empty())
        {
            let marked = marked.to_owned();
            if is_wanted(&marked, options, &policy) {
                self.schedule(&marked);
            }
            return;
        }
        if !is_wanted(name, options, &policy) {
            return;
        }
        let name = name.clone();
        if matches!(hint, Hint::Touched(_)) {
            self.touch(&name);
            return;
        }
        // Another file of that name: it does not wait for what the one before it could not.
        if let Some(known) = self.names.by_name.get_mut(&name).filter(|known| known.taken.is_none()) {
            known.failures = 0;
        }
        let Some(known) = self.schedule(&name) else { return };
        known.before = None;
        let renamed = matches!(hint, Hint::Renamed(_));
        // The inode first: what is said below is of the file that the next visit finds.
        known.seen.inode.store(0, Ordering::Release);
        known.seen.renamed.store(renamed, Ordering::Release);
        known.seen.in_place.store(!renamed, Ordering::Release);
    }

    /// Something was written. A file that is due anyway is seen then; many writes make one visit.
    fn touch(&mut self, name: &str) {
        let at = self.context.clock.elapsed() + SOON;
        match self.names.by_name.get_mut(name) {
            None => drop(self.schedule(name)),
            Some(known) if known.running => known.again = true,
            Some(known) if known.due.is_none() => put_due(&mut self.names.due, known, name, at),
            Some(_) => {}
        }
    }

    /// Has the name visited now; it becomes known if there is room. `None` if there is not.
    fn schedule(&mut self, name: &str) -> Option<&mut Name> {
        // A failing one keeps its wait, but for another file of that name.
        if !self.names.by_name.contains_key(name) && self.names.by_name.len() >= MOST_NAMES {
            self.standing.more = true;
            return None;
        }
        let now = self.context.clock.elapsed();
        let known = self.names.by_name.entry(name.to_owned()).or_default();
        if known.running {
            known.again = true;
        } else if known.failures == 0 {
            put_due(&mut self.names.due, known, name, now);
        }
        Some(known)
    }

    /// Acts on the outcome of a visit: the name is forgotten, or due again after a while.
    fn record_visit(&mut self, name: String, outcome: Outcome) {
        let now = self.context.clock.elapsed();
        let Some(known) = self.names.by_name.get_mut(&name) else { return };
        known.running = false;
        // Something happened during the visit, so its outcome may be of an older file.
        let again = std::mem::take(&mut known.again);
        let wait = match outcome {
            Outcome::Gone { taken } => {
                self.standing.taken += u64::from(taken);
                if !again {
                    self.names.by_name.remove(&name);
                    return;
                }
                *known = Name { seen: Arc::clone(&known.seen), ..Name::default() };
                None
            }
            Outcome::Again { origin, after, why } => {
                known.taken = None;
                known.was(origin, now);
                let stale = known.before.as_ref().is_some_and(|(_, since)| now.saturating_sub(*since) > STALE);
                match why.filter(|_| stale) {
                    Some(why) => known.fails(&self.context, &name, why),
                    None => known.fares_well(),
                }
                Some(after)
            }
            Outcome::Unproven { origin } => {
                known.was(Some(origin), now);
                known.fares_well();
                None
            }
            Outcome::Failed(why) => Some(known.fails_again(&self.context, &name, why)),
            Outcome::Remains { id, taken, reason } => {
                self.standing.taken += u64::from(taken);
                known.taken = Some(id);
                Some(known.fails_again(&self.context, &name, reason))
            }
        };
        let wait = if again { Some(wait.map_or(SOON, |wait| wait.clamp(SOON, FIRST_WAIT))) } else { wait };
        if let Some(wait) = wait {
            put_due(&mut self.names.due, known, &name, now + wait);
        }
    }

    fn policy(&self) -> Arc<Policy> {
        self.partners.policy(self.context.options.partner.as_str())
    }

    /// Looks at the folder itself, each second, and reports what is wrong with it.
    async fn tick(&mut self) {
        let before = self.standing.problem.take();
        self.standing.problem = self.look().await.err();
        let (directory, partner) = (self.context.options.directory.display(), &self.context.options.partner);
        match (&before, &self.standing.problem) {
            (_, Some(problem)) if before.as_ref() != Some(problem) => {
                warn!(folder = %directory, %partner, problem, "nothing is taken from a folder");
            }
            (Some(_), None) => info!(folder = %directory, %partner, "files are taken from a folder again"),
            _ => {}
        }
        if self.standing.problem.is_none() {
            self.keep_suspects().await;
        }
        self.report();
    }

    /// Checks whether files can be taken, and surveys the folder when it is time.
    ///
    /// # Errors
    /// The reason why nothing is taken, for operators.
    async fn look(&mut self) -> Result<(), String> {
        let partner = &self.context.options.partner;
        match self.partners.get(partner.as_str()) {
            None => return Err(format!("there is no account {partner}: `forebay partner add {partner}`")),
            Some(account) if !account.enabled => return Err(format!("the account {partner} is disabled")),
            Some(_) => {}
        }
        let here = self.survey(Names::Unwanted).await?;
        if self.standing.identity != Some(here.identity) {
            self.arrive(here.identity);
        }
        let now = self.context.clock.elapsed();
        let lost = self.standing.watch.as_ref().is_some_and(|watch| watch.sweep.swap(false, Ordering::AcqRel));
        let room = self.standing.more && self.names.by_name.len() < MOST_NAMES / 2;
        if now >= self.standing.sweep_at || lost || room {
            let found = self.survey(Names::Wanted).await?;
            let every = self.context.options.sweep;
            let every = if self.standing.watch.is_some() { every } else { every.min(SWEEP_UNWATCHED) };
            self.standing.sweep_at = self.context.clock.elapsed() + every;
            self.swept(found);
        }
        Ok(())
    }

    /// Watches the folder before anyone is told that the server is ready: what comes from then on is seen to come.
    pub(super) async fn prepare(mut self) -> Self {
        // What keeps it from being read is told by the first look.
        if let Ok(here) = self.survey(Names::Unwanted).await {
            self.arrive(here.identity);
        }
        self
    }

    /// The folder is there for the first time, again, or is another one.
    fn arrive(&mut self, identity: (u64, u64)) {
        self.begin_watch();
        self.standing.identity = Some(identity);
        self.standing.sweep_at = Duration::ZERO;
        self.names.forget_idle();
        let suspected = self.suspects.of(&self.context.options.directory.to_string_lossy());
        self.suspect(suspected);
    }

    /// Looks at the folder on a blocking thread.
    async fn survey(&mut self, names: Names) -> Result<Survey, String> {
        let (options, policy) = (Arc::clone(&self.context.options), self.policy());
        let done = tokio::task::spawn_blocking(move || survey(&options, &policy, names)).await;
        let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|error| {
            // When it comes back everything in it is new.
            (self.standing.identity, self.standing.watch) = (None, None);
            format!("the folder cannot be read: {error}")
        })
    }

    fn begin_watch(&mut self) {
        let options = &self.context.options;
        match watch::begin(&options.directory, options.subfolders) {
            Ok(watch) => self.standing.watch = Some(watch),
            Err(error) => {
                warn!(folder = %options.directory.display(), %error, "cannot watch a folder: it is looked at every few seconds");
                self.standing.watch = None;
            }
        }
    }

    /// Takes over which files were seen to be written in place before a restart.
    fn suspect(&mut self, suspected: BTreeMap<String, u64>) {
        for (name, inode) in suspected {
            if let Some(known) = self.schedule(&name) {
                known.seen.inode.store(inode, Ordering::Release);
                known.seen.in_place.store(true, Ordering::Release);
            }
        }
    }

    /// Acts on a look at the whole folder.
    fn swept(&mut self, found: Survey) {
        let now = self.context.clock.now();
        let names = found.names.unwrap_or_default();
        self.standing.more = found.more;
        // With more names than were read, one that was not seen may still be there.
        if !found.more {
            self.names.keep_only(&names);
        }
        for name in names {
            self.schedule(&name);
        }
        self.standing.strange =
            found.strange.into_iter().map(|name| (now, format!("{name}: the name is not UTF-8"))).collect();
        // Also those that a crash left under our own name, and those that are gone.
        for one in self.context.known.of(&self.context.options.directory.to_string_lossy()) {
            if let Some(known) = self.schedule(&one.name).filter(|known| !known.running) {
                known.taken = Some(one.id);
            }
        }
        let aside: HashSet<FileId> = found.aside.iter().map(|(_, id)| *id).collect();
        for (below, id) in &found.aside {
            // One that is seen twice and not known is not being removed: it is another server's, or needs a person.
            if self.context.known.get(*id).is_none() && self.standing.aside.contains(id) {
                let what =
                    format!("{below}{}{id}: was left under this name; rename it, and it is taken", super::place::ASIDE);
                self.standing.strange.push((now, what));
            }
        }
        self.standing.aside = aside;
    }

    /// Keeps which files were seen to be written in place, so that a restart does not take half a
    /// file.
    async fn keep_suspects(&mut self) {
        if self.context.options.accept != Accept::Rename {
            return;
        }
        let each = self.names.by_name.iter().filter(|(_, known)| known.seen.is_in_place());
        let each = each.map(|(name, known)| (name.clone(), known.seen.inode.load(Ordering::Acquire)));
        let names: BTreeMap<String, u64> = each.filter(|(_, inode)| *inode != 0).collect();
        let (suspects, folder) =
            (Arc::clone(&self.suspects), self.context.options.directory.to_string_lossy().into_owned());
        let kept = tokio::task::spawn_blocking(move || suspects.keep(&folder, names)).await;
        static FAILED: Repeated = Repeated::new();
        if let Ok(Err(error)) = kept
            && let Some(untold) = FAILED.happened()
        {
            warn!(%error, untold, "cannot keep which files were written under their final name");
        }
    }

    /// Puts the folder's state where operators read it.
    fn report(&self) {
        let named = |(name, known): (&String, &Name)| {
            let (since, reason) = known.problem.clone()?;
            Some(Failing { since, name: name.clone(), reason })
        };
        let mut failing: Vec<Failing> = self.names.by_name.iter().filter_map(named).collect();
        failing.extend(self.standing.strange.iter().filter_map(|(since, what)| {
            let (name, reason) = what.split_once(": ")?;
            Some(Failing { since: *since, name: name.to_owned(), reason: reason.to_owned() })
        }));
        failing.sort();
        let count = failing.len() as u64;
        failing.truncate(NAMED);
        self.reports.set(self.index, |status| {
            status.problem.clone_from(&self.standing.problem);
            status.waiting = (self.names.by_name.len() as u64).saturating_sub(count);
            status.taken = self.standing.taken;
            (status.failing_count, status.failing) = (count, failing);
        });
    }
}

/// Waits for the stop, or until whoever could tell it is gone.
pub(super) async fn stopped(stop: &mut tokio::sync::watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The next hint; never, without a watch.
async fn hint(watch: &mut Option<Watch>) -> Option<Hint> {
    match watch {
        Some(watch) => watch.hints.recv().await,
        None => std::future::pending().await,
    }
}
