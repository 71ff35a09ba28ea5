//! Files: listing, showing, acting, exporting.
//!
//! Everything is read and answered by pages of [`PAGE`] entries: a queue of millions costs an
//! answer no memory, and a client that reads slowly holds up nothing but itself. A page is a
//! consistent view; a list over several pages is not: an entry that changes its state meanwhile may
//! be missed.

use forebay_queue::{Action, Actor, Cursor, Entry, Filter, Hold};
use forebay_storage::FileId;
use sha2::Digest as _;

use super::{
    answer::Answer,
    audit_text,
    operator::Operator,
    problem::{Problem, Result},
    reply::{ActedView, ContinuesView, DetailView, FileView, Reply},
    request::{Act, Which},
};
use crate::gate::{Scope, State as GateState};

/// Entries that are read or acted on at a time.
/// One page is one read of the queue's index, and one group of records when it is acted on.
const PAGE: usize = 500;
/// Bytes of a file that are sent at a time.
/// One read of the spool; 256 KiB fill a socket without holding much.
const CHUNK: u64 = 256 << 10;

impl Operator {
    /// Files, oldest first; with a limit so many from the newest back.
    /// One [`Reply::File`] for each. With `since`, those that were received after it.
    ///
    /// # Errors
    /// A usage problem when `since` is no time; a failure of the queue. Files that were sent before
    /// stay sent.
    pub(super) async fn queue_list(
        &self,
        which: Which,
        since: Option<String>,
        limit: Option<usize>,
        answer: &Answer,
    ) -> Result<()> {
        let since = since.map(|text| self.past(&text)).transpose()?;
        let filter = Filter { since, ..filter(which) };
        match limit {
            Some(limit) => self.list_newest(&filter, limit, answer).await,
            None => self.list_all(&filter, answer).await,
        }
    }

    async fn list_all(&self, filter: &Filter, answer: &Answer) -> Result<()> {
        let mut after = None;
        loop {
            let page = self.dependencies.queue.list(filter, after, PAGE).await?;
            self.give_files(&page.entries, answer).await?;
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// The newest first: the reader turns it round where it shows the oldest first.
    async fn list_newest(&self, filter: &Filter, limit: usize, answer: &Answer) -> Result<()> {
        let (mut left, mut before) = (limit, None);
        while left > 0 {
            let page = self.dependencies.queue.newest(filter, before, left.min(PAGE)).await?;
            self.give_files(&page.entries, answer).await?;
            left -= page.entries.len();
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        Ok(())
    }

    async fn give_files(&self, entries: &[Entry], answer: &Answer) -> Result<()> {
        for entry in entries {
            answer.give(Reply::File(self.view(entry))).await?;
        }
        // Also where nothing passes: whoever asked may have gone long ago.
        answer.is_wanted()
    }

    /// One file with its history.
    /// The id may be cut as long as it fits one file alone.
    ///
    /// # Errors
    /// Not found, ambiguous, or a failure of the queue.
    pub(super) async fn queue_show(&self, id: &str, answer: &Answer) -> Result<()> {
        let id = self.resolve(id).await?;
        let entry = self.dependencies.queue.get(id).await?;
        let history = self.dependencies.queue.history(id).await?;
        let history = history.iter().map(|(seq, record)| audit_text::view(*seq, record)).collect();
        let detail = DetailView { file: self.view(&entry), crashes: entry.crashes, history };
        answer.give(Reply::Detail(Box::new(detail))).await
    }

    /// Acts on files that are named, or on all that pass a filter as they stand now.
    /// One [`Reply::Acted`] for each file, in the order asked for: what cannot be done to one does
    /// not stop the others. Each page is one group in the journal; a crash leaves whole pages done
    /// or not done.
    ///
    /// # Errors
    /// A usage problem for a filter that lets everything pass: nobody means to cancel all there is.
    /// What fails for single files is in their replies.
    pub(super) async fn queue_act(
        &self,
        act: Act,
        ids: Vec<String>,
        which: Option<Which>,
        reason: Option<String>,
        actor: Actor,
        answer: &Answer,
    ) -> Result<()> {
        if let Some(which) = which {
            if which.is_everything() {
                return Err(Problem::usage("name files by id, or with --state, --partner or --route"));
            }
            // All ids first: acting changes what the filter lets pass.
            let ids = self.ids_of(&filter(which), act, answer).await?;
            for ids in ids.chunks(PAGE) {
                self.act_on(act, ids, &reason, &actor, answer).await?;
            }
        }
        for asked in ids.chunks(PAGE) {
            let mut found = Vec::new();
            for text in asked {
                match self.resolve(text).await {
                    Ok(id) => found.push((text.clone(), id)),
                    Err(problem) => {
                        // What was found so far goes first, so that the replies come in the order
                        // of the question.
                        self.act_on(act, &std::mem::take(&mut found), &reason, &actor, answer).await?;
                        let view = ActedView { asked: text.clone(), file: None, error: Some(problem) };
                        answer.give(Reply::Acted(view)).await?;
                    }
                }
            }
            self.act_on(act, &found, &reason, &actor, answer).await?;
        }
        Ok(())
    }

    /// In the order of the accepting. When no state was named, only those that the action fits.
    async fn ids_of(&self, filter: &Filter, act: Act, answer: &Answer) -> Result<Vec<(String, FileId)>> {
        let mut ids = Vec::new();
        let mut after: Option<Cursor> = None;
        loop {
            let page = self.dependencies.queue.list(filter, after, PAGE).await?;
            let fitting = page.entries.iter().filter(|entry| !filter.states.is_empty() || fits(act, entry));
            ids.extend(fitting.map(|entry| (entry.id.to_string(), entry.id)));
            answer.is_wanted()?;
            after = page.next;
            if after.is_none() {
                return Ok(ids);
            }
        }
    }

    /// At most one page. The journal's line of each names the operator and the reason.
    async fn act_on(
        &self,
        act: Act,
        asked: &[(String, FileId)],
        reason: &Option<String>,
        actor: &Actor,
        answer: &Answer,
    ) -> Result<()> {
        if asked.is_empty() {
            return Ok(());
        }
        let ids: Vec<FileId> = asked.iter().map(|(_, id)| *id).collect();
        let action = match act {
            Act::Hold => Action::Hold(Hold::Operator),
            Act::Cancel => Action::Cancel,
            // Both make a file claimable again, by the configuration of now and not by that under
            // which it came.
            Act::Release => Action::Release(self.routes_of(&ids).await),
            Act::Requeue => Action::Requeue(self.routes_of(&ids).await),
        };
        let done = self.dependencies.queue.act(&ids, action, reason.clone(), actor.clone(), self.now()).await;
        for ((text, _), outcome) in asked.iter().zip(done) {
            let (file, error) = match outcome {
                Ok(entry) => (Some(self.view(&entry)), None),
                Err(error) => (None, Some(error.into())),
            };
            answer.give(Reply::Acted(ActedView { asked: text.clone(), file, error })).await?;
        }
        Ok(())
    }

    /// The route that each file's name has now: the configuration may have changed since it came.
    /// Nothing where no route serves it: then the queue holds it as before.
    async fn routes_of(&self, ids: &[FileId]) -> Vec<Option<String>> {
        let mut routes = Vec::with_capacity(ids.len());
        for id in ids {
            let route = match self.dependencies.queue.get(*id).await {
                Ok(entry) => {
                    self.dependencies.routes.serve(&entry.partner, &entry.name).map(|route| route.name().to_owned())
                }
                // The action itself will say that it is not there.
                Err(_) => None,
            };
            routes.push(route);
        }
        routes
    }

    /// The bytes of a file, after its facts.
    /// First the facts as a [`Reply::File`], then the bytes as they are read. Its digest is
    /// computed on the way.
    /// A file that continues another is read from both; `Contents` puts them together.
    ///
    /// # Errors
    /// Not found, a read error, or at the end that the bytes are not those that were accepted: the
    /// client must then throw away what it wrote, which is why it writes to a temporary name.
    pub(super) async fn queue_export(&self, id: &str, answer: &Answer) -> Result<()> {
        let id = self.resolve(id).await?;
        let entry = self.dependencies.queue.get(id).await?;
        answer.give(Reply::File(self.view(&entry))).await?;
        let content = self.dependencies.contents.open(id).await?;
        let (mut at, mut digest) = (0, sha2::Sha256::new());
        loop {
            let piece = content.read(at..at + CHUNK).await?;
            if piece.is_empty() {
                break;
            }
            at += piece.len() as u64;
            digest.update(&piece);
            answer.bytes(piece).await?;
        }
        match at == entry.size_bytes && digest.finalize()[..] == entry.sha256.0 {
            true => Ok(()),
            false => Err(Problem::failed(format!("file {id} is not what was accepted: size or digest differ"))),
        }
    }

    /// A whole id needs no look at the queue, so an id that is not there is found out by the
    /// request itself.
    pub(super) async fn resolve(&self, text: &str) -> Result<FileId> {
        if let Ok(id) = text.parse::<FileId>() {
            return Ok(id);
        }
        Ok(self.dependencies.queue.resolve(text).await?)
    }

    /// The file as lists show it, with what the gate says of it now.
    /// The gate is asked at the moment of the view and not stored with the entry: a closing changes
    /// no file.
    pub(super) fn view(&self, entry: &Entry) -> FileView {
        let closure = match &entry.route {
            Some(route) if entry.state.waits() => match self.dependencies.gate.state(&Scope::Route(route.clone())) {
                GateState::Closed(closure) => Some(closure),
                GateState::Open { .. } => None,
            },
            _ => None,
        };
        let resumes_at = closure.as_ref().and_then(|closure| closure.until);
        FileView {
            id: entry.id,
            partner: entry.partner.clone(),
            name: entry.name.clone(),
            size_bytes: entry.size_bytes,
            sha256: entry.sha256,
            state: entry.state,
            deferred: closure.is_some(),
            resumes_at,
            received_at: entry.received_at,
            route: entry.route.clone(),
            attempts: entry.attempts,
            door: entry.door.clone(),
            since: entry.since,
            reason: entry.reason.clone(),
            due_at: entry.due_at,
            continues: entry.continues.as_ref().map(|it| ContinuesView { file: it.of, at: it.at }),
            messages: entry.messages.as_ref().map(|messages| messages.progress),
        }
    }
}

pub(super) fn filter(which: Which) -> Filter {
    Filter { states: which.states, partner: which.partner, route: which.route, ..Filter::default() }
}

/// Returns true if a bulk action without a named state applies to this entry. It passes over entries that it cannot or
/// need not change.
fn fits(act: Act, entry: &Entry) -> bool {
    use forebay_queue::State;
    match act {
        Act::Hold => matches!(entry.state, State::Unfinished | State::Ready | State::Retrying),
        Act::Release => entry.state == State::Held,
        // What is done or was called off is processed again only when its state is named.
        Act::Requeue => matches!(entry.state, State::Quarantined | State::Dead | State::Held | State::Retrying),
        Act::Cancel => !matches!(entry.state, State::Active | State::Done | State::Cancelled | State::Duplicate),
    }
}
