//! What becomes of a file when its way in is cut: by a crash, by a journal that fails, by time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use forebay::{
    answers::Answers,
    clock::{Clock, SetClock},
    contents::Contents,
    gate::{self, Gate},
    ingest::{Accepted, Ingest, Kept, Peer, Proven, RecoveryReport, Refusal, Renamed, SessionInfo},
    partners::{Limits, Partners, Policies},
    routes::{self, Routes},
};
use forebay_queue::{
    Action, Actor, QueueStore, State,
    embedded::{self, EmbeddedQueue},
};
use forebay_storage::{
    FileId, SpoolMaintenance, Storage,
    disk::{
        Disk, OsDisk,
        sim::{SimDisk, SyncClass},
    },
    local::{self, LocalStorage},
};

struct House {
    queue: Arc<EmbeddedQueue>,
    storage: Arc<LocalStorage>,
    ingest: Arc<Ingest>,
    clock: SetClock,
    found: RecoveryReport,
}

impl House {
    /// Opens storage and queue in `data` on this disk; index, accounts and views are in `beside`, a real directory.
    async fn open(disk: Arc<dyn Disk>, data: &Path, beside: &Path) -> Self {
        Self::open_with(disk, data, beside, 0).await
    }

    /// The same, with files of up to so many bytes that have no spool file.
    async fn open_with(disk: Arc<dyn Disk>, data: &Path, beside: &Path, inline_bytes: u64) -> Self {
        let clock = SetClock::new(DateTime::<Utc>::from_timestamp(1_777_075_200, 0).unwrap());
        let shared_clock: Arc<dyn Clock> = Arc::new(clock.clone());
        let storage = LocalStorage::open(
            disk.clone(),
            data,
            local::Options { reserve_bytes: 0, reserve_inodes: 0, inline_bytes },
        )
        .unwrap();
        let storage = Arc::new(storage);
        let options = embedded::Options { segment_bytes: 256 << 10, ..embedded::Options::default() };
        let (queue, recovered) =
            EmbeddedQueue::open(disk, &data.join("journal"), &beside.join("queue"), options).unwrap();
        let queue = Arc::new(queue);
        let route = routes::Options {
            name: "all".to_owned(),
            processor: routes::ProcessorKind::Deliver,
            directory: Some(beside.join("delivered")),
            ..routes::Options::default()
        };
        let partners =
            Partners::open(&beside.join("partners"), Limits::default(), Policies::default(), shared_clock.clone());
        let routes = Arc::new(Routes::from_options(vec![route]).unwrap());
        let gate = Gate::open(&beside.join("gate"), gate::Options::default(), shared_clock.clone(), None).unwrap();
        let dependencies = forebay::ingest::Dependencies {
            storage: storage.clone(),
            queue: queue.clone(),
            catalogue: queue.clone(),
            answers: Arc::new(Answers::new(gate, routes.clone(), shared_clock.clone(), true)),
            routes,
            partners: partners.unwrap(),
            clock: shared_clock,
        };
        let ingest = Ingest::new(dependencies, forebay::ingest::Options::default());
        let found = ingest.recover(&recovered, &*storage).await.unwrap();
        Self { queue, storage, ingest, clock, found }
    }

    fn contents(&self) -> Contents {
        Contents::new(self.storage.clone(), self.queue.clone())
    }

    async fn upload(&self, name: &str) -> Result<Accepted, Refusal> {
        let mut intake = self.ingest.begin(&session(), name, None).await?;
        intake.write(Bytes::from_static(b"MSH|^~\\&|")).await?;
        intake.finish(Box::new(Proven)).await
    }

    async fn state(&self, id: FileId) -> State {
        self.queue.get(id).await.unwrap().state
    }
}

fn session() -> SessionInfo {
    SessionInfo {
        partner: "clinic".parse().unwrap(),
        door: "ftp",
        peer: Peer::Address("127.0.0.1:1".parse().unwrap()),
        id: uuid::Uuid::nil(),
    }
}

#[tokio::test]
async fn a_purge_that_a_crash_cut_is_finished_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let house = House::open(OsDisk::shared(), data, data).await;
    let id = house.upload("a.hl7").await.unwrap().id;
    let now = house.clock.now();
    house.queue.act(&[id], Action::Cancel, None, Actor::Server, now).await.remove(0).unwrap();
    let later = now + Duration::from_secs(1);
    assert_eq!(house.queue.purge(later, 10, later).await.unwrap().kept, [id]);
    // The server ends here: the journal says that it was purged, and the bytes are still there.
    drop(house);
    let house = House::open(OsDisk::shared(), data, data).await;
    assert_eq!((house.found.purged, &house.found.adopted[..]), (1, &[][..]));
    assert_eq!(house.storage.ids().await.unwrap(), []);
}

/// What the sync of a record failed under: a spool file, and bytes that came with the record.
#[tokio::test]
async fn a_file_whose_record_may_be_in_the_journal_keeps_its_bytes() {
    for inline_bytes in [0, 64 << 10] {
        let (mut known, mut others) = (0, 0);
        for seed in 0..24 {
            let dir = tempfile::tempdir().unwrap();
            let data = Path::new("/data");
            let disk = SimDisk::new(seed).with_dir(data);
            let house = House::open_with(disk.shared(), data, dir.path(), inline_bytes).await;
            house.upload("first.hl7").await.unwrap();
            // The segment, its spare, which a thread of its own makes, and the record: what fails now is a record's sync.
            let made = async {
                while disk.syncs(SyncClass::Recent) < 3 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), made).await.expect("the journal has its spare");
            disk.fail_next(SyncClass::Recent);
            let refused = house.upload("second.hl7").await.unwrap_err();
            assert!(matches!(refused, Refusal::Stopped(_)), "{refused:?}");
            // Nothing more is taken, and what is refused now leaves nothing behind: its record was never written.
            assert!(matches!(house.upload("third.hl7").await, Err(Refusal::Stopped(_))));
            drop(house);
            let house = House::open_with(disk.reboot().shared(), data, dir.path(), inline_bytes).await;
            assert_eq!(house.found.missing, [], "seed {seed}: an entry without bytes");
            assert_eq!(house.found.set_aside, [], "seed {seed}");
            let mut second = false;
            for id in house.queue.ids().await.unwrap() {
                let entry = house.queue.get(id).await.unwrap();
                let bytes = house.contents().open(id).await.unwrap().read(0..99).await.unwrap();
                assert_eq!(bytes, &b"MSH|^~\\&|"[..], "seed {seed}: {}", entry.name);
                second |= entry.name == "second.hl7";
                match (entry.name.as_str(), entry.state) {
                    ("first.hl7", State::Ready) => {}
                    ("second.hl7", State::Ready) => known += 1,
                    ("second.hl7", State::Held) if inline_bytes == 0 => others += 1,
                    other => panic!("seed {seed}: {other:?}"),
                }
            }
            // Bytes that come with a record are gone where that is.
            others += usize::from(inline_bytes > 0 && !second);
            assert!(second || inline_bytes > 0, "seed {seed}: the bytes of both are there");
        }
        assert!(known > 0 && others > 0, "both were seen: {known} known, {others} adopted or gone");
    }
}

#[tokio::test]
async fn a_rename_that_comes_too_late_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let house = House::open(OsDisk::shared(), data, data).await;
    let id = house.upload("a.hl7.part").await.unwrap().id;
    house.clock.advance(Duration::from_secs(2 * 86_400));
    assert_eq!(house.ingest.sweep().await.held, 1);
    assert_eq!(house.state(id).await, State::Held);
    let late = house.ingest.files(&session()).rename("a.hl7.part", "a.hl7").await;
    assert!(matches!(late, Err(Refusal::Denied(_))), "{late:?}");
    assert_eq!(house.queue.get(id).await.unwrap().name, "a.hl7.part");
    // Sent again it is another file, and that is accepted.
    house.upload("a.hl7.part").await.unwrap();
    let again = house.ingest.files(&session()).rename("a.hl7.part", "a.hl7").await.unwrap();
    assert!(matches!(&again, Renamed::Files(files) if matches!(files[0].kept(), Kept::Queued { .. })), "{again:?}");
    // One that no processor has begun is processed under its new name.
    let Renamed::Files(files) = house.ingest.files(&session()).rename("a.hl7", "b.hl7").await.unwrap() else {
        panic!("it has not begun")
    };
    assert_eq!(files[0].name(), "b.hl7");
    assert!(matches!(files[0].kept(), Kept::Queued { .. }), "{files:?}");
}

#[tokio::test]
async fn an_upload_whose_task_ends_is_kept_before_the_server_ends() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let house = House::open(OsDisk::shared(), data, data).await;
    let mut intake = house.ingest.begin(&session(), "a.hl7", None).await.unwrap();
    intake.write(Bytes::from_static(b"half of it")).await.unwrap();
    drop(intake);
    house.ingest.idle().await;
    let partial = house.storage.partial("clinic", "a.hl7").await.unwrap();
    assert_eq!(partial.map(|partial| partial.size_bytes), Some(10));
    assert_eq!(Arc::strong_count(&house.ingest), 1, "nothing holds on to what is closed");
}

#[tokio::test]
async fn a_purged_file_leaves_the_catalogue_and_takes_no_newer_one_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let house = House::open(OsDisk::shared(), data, data).await;
    let month = Duration::from_secs(31 * 86_400);
    for (name, again) in [("gone.hl7", false), ("again.hl7", true)] {
        let id = house.upload(name).await.unwrap().id;
        let now = house.clock.now();
        house.queue.act(&[id], Action::Cancel, None, Actor::Server, now).await.remove(0).unwrap();
        if again {
            house.upload(name).await.unwrap();
        }
    }
    house.clock.advance(month);
    assert_eq!(house.ingest.sweep().await.purged, 2);
    assert_eq!(house.storage.ids().await.unwrap().len(), 1);
    let files = house.ingest.files(&session());
    assert!(files.stat("gone.hl7").await.is_err() && files.stat("again.hl7").await.is_ok());
}
