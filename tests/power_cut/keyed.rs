//! Uploads under idempotency keys: none is taken twice, whatever comes at the same time and whatever crashes.

use std::sync::atomic::{AtomicUsize, Ordering};

use forebay::ingest::{Accepted, IdempotencyKey, KeyReused, KeyState, Refusal};

use super::*;

/// Files that were found to have been accepted when they were sent again after a crash.
pub(super) static FOUND_AGAIN: AtomicUsize = AtomicUsize::new(0);

/// What was sent under one key.
pub(super) struct Keyed {
    name: String,
    bytes: Bytes,
    /// The file that its sender was told of.
    told: Option<FileId>,
}

/// What came of sending a file under a key.
#[derive(Debug)]
enum Sent {
    Accepted(Accepted),
    Repeated(Accepted),
    UnderWay,
}

impl Sent {
    fn accepted(self) -> Option<Accepted> {
        match self {
            Self::Accepted(accepted) | Self::Repeated(accepted) => Some(accepted),
            Self::UnderWay => None,
        }
    }
}

pub(super) fn session() -> SessionInfo {
    SessionInfo {
        partner: "clinic".parse().expect("a name"),
        door: "web",
        peer: Peer::Address("127.0.0.1:1".parse().expect("an address")),
        id: uuid::Uuid::nil(),
    }
}

fn key(text: &str) -> IdempotencyKey {
    text.parse().expect("a key")
}

impl House {
    /// Sends a file under a key, as a door does. `begun` is told of each file that may come to be.
    async fn send_keyed(
        &self,
        text: &str,
        name: &str,
        bytes: &Bytes,
        begun: impl Fn(FileId),
    ) -> Result<Result<Sent, KeyReused>, Refusal> {
        let session = session();
        let claim = match self.ingest.claim_key(&session, key(text)).await? {
            KeyState::UnderWay => return Ok(Ok(Sent::UnderWay)),
            KeyState::Used(mut repeat) => {
                let same = bytes.chunks(256 << 10).try_for_each(|piece| repeat.write(piece));
                return Ok(same.and_then(|()| repeat.finish(name)).map(Sent::Repeated));
            }
            KeyState::Free(claim) => claim,
        };
        let mut intake = self.ingest.begin_keyed(&session, name, None, claim).await?;
        begun(intake.id());
        for piece in bytes.chunks(256 << 10) {
            intake.write(Bytes::copy_from_slice(piece)).await?;
        }
        Ok(Ok(Sent::Accepted(intake.finish(Box::new(Proven)).await?)))
    }

    /// Sends files under keys, many of them more than once and at the same time, until the power is gone.
    pub(super) async fn keyed_session(&self, seed: u64, files: u64, said: Arc<Mutex<Said>>) {
        let mut random = SmallRng::seed_from_u64(seed);
        for number in 0..files {
            let size = if random.random_ratio(1, 4) { random.random_range(5_000..400_000) } else { 900 };
            let bytes: Bytes = (0..size).map(|_| random.random::<u8>()).collect();
            let (text, name) = (format!("key {number}"), format!("keyed-{number}.hl7"));
            let keyed = Keyed { name: name.clone(), bytes: bytes.clone(), told: None };
            said.lock().keyed.insert(text.clone(), keyed);
            let begun = |id| {
                said.lock().sent.insert(id, digest(&bytes));
            };
            for _ in 0..random.random_range(1..3) {
                let send = || self.send_keyed(&text, &name, &bytes, begun);
                let (one, other, third) = tokio::join!(send(), send(), send());
                for sent in [one, other, third] {
                    match sent {
                        Ok(Ok(sent)) => self.say(|said| said.tell(&text, sent.accepted().map(|one| one.id)), &said),
                        Ok(Err(reused)) => said.lock().faults.push(format!("{text}: {reused}")),
                        Err(_) if self.disk.is_cut() => return,
                        // The queue may stop when not even what there is of a group can be taken back.
                        Err(Refusal::Full | Refusal::Stopped(_)) if said.lock().is_short => return,
                        Err(refusal) => said.lock().faults.push(format!("{text}: {refusal}")),
                    }
                }
            }
        }
    }

    /// Sends everything under its key once more: there is one file of each, and where its sender was told of one it is
    /// that one.
    pub(super) async fn broken_keys(&self, said: &Said) -> Option<String> {
        for (text, keyed) in &said.keyed {
            let sent = match self.send_keyed(text, &keyed.name, &keyed.bytes, |_| ()).await {
                Ok(Ok(sent)) => sent,
                other => return Some(format!("{text}, sent again: {other:?}")),
            };
            FOUND_AGAIN.fetch_add(usize::from(matches!(sent, Sent::Repeated(_))), Ordering::Relaxed);
            let Some(id) = sent.accepted().map(|accepted| accepted.id) else { return Some(format!("{text} is held")) };
            if keyed.told.is_some_and(|told| told != id) {
                return Some(format!("{text} is {id} now, and was {:?}", keyed.told));
            }
            let mut files = 0;
            for id in self.queue.ids().await.expect("ids") {
                let entry = self.queue.get(id).await.expect("listed");
                files += usize::from(entry.name == keyed.name && entry.state != State::Superseded);
            }
            if files != 1 {
                return Some(format!("there are {files} files of {text}"));
            }
        }
        said.faults.first().cloned()
    }
}

impl Said {
    /// The sender of a key was told of this file.
    fn tell(&mut self, text: &str, id: Option<FileId>) {
        let (Some(keyed), Some(id)) = (self.keyed.get_mut(text), id) else { return };
        if keyed.told.is_some_and(|told| told != id) {
            self.faults.push(format!("{text} is {id} and {:?}", keyed.told));
        }
        keyed.told = Some(id);
        self.accepted.insert(id, keyed.name.clone());
    }
}

/// A house on a disk that does not fail.
async fn house(beside: &Path, disk: &SimDisk) -> House {
    std::fs::create_dir_all(beside.join("partners")).expect("mkdir");
    House::open(disk, beside, &beside.join("index")).await.expect("opens")
}

#[tokio::test]
async fn a_key_is_for_one_file_and_the_same_file_is_told_again() {
    let beside = tempfile::tempdir().expect("a directory");
    let disk = SimDisk::new(1).with_dir(Path::new(DATA));
    let place = house(beside.path(), &disk).await;
    let (bytes, large) = (Bytes::from_static(b"MSH|^~\\&|"), Bytes::from(vec![7; 300_000]));
    let mut first = Vec::new();
    for (text, bytes) in [("small", &bytes), ("large", &large)] {
        let sent = place.send_keyed(text, &format!("{text}.hl7"), bytes, |_| ()).await.expect("taken");
        let Ok(Sent::Accepted(accepted)) = sent else { panic!("{text}: {sent:?}") };
        first.push(accepted);
    }
    drop(place);
    let place = house(beside.path(), &disk).await;
    for (before, bytes) in first.iter().zip([&bytes, &large]) {
        let (text, name) = (before.name().split('.').next().expect("a word"), before.name());
        let again = place.send_keyed(text, name, bytes, |_| ()).await.expect("read");
        let Ok(Sent::Repeated(again)) = again else { panic!("{again:?}") };
        assert_eq!((again.id, again.size_bytes, again.sha256), (before.id, before.size_bytes, before.sha256));
        assert_eq!((again.received_at, again.name()), (before.received_at, before.name()));
        assert_eq!(again.kept(), before.kept());
        for (name, bytes) in [
            ("another.hl7", bytes.clone()),
            ("../no/name", bytes.clone()),
            (name, bytes.slice(1..)),
            (name, [&bytes[1..], b"x"].concat().into()),
            (name, [&bytes[..], b"x"].concat().into()),
            (name, Bytes::new()),
        ] {
            let other = place.send_keyed(text, name, &bytes, |_| ()).await.expect("read");
            assert_eq!(other.err(), Some(KeyReused), "{name} of {} bytes", bytes.len());
        }
    }
    assert_eq!(place.queue.ids().await.expect("ids").len(), 2);
}

#[tokio::test]
async fn a_key_that_came_to_nothing_is_free_again() {
    let beside = tempfile::tempdir().expect("a directory");
    let place = house(beside.path(), &SimDisk::new(1).with_dir(Path::new(DATA))).await;
    let session = session();
    let under_way = async || matches!(place.ingest.claim_key(&session, key("k")).await, Ok(KeyState::UnderWay));
    let claim = async || match place.ingest.claim_key(&session, key("k")).await {
        Ok(KeyState::Free(claim)) => claim,
        other => panic!("{other:?}"),
    };
    let held = claim().await;
    assert!(under_way().await);
    let other = SessionInfo { partner: "other".parse().expect("a name"), ..session.clone() };
    assert!(matches!(place.ingest.claim_key(&other, key("k")).await, Ok(KeyState::Free(_))), "another partner's");
    drop(held);
    // Refused before the first byte, dropped, discarded, cut.
    assert!(place.ingest.begin_keyed(&session, "../no/name", None, claim().await).await.is_err());
    for way in 0..3 {
        let mut intake = place.ingest.begin_keyed(&session, "a.hl7", None, claim().await).await.expect("begins");
        intake.write(Bytes::from_static(b"MSH|")).await.expect("written");
        assert!(under_way().await);
        match way {
            0 => drop(intake),
            1 => intake.discard().await,
            _ => drop(intake.cut("test").await),
        }
        place.ingest.idle().await;
    }
    let intake = place.ingest.begin_keyed(&session, "a.hl7", None, claim().await).await.expect("begins");
    intake.finish(Box::new(Proven)).await.expect("taken");
    assert!(matches!(place.ingest.claim_key(&session, key("k")).await, Ok(KeyState::Used(_))));
}

#[tokio::test]
async fn a_key_is_kept_for_a_day_by_the_time_that_is_believed() {
    let beside = tempfile::tempdir().expect("a directory");
    let disk = SimDisk::new(1).with_dir(Path::new(DATA));
    let place = house(beside.path(), &disk).await;
    let bytes = Bytes::from_static(b"MSH|^~\\&|");
    let send =
        async |house: &House| house.send_keyed("k", "a.hl7", &bytes, |_| ()).await.expect("taken").expect("same");
    assert!(matches!(send(&place).await, Sent::Accepted(_)));
    let day = std::time::Duration::from_secs(86_400);
    place.clock.advance(day);
    place.ingest.sweep_at(start_of_time()).await;
    assert!(matches!(send(&place).await, Sent::Repeated(_)), "a clock that jumps makes no key old");
    place.ingest.sweep_at(place.clock.now()).await;
    assert!(matches!(send(&place).await, Sent::Repeated(_)), "a day and no more");
    place.clock.advance(std::time::Duration::from_secs(1));
    place.ingest.sweep().await;
    assert!(matches!(send(&place).await, Sent::Accepted(_)));
    drop(place);
    assert!(matches!(send(&house(beside.path(), &disk).await).await, Sent::Repeated(_)));
}
