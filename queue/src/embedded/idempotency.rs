//! Which file was accepted under which key: from its acceptance on, for a day at least.
//!
//! It stands in the index under partner and key, and once more by its time, so that what is old is found without looking at
//! the rest. It follows from the records of acceptances, and is made anew with the index.

use std::ops::ControlFlow;

use chrono::{DateTime, Utc};

use super::{
    binary::{Field, Input, Output, fields},
    committer::Committer,
    index::{Fault, Index},
    keys,
    layered::Layered,
    queue::{EmbeddedQueue, GROUP},
    state::QueueState,
};
use crate::{IdempotencyKey, KeyedFile, Result};

fields!(KeyedFile { id, name, size_bytes, sha256, received_at, accepted_at, state; 1 route, 2 reason });

impl Field for IdempotencyKey {
    fn put(&self, out: &mut Output) {
        out.text(self.as_str());
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        Self::try_from(input.text()?).ok()
    }
}

fn encode(file: &KeyedFile) -> Vec<u8> {
    let mut out = Output::new(128);
    file.put(&mut out);
    out.bytes
}

fn decode(bytes: &[u8]) -> Result<KeyedFile, Fault> {
    let mut input = Input::new(bytes);
    let file = KeyedFile::take(&mut input).and_then(|file| input.whole(file));
    file.ok_or_else(|| Fault::Index("a key's file cannot be read".into()))
}

impl Layered<'_> {
    /// The file that a partner's key stands for.
    pub(super) fn keyed(&self, partner: &str, key: &IdempotencyKey) -> Result<Option<KeyedFile>, Fault> {
        self.get(&keys::idempotency(partner, key))?.map(|bytes| decode(&bytes)).transpose()
    }
}

impl QueueState {
    /// The key stands for this file from now on.
    pub(super) fn keep_key(
        &mut self,
        index: &Index,
        partner: &str,
        key: &IdempotencyKey,
        file: &KeyedFile,
    ) -> Result<(), Fault> {
        let at = keys::idempotency(partner, key);
        if let Some(before) = self.staged.get(index, &at)? {
            self.staged.remove(keys::keyed_since(decode(&before)?.accepted_at, &at));
        }
        self.staged.put(keys::keyed_since(file.accepted_at, &at), Vec::new());
        self.staged.set_name(at, Some(encode(file)));
        Ok(())
    }

    /// Forgets keys of files that were accepted before `before`, at most `limit`; gives how many.
    fn forget_keys(&mut self, index: &Index, before: DateTime<Utc>, limit: usize) -> Result<usize, Fault> {
        let mut old = Vec::new();
        self.staged.over(index).scan(b"t", &keys::keyed_before(before), |key, _| {
            old.push(key);
            Ok(if old.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        for since in &old {
            let at = keys::keyed_at(since).ok_or_else(|| Fault::Index("an old key names none".into()))?;
            self.staged.set_name(at, None);
            self.staged.remove(since.clone());
        }
        Ok(old.len())
    }

    /// Forgets all keys of a partner: who has its name next has not used them.
    pub(super) fn forget_keys_of(&mut self, index: &Index, partner: &str) -> Result<(), Fault> {
        let (from, to) = keys::idempotency_of(partner);
        let mut all = Vec::new();
        self.staged.over(index).scan(&from, &to, |at, file| {
            all.push((at, file));
            Ok(ControlFlow::Continue(()))
        })?;
        for (at, file) in all {
            self.staged.remove(keys::keyed_since(decode(&file)?.accepted_at, &at));
            self.staged.set_name(at, None);
        }
        Ok(())
    }
}

impl Committer {
    /// As [`QueueState::forget_keys`], in the index too. No record says so: it follows from the time.
    fn forget_keys(&mut self, before: DateTime<Utc>) -> Result<usize> {
        self.catch_up()?;
        let forgotten = self.state.forget_keys(&self.shared.index.read(), before, GROUP)?;
        if forgotten > 0 {
            self.shared.behind.store(true, std::sync::atomic::Ordering::Release);
            self.catch_up()?;
        }
        Ok(forgotten)
    }
}

impl EmbeddedQueue {
    /// Forgets keys of files that were accepted before `before`.
    pub(super) async fn forget_old_keys(&self, before: DateTime<Utc>) -> Result<usize> {
        let mut all = 0;
        loop {
            // In small groups: others wait meanwhile.
            let forgotten = self.between(move |committer| committer.forget_keys(before)).await?;
            all += forgotten;
            if forgotten < GROUP {
                return Ok(all);
            }
        }
    }
}
