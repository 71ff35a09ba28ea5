//! Uploads that their senders name by a key, so that each is taken once however often it is sent.
//!
//! # Guarantees
//! Under one key of a partner one file is accepted in a day, whatever comes at the same time and whatever crashes: a key is
//! claimed before the first byte, one claim at a time, and the record of the acceptance has it. Who sends the same file
//! again (name, size and digest) is told of the one that was accepted; another file is refused.

use std::{collections::HashSet, fmt, sync::Arc};

use forebay_queue::{IdempotencyKey, KeyedFile};
use parking_lot::Mutex;
use sha2::{Digest, Sha256 as Hasher};

use super::{Accepted, Ingest, Intake, Name, Refusal, SessionInfo, intake::Source};

/// Keys whose uploads are under way, each with its partner. There are no more of them than uploads.
#[derive(Debug, Default)]
pub(super) struct ClaimedKeys(Mutex<HashSet<(String, IdempotencyKey)>>);

/// What is known of a key.
#[derive(Debug)]
pub enum KeyState {
    /// Nobody has used it: it is the caller's until the claim is dropped.
    Free(KeyClaim),
    /// Another upload under it is under way.
    UnderWay,
    /// A file was accepted under it.
    Used(Repeat),
}

/// A key that is one upload's. Dropping it lets the next upload have it.
pub struct KeyClaim {
    all: Arc<ClaimedKeys>,
    own: (String, IdempotencyKey),
}

impl KeyClaim {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &IdempotencyKey {
        &self.own.1
    }
}

impl fmt::Debug for KeyClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyClaim").field(&self.own).finish()
    }
}

impl Drop for KeyClaim {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.own);
    }
}

/// A key stands for another file than the one that was sent under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the idempotency key was used for another file")]
pub struct KeyReused;

/// An upload that may be one that was accepted already. Its bytes are compared, and none is kept.
#[derive(Debug)]
pub struct Repeat {
    file: Box<KeyedFile>,
    hasher: Hasher,
    size_bytes: u64,
}

impl Repeat {
    fn of(file: KeyedFile) -> Self {
        Self { file: Box::new(file), hasher: Hasher::new(), size_bytes: 0 }
    }

    /// Bytes so far.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`KeyReused`] as soon as there are more than the accepted file has.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), KeyReused> {
        self.size_bytes += chunk.len() as u64;
        if self.size_bytes > self.file.size_bytes {
            return Err(KeyReused);
        }
        self.hasher.update(chunk);
        Ok(())
    }

    /// All bytes have come, and this is the name: gives the file as it was accepted, whatever became of it since.
    ///
    /// # Errors
    /// [`KeyReused`] when name, size or digest are others.
    pub fn finish(self, path: &str) -> Result<Accepted, KeyReused> {
        let is_same = Name::parse(path).is_ok_and(|name| name.as_str() == self.file.name)
            && self.size_bytes == self.file.size_bytes
            && self.hasher.finalize()[..] == self.file.sha256.0;
        if is_same { Ok(Accepted::before(*self.file)) } else { Err(KeyReused) }
    }
}

impl Ingest {
    /// Claims a key for an upload of this partner. Nothing is written.
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub async fn claim_key(&self, session: &SessionInfo, key: IdempotencyKey) -> Result<KeyState, Refusal> {
        let own = (session.partner.to_string(), key);
        if !self.claimed_keys.0.lock().insert(own.clone()) {
            return Ok(KeyState::UnderWay);
        }
        let claim = KeyClaim { all: Arc::clone(&self.claimed_keys), own };
        // Looked up only now, when nobody else can accept under it: one that did has let go of it after its record.
        Ok(match self.queue.keyed(session.partner.as_str(), claim.key()).await? {
            Some(file) => KeyState::Used(Repeat::of(file)),
            None => KeyState::Free(claim),
        })
    }

    /// As [`Ingest::begin`]. The key is journalled with the acceptance; an upload that ends in any other way, dropped ones too,
    /// lets go of it.
    ///
    /// # Errors
    /// As [`Ingest::begin`].
    pub async fn begin_keyed(
        self: &Arc<Self>,
        session: &SessionInfo,
        path: &str,
        declared_size: Option<u64>,
        claim: KeyClaim,
    ) -> Result<Intake, Refusal> {
        let begun = self.begin_from(session, path, declared_size, Source::Keyed(claim)).await;
        self.begun(session, begun)
    }
}
