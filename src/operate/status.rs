//! The queue and the server in figures, and what needs an operator.
//!
//! `status` is put together from what every part says of itself at the moment of the request;
//! nothing of it is kept, and the parts are asked one after another, so that figures of two of them
//! may differ by what happened in between. `needs` is the list that an operator works off: each
//! sentence names the trouble and, where there is one, the command that mends it. A new kind of
//! trouble gets its sentence in [`Operator::needs`].
//!
//! Works without a server: then what only a running one has (doors, sessions, running attempts, its
//! log) is left out.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use forebay_queue::{LaneInfo, State, Stats};
use forebay_storage::Space;

use super::{
    answer::Answer,
    operator::Operator,
    problem::Result,
    reply::{
        DiskView, FailingView, FolderView, GateView, LogView, PausedView, ProgramView, PulseView, Reply, RunningView,
        ServerView, StateTotal, StatsView, StatusView,
    },
    system_users,
};
use crate::{
    descriptors::Descriptors,
    doors::drop,
    gate::{Scope, State as GateState},
    partners::LateRenames,
    routes::{self, ProcessorKind, RunAs},
    telemetry::{self, LogState},
};

/// An end of the certificate nearer than this needs an operator.
/// A month: time to renew by hand, even where renewal needs somebody's signature.
const CERTIFICATE_WARNING: TimeDelta = TimeDelta::days(30);

impl Operator {
    /// The queue in figures.
    /// One [`Reply::Stats`].
    pub(super) async fn queue_stats(&self, answer: &Answer) -> Result<()> {
        let stats = self.stats_view().await?;
        answer.give(Reply::Stats(Box::new(stats))).await
    }

    /// The server in figures.
    /// One [`Reply::Status`].
    ///
    /// # Errors
    /// When the file system cannot say how much room it has, or the queue cannot be read.
    pub(super) async fn status(&self, answer: &Answer) -> Result<()> {
        let queue = self.stats_view().await?;
        let gate = self.gate_view();
        let space = self.dependencies.storage.space()?;
        let disk = DiskView {
            free_bytes: space.free_bytes,
            total_bytes: space.total_bytes,
            reserve_bytes: space.reserve_bytes,
            free_inodes: space.free_inodes,
            total_inodes: space.total_inodes,
            reserve_inodes: space.reserve_inodes,
        };
        let log = log_view(self.dependencies.live.is_some());
        let server = self.server_view();
        let folders = self.folders();
        let mut needs = self.needs(&queue, &gate, &space, server.as_ref());
        needs.extend(log_need(&log));
        needs.extend(folders.iter().flat_map(needs_of));
        let status = StatusView {
            running: server.is_some(),
            server,
            data: self.dependencies.data.display().to_string(),
            sessions: self.sessions(),
            folders,
            gate,
            queue,
            active: self.running(),
            disk,
            log,
            programs: self.programs(),
            needs,
        };
        answer.give(Reply::Status(Box::new(status))).await
    }

    /// A summary of the server's state.
    /// Without a look at the disk or at accounts: it is sent every second to everybody that
    /// watches.
    pub(super) async fn pulse(&self) -> Result<PulseView> {
        let stats = self.stats_view().await?;
        let gate = self.gate_view();
        let closed = gate.scopes.iter().filter(|scope| scope.closed);
        let resumes_at = gate.resumes_at.or_else(|| closed.clone().filter_map(|scope| scope.resumes_at).min());
        let closes_at = gate.scopes.iter().filter_map(|scope| scope.closes_at).chain(gate.closes_at).min();
        Ok(PulseView {
            now: self.now(),
            closed: gate.state == "closed" || closed.count() > 0,
            resumes_at,
            closes_at,
            states: stats.states,
            sessions: self.sessions().len() as u64,
            running: self.running(),
        })
    }

    async fn stats_view(&self) -> Result<StatsView> {
        let stats = self.dependencies.queue.stats(self.now()).await?;
        Ok(StatsView {
            states: totals(&stats),
            deferred: self.deferred(&stats),
            oldest_waiting: stats.oldest_waiting,
            blocked_lanes: stats.lanes.iter().filter(|lane| lane.head_state == State::Retrying).cloned().collect(),
            unserved_lanes: stats.lanes.iter().filter(|lane| self.is_unserved(lane)).cloned().collect(),
            paused_routes: self.paused(),
            last_seq: stats.last_seq,
            partners: stats.counts,
        })
    }

    /// Whether no route of the configuration has the lane's name: its files wait until they are
    /// given another route.
    fn is_unserved(&self, lane: &LaneInfo) -> bool {
        self.dependencies.routes.get(&lane.lane.route).is_none()
    }

    /// Files that wait in lanes whose route is closed.
    /// An entry that runs is counted by its lane too, and waits for nothing: so those that run in
    /// closed scopes, begun before the closing, are taken off.
    fn deferred(&self, stats: &Stats) -> u64 {
        let closed = |route: &str| {
            let state = self.dependencies.gate.state(&Scope::Route(route.to_owned()));
            matches!(state, GateState::Closed(_))
        };
        let waiting = stats.lanes.iter().filter(|lane| closed(&lane.lane.route));
        let active = self.running().iter().filter(|running| closed(&running.route)).count() as u64;
        waiting.map(|lane| lane.files).sum::<u64>().saturating_sub(active)
    }

    /// Whom the programs of routes run as.
    /// An operator sees in it what a mistake in a program can reach.
    fn programs(&self) -> Vec<ProgramView> {
        let routes = self.dependencies.routes.iter().map(|route| &route.options);
        let programs = routes.filter(|route| route.processor == ProcessorKind::Exec);
        let view = |route: &routes::Options| {
            let (run_as, note) = match route.run_as() {
                RunAs::Server => {
                    let user = system_users::own_name();
                    let note = format!(
                        "as the server's own user {user}, unconfined: keys, accounts and accepted files are open to \
                         them; set `runner`, or `confine = true`"
                    );
                    ("server", note)
                }
                RunAs::Confined => ("confined", "confined to files that are not the server's".to_owned()),
                RunAs::Runner { socket, user } => {
                    ("runner", format!("as {user}, by the runner at {}", socket.display()))
                }
            };
            ProgramView { route: route.name.clone(), run_as: run_as.to_owned(), note }
        };
        programs.map(view).collect()
    }

    /// The attempts that run now, none without a server.
    pub(super) fn running(&self) -> Vec<RunningView> {
        let Some(live) = &self.dependencies.live else { return Vec::new() };
        let each = |running: crate::process::Running| RunningView {
            id: running.id,
            partner: running.partner,
            name: running.name,
            route: running.route,
            attempt: running.attempt,
            since: running.since,
        };
        live.dispatcher.running().into_iter().map(each).collect()
    }

    /// The routes whose processor said that its backend is down, and when the next try is due.
    fn paused(&self) -> Vec<PausedView> {
        let Some(live) = &self.dependencies.live else { return Vec::new() };
        let each = |paused: crate::process::Paused| PausedView {
            route: paused.route,
            reason: paused.reason,
            since: Some(paused.since),
            probe_at: Some(paused.next_probe_at),
        };
        live.dispatcher.paused().into_iter().map(each).collect()
    }

    /// The folders of the drop door; none without a server, since only it looks at them.
    fn folders(&self) -> Vec<FolderView> {
        let Some(live) = &self.dependencies.live else { return Vec::new() };
        let each = |folder: drop::FolderStatus| FolderView {
            directory: folder.directory.display().to_string(),
            partner: folder.partner.to_string(),
            problem: folder.problem,
            waiting: folder.waiting,
            taken: folder.taken,
            failing_count: folder.failing_count,
            failing: folder.failing.into_iter().map(failing).collect(),
        };
        live.folders.all().into_iter().map(each).collect()
    }

    /// Nothing without a server: that is how the output says that none runs.
    fn server_view(&self) -> Option<ServerView> {
        let live = self.dependencies.live.as_ref()?;
        Some(ServerView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: live.started_at,
            doors: live.doors.clone(),
            certificate_ends_at: live.certificate_ends_at,
        })
    }

    /// What an operator should do, the most urgent first: what stops all uploads, then what stops
    /// some processing, then single files, then what will be trouble.
    fn needs(&self, queue: &StatsView, gate: &GateView, space: &Space, server: Option<&ServerView>) -> Vec<String> {
        let mut needs = Vec::new();
        if let Some(why) = self.dependencies.storage.poisoned() {
            needs.push(format!("the spool takes nothing more until a restart: {why}"));
        }
        if let Some(why) = self.dependencies.queue.poisoned() {
            needs.push(format!("the queue takes nothing more until a restart: {why}"));
        }
        needs.extend(space.shortage().map(|shortage| format!("{shortage}: uploads are refused until there is more")));
        if server.is_some() {
            let connections = self.dependencies.partners.limits().max_connections;
            needs.extend(Descriptors::for_connections(connections).shortage());
        }
        needs.extend(gate.faults.iter().cloned());
        // Of the queue, by what stops the most: a route, then lanes, then files.
        for paused in &queue.paused_routes {
            needs.push(format!("route {} is paused: {}", paused.route, paused.reason));
        }
        let mut unserved: BTreeMap<&str, u64> = BTreeMap::new();
        for lane in &queue.unserved_lanes {
            *unserved.entry(&lane.lane.route).or_default() += lane.files;
        }
        for (route, files) in unserved {
            needs.push(format!(
                "{files} {} for route {route}, which is not configured any more: `forebay queue hold --route {route}`, \
                 then release, and they get the route that serves them now",
                if files == 1 { "file waits" } else { "files wait" }
            ));
        }
        let files = |state| queue.states.iter().find(|total| total.state == state).map_or(0, |total| total.files);
        for (state, one, many, next) in [
            (State::Dead, "was given up", "were given up", ", then requeue or cancel"),
            (State::Quarantined, "has bad content", "have bad content", ", then requeue or cancel"),
            (State::Held, "is held", "are held", ", then release or cancel"),
        ] {
            let what = match files(state) {
                0 => continue,
                1 => format!("1 file {one}"),
                count => format!("{count} files {many}"),
            };
            needs.push(format!("{what}: `forebay queue list --state {state}`{next}"));
        }
        needs.extend(self.dependencies.partners.late_renames().iter().map(|seen| self.needs_temporary_name(seen)));
        if let Some(ends) = server.and_then(|server| server.certificate_ends_at)
            && ends - self.now() < CERTIFICATE_WARNING
        {
            needs.push(format!("the certificate ends on {}", ends.format("%Y-%m-%d")));
        }
        // Without a server the command may well be root's, by `sudo`; that says nothing of the
        // server.
        if server.is_some() && rustix::process::geteuid().is_root() {
            needs.push(
                "the server runs as root: file modes do not protect the spool; run it as a user of its own".to_owned(),
            );
        }
        needs
    }

    /// What is to be said of a partner whose temporary names its policy does not know.
    fn needs_temporary_name(&self, seen: &LateRenames) -> String {
        let files = if seen.files == 1 { "a file" } else { "files" };
        let policy = self.dependencies.partners.policy(&seen.partner);
        let (partner, count, line) = (&seen.partner, seen.files, seen.line(policy.temporary_names.patterns()));
        format!(
            "{partner} renamed {files} that had been accepted ({count} since the start, last {:?} to {:?}): if such names \
             are temporary ones, add to its [[partner]]: {line}",
            seen.from, seen.to
        )
    }
}

/// The log of this process, if it is the server.
fn log_view(is_live: bool) -> LogView {
    if !is_live {
        return LogView::default();
    }
    let LogState { lost_lines, why, is_broken } = telemetry::log_state();
    LogView { lost_lines, why, broken: is_broken }
}

/// A log that lost lines in the past and is written again needs nobody.
fn log_need(log: &LogView) -> Option<String> {
    let why = log.why.as_deref().unwrap_or("it is not known why");
    log.broken.then(|| {
        format!(
            "the server's log cannot be written ({why}): {} lost so far; give standard error room or a reader",
            match log.lost_lines {
                1 => "1 line is".to_owned(),
                lines => format!("{lines} lines are"),
            }
        )
    })
}

fn failing(file: drop::Failing) -> FailingView {
    FailingView { name: file.name, reason: file.reason, since: file.since }
}

/// The problems of a folder that need an operator.
/// At most five files by name: a folder with ten thousand unreadable ones would hide all other
/// troubles.
fn needs_of(folder: &FolderView) -> Vec<String> {
    let of = format!("folder {} of {}", folder.directory, folder.partner);
    let mut needs: Vec<String> = folder.problem.iter().map(|problem| format!("{of}: {problem}")).collect();
    needs.extend(folder.failing.iter().take(5).map(|file| format!("{of}: {}: {}", file.name, file.reason)));
    if folder.failing_count > 5 {
        needs.push(format!("{of}: {} more files like these", folder.failing_count - 5));
    }
    needs
}

/// Sums over the partners, in the order of the states.
fn totals(stats: &Stats) -> Vec<StateTotal> {
    let mut totals: BTreeMap<State, (u64, u64)> = BTreeMap::new();
    for count in &stats.counts {
        let total = totals.entry(count.state).or_default();
        total.0 += count.files;
        total.1 += count.size_bytes;
    }
    totals.into_iter().map(|(state, (files, size_bytes))| StateTotal { state, files, size_bytes }).collect()
}
