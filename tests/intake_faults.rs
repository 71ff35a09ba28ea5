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
    ingest::{self, Accepted, Ingest, Kept, Peer, Proven, RecoveryReport, Refusal, Renamed, SessionInfo, Start},
    partners::{Limits, Partners, Policies, Policy},
    routes::{self, Routes},
};
use forebay_queue::{
    Action, Actor, Catalogue, QueueStore, State,
    embedded::{self, EmbeddedQueue},
};
use forebay_storage::{
    FileId, NewFile, SpoolMaintenance, Storage,
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
    partners: Arc<Partners>,
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
        Self::open_as(disk, data, beside, inline_bytes, None, Policy::default()).await
    }

    async fn open_as(
        disk: Arc<dyn Disk>,
        data: &Path,
        beside: &Path,
        inline_bytes: u64,
        kept_quota: Option<u64>,
        policy: Policy,
    ) -> Self {
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
        let partners = Partners::open(
            &beside.join("partners"),
            Limits::default(),
            Policies::new(policy, &[]),
            shared_clock.clone(),
        )
        .unwrap();
        let routes = Arc::new(Routes::from_options(vec![route]).unwrap());
        let gate = Gate::open(&beside.join("gate"), gate::Options::default(), shared_clock.clone(), None).unwrap();
        let dependencies = forebay::ingest::Dependencies {
            storage: storage.clone(),
            queue: queue.clone(),
            catalogue: queue.clone(),
            answers: Arc::new(Answers::new(gate, routes.clone(), shared_clock.clone(), true)),
            routes,
            partners: partners.clone(),
            clock: shared_clock,
            metrics: Arc::default(),
        };
        let ingest = Ingest::new(dependencies, ingest::Options { kept_quota, ..ingest::Options::default() });
        let found = ingest.recover(&recovered, &*storage).await.unwrap();
        Self { queue, storage, ingest, partners, clock, found }
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
    session_of("clinic")
}

fn session_of(partner: &str) -> SessionInfo {
    SessionInfo {
        partner: partner.parse().unwrap(),
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

/// Commits the bytes and no record: what a crash between the two leaves.
async fn cut_before_its_record(house: &House, name: &str) -> FileId {
    let id = FileId::new(house.clock.now());
    let (partner, name, door) = ("clinic".to_owned(), name.to_owned(), "ftp".to_owned());
    let file = NewFile { id, partner, name, door, began_at: house.clock.now(), origin: None, goes_on: None };
    let mut upload = house.storage.begin(file).await.unwrap();
    upload.write(Bytes::from_static(b"MSH|^~\\&|")).await.unwrap();
    upload.commit(house.clock.now()).await.unwrap().id
}

#[tokio::test]
async fn a_file_that_a_crash_cut_and_that_is_sent_again_waits_for_no_operator() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let house = House::open_with(OsDisk::shared(), data, data, 0).await;
    let (first, other) = (cut_before_its_record(&house, "a.hl7").await, cut_before_its_record(&house, "b.hl7").await);
    drop(house);
    let house = House::open_with(OsDisk::shared(), data, data, 0).await;
    assert_eq!(house.found.adopted.len(), 2);
    // Cut once more by the next crash: one of the two is enough.
    let again = cut_before_its_record(&house, "a.hl7").await;
    drop(house);
    let house = House::open_with(OsDisk::shared(), data, data, 0).await;
    assert_eq!((house.state(first).await, house.state(again).await), (State::Superseded, State::Held));
    // Found again by a start that adopts nothing.
    drop(house);
    let house = House::open_with(OsDisk::shared(), data, data, 0).await;
    let mut intake = house.ingest.begin(&session(), "a.hl7", None).await.unwrap();
    intake.write(Bytes::from_static(b"MSH|^~\\&!")).await.unwrap();
    let changed = intake.finish(Box::new(Proven)).await.unwrap().id;
    assert_eq!(house.state(again).await, State::Held, "those are other bytes");
    let sent = house.upload("a.hl7").await.unwrap().id;
    let superseded = house.queue.get(again).await.unwrap();
    assert_eq!(superseded.state, State::Superseded);
    assert_eq!(superseded.reason, Some(format!("sent again as file {sent}")));
    assert_eq!(house.state(other).await, State::Held, "nobody sent it again");
    assert!(house.state(sent).await.waits() && house.state(changed).await.waits());
    // A sender that never read the reply sends once more, and what was found is there until then.
    house.queue.withdraw(sent, "its sender was gone", house.clock.now()).await.unwrap();
    assert_eq!(house.state(again).await, State::Held);
    let last = house.upload("a.hl7").await.unwrap().id;
    assert_eq!((house.state(again).await, house.state(last).await.waits()), (State::Superseded, true));
}

#[tokio::test]
async fn files_that_are_over_make_room_before_their_time_and_of_who_keeps_the_most() {
    // A disk with room, whatever the machine's has.
    let beside = tempfile::tempdir().unwrap();
    let data = Path::new("/data");
    let disk = SimDisk::new(1).with_dir(data);
    let house = House::open_as(disk.shared(), data, beside.path(), 5_000, Some(100_000), Policy::default()).await;
    let mut ids = Vec::new();
    for (partner, size, count) in [("clinic", 10_000, 20), ("clinic", 1_000, 20), ("lab", 10_000, 3)] {
        for number in 0..count {
            let name = format!("{size}-{number}.hl7");
            let mut intake = house.ingest.begin(&session_of(partner), &name, None).await.unwrap();
            intake.write(Bytes::from(vec![b'x'; size])).await.unwrap();
            ids.push(intake.finish(Box::new(Proven)).await.unwrap().id);
            house.clock.advance(Duration::from_millis(1));
        }
    }
    let waits = ids.remove(0);
    for outcome in house.queue.act(&ids, Action::Cancel, None, Actor::Server, house.clock.now()).await {
        outcome.unwrap();
    }
    assert_eq!(house.ingest.trim_kept().await.unwrap(), 0, "a sender may just be looking whether they came");
    house.clock.advance(Duration::from_secs(11));
    let gone = house.ingest.trim_kept().await.unwrap();
    let over: u64 = house.queue.over_bytes().await.unwrap().into_iter().map(|(_, bytes)| bytes).sum();
    assert!(gone > 10 && over <= 100_000 && over > 80_000, "{gone} files went, {over} bytes are left");
    // 19 and 20 of the clinic's, oldest first; none of the lab's, which keeps less; and nothing that waits.
    let left: Vec<_> = house.queue.ids().await.unwrap();
    assert!(
        left.contains(&waits) && ids[39..].iter().all(|id| left.contains(id)),
        "those of the lab and what waits stay"
    );
    assert!(!left.contains(&ids[0]) && left.contains(&ids[38]), "the oldest go");
    let spooled = house.storage.ids().await.unwrap();
    assert!(!spooled.contains(&ids[0]) && spooled.iter().all(|id| left.contains(id)), "and their bytes with them");
    assert_eq!(house.ingest.trim_kept().await.unwrap(), 0);
}

/// What a removed partner has left is older than all that the next one of its name sends.
#[tokio::test]
async fn what_a_removed_partner_has_left_goes_before_what_the_next_one_keeps() {
    let beside = tempfile::tempdir().unwrap();
    let data = Path::new("/data");
    let disk = SimDisk::new(1).with_dir(data);
    let house = House::open_as(disk.shared(), data, beside.path(), 5_000, Some(150_000), Policy::default()).await;
    let mut ids = Vec::new();
    for (partner, count) in [("clinic", 10), ("lab", 6), ("clinic", 5)] {
        for number in 0..count {
            let mut intake = house.ingest.begin(&session_of(partner), &format!("{number}.hl7"), None).await.unwrap();
            intake.write(Bytes::from(vec![b'x'; 10_000])).await.unwrap();
            ids.push(intake.finish(Box::new(Proven)).await.unwrap().id);
            house.clock.advance(Duration::from_millis(1));
        }
        if partner == "lab" {
            house.queue.forget_partner("clinic", house.clock.now()).await.unwrap();
            house.clock.advance(Duration::from_millis(1));
        }
    }
    for outcome in house.queue.act(&ids, Action::Cancel, None, Actor::Server, house.clock.now()).await {
        outcome.unwrap();
    }
    house.clock.advance(Duration::from_secs(11));
    assert_eq!(house.ingest.trim_kept().await.unwrap(), 7);
    let left = house.queue.ids().await.unwrap();
    assert_eq!(ids.iter().map(|id| left.contains(id)).collect::<Vec<_>>(), [vec![false; 7], vec![true; 14]].concat());
}

async fn cut(house: &House, name: &str, size: usize) -> u64 {
    let mut intake = house.ingest.begin(&session(), name, None).await.unwrap();
    intake.write(Bytes::from(vec![b'x'; size])).await.unwrap();
    intake.cut("the test says so").await
}

async fn send(house: &House, name: &str, at: u64, size: usize) -> Result<Accepted, Refusal> {
    let (start, size_bytes) = (Start::At(at), at + size as u64);
    let mut intake = house.ingest.resume(&session(), name, start, Some(size_bytes)).await?;
    intake.write(Bytes::from(vec![b'x'; size])).await?;
    let accepted = intake.finish(Box::new(Proven)).await;
    // What is done behind the reply is done.
    house.ingest.idle().await;
    accepted
}

#[tokio::test]
async fn uploads_that_were_cut_keep_nobody_from_sending_within_the_quota() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let policy = Policy { quota_bytes: Some(100_000), ..Policy::default() };
    let house = House::open_as(OsDisk::shared(), data, data, 0, None, policy).await;
    let partial = async |name: &str| house.storage.partial("clinic", name).await.unwrap().map(|info| info.size_bytes);
    // Two cut uploads fill the quota.
    assert_eq!((cut(&house, "a.hl7", 55_000).await, cut(&house, "b.hl7", 45_000).await), (55_000, 45_000));
    // A resume counts its growth, and the other gives way to it as far as that is needed.
    send(&house, "a.hl7", 55_000, 10_000).await.unwrap();
    assert_eq!((partial("a.hl7").await, partial("b.hl7").await), (None, None));
    // A new upload of the name takes the place of what was kept of it.
    assert_eq!(cut(&house, "c.hl7", 30_000).await, 30_000);
    send(&house, "c.hl7", 0, 20_000).await.unwrap();
    assert_eq!(partial("c.hl7").await, None, "it is replaced by what was accepted");
    // Of several as many give way as must.
    assert_eq!((cut(&house, "x.hl7", 7_000).await, cut(&house, "y.hl7", 7_000).await), (7_000, 7_000));
    send(&house, "z.hl7", 0, 3_000).await.unwrap();
    let left = [partial("x.hl7").await, partial("y.hl7").await];
    assert_eq!(left.iter().flatten().count(), 1, "{left:?}");
    // The accepted files wait, and they count.
    assert_eq!(send(&house, "d.hl7", 0, 12_001).await.unwrap_err(), Refusal::Quota);
    send(&house, "d.hl7", 0, 12_000).await.unwrap();
}

#[tokio::test]
async fn an_upload_that_has_room_beside_what_was_cut_takes_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let policy = Policy { quota_bytes: Some(100_000), ..Policy::default() };
    let house = House::open_as(OsDisk::shared(), data, data, 0, None, policy).await;
    cut(&house, "a.hl7", 55_000).await;
    cut(&house, "b.hl7", 10_000).await;
    cut(&house, "e.hl7", 1_000).await;
    send(&house, "c.hl7", 0, 30_000).await.unwrap();
    send(&house, "e.hl7", 0, 1_000).await.unwrap();
    assert_eq!(house.storage.partial("clinic", "e.hl7").await.unwrap(), None, "what was accepted takes its place");
    for (name, size) in [("a.hl7", 55_000), ("b.hl7", 10_000)] {
        assert_eq!(house.storage.partial("clinic", name).await.unwrap().map(|info| info.size_bytes), Some(size));
    }
}

#[tokio::test]
async fn a_partner_that_fills_the_disk_leaves_the_rest_of_it_to_the_others() {
    let beside = tempfile::tempdir().unwrap();
    let data = Path::new("/data");
    let disk = SimDisk::new(1).with_dir(data);
    let house = House::open_with(disk.shared(), data, beside.path(), 0).await;
    for number in 0..8 {
        house.partners.add(&format!("p{number}").parse().unwrap(), "correct horse battery", "").unwrap();
    }
    let used = || house.storage.space().map(|space| space.total_bytes - space.free_bytes).unwrap();
    let send = async |partner: &str, name: &str, size: usize| {
        let mut intake = house.ingest.begin(&session_of(partner), name, Some(size as u64)).await?;
        intake.write(Bytes::from(vec![b'x'; size])).await?;
        intake.finish(Box::new(Proven)).await
    };
    let piece = usize::try_from(used() / 16).unwrap();
    for number in 0..4 {
        send("p0", &number.to_string(), piece).await.unwrap();
    }
    // A sixteenth of the disk is left, and one of eight partners has far more than an eighth of it.
    disk.set_capacity(used() / 15 * 16);
    assert_eq!(send("p0", "more", 1_000).await.unwrap_err(), Refusal::Quota);
    send("p1", "first", 1_000).await.unwrap();
    // One that says nothing of its size is found out on its way.
    let mut intake = house.ingest.begin(&session_of("p2"), "endless", None).await.unwrap();
    let mut refused = None;
    disk.set_capacity(used() / 15 * 16 + (64 << 20));
    for _ in 0..60 {
        if let Err(refusal) = intake.write(Bytes::from(vec![b'x'; 1 << 20])).await {
            refused = Some(refusal);
            break;
        }
    }
    assert_eq!(refused, Some(Refusal::Quota));
    intake.discard().await;
    send("p1", "second", 1_000).await.unwrap();
}

#[tokio::test]
async fn looking_through_many_files_ends_when_the_server_stops() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(OsDisk::shared(), dir.path(), dir.path()).await;
    let session = session();
    let files = house.ingest.files(&session);
    files.make_folder("in").await.unwrap();
    house.upload("in/a.hl7").await.unwrap();
    files.rename("in", "sorted").await.unwrap();
    house.ingest.stop();
    let refused = files.rename("sorted", "in").await.unwrap_err();
    assert!(matches!(refused, Refusal::Stopped(_)), "{refused}");
    assert!(house.upload("b.hl7").await.is_ok(), "what is under way is finished");
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_ends_no_retention_until_it_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(OsDisk::shared(), dir.path(), dir.path()).await;
    let id = house.upload("a.hl7").await.unwrap().id;
    house.queue.act(&[id], Action::Cancel, None, Actor::Server, house.clock.now()).await.remove(0).unwrap();
    let believed = house.clock.now();
    house.clock.jump_to(believed + chrono::TimeDelta::days(400));
    assert_eq!(house.ingest.sweep_at(believed).await.purged, 0);
    assert_eq!(house.state(id).await, State::Cancelled);
    assert_eq!(house.ingest.sweep().await.purged, 1, "and then it is over");
}

#[tokio::test]
async fn what_a_crash_cut_of_a_removed_partner_is_not_what_the_next_one_sends() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let house = House::open_with(OsDisk::shared(), data, data, 0).await;
    let (cut, name) = (cut_before_its_record(&house, "a.hl7").await, "clinic".parse().unwrap());
    drop(house);
    let house = House::open_with(OsDisk::shared(), data, data, 0).await;
    house.partners.add(&name, "secret", "").unwrap();
    house.clock.advance(Duration::from_secs(1));
    house.partners.remove(&name).unwrap();
    house.partners.take_over(&name, "secret", "").unwrap();
    house.clock.advance(Duration::from_secs(1));
    let sent = house.upload("a.hl7").await.unwrap().id;
    assert!(house.state(sent).await.waits());
    assert_eq!(house.state(cut).await, State::Held, "it is another one's");
}
