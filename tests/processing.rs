//! What happens behind the gate, with the real queue, storage and gate: processors and their contracts, order, pauses,
//! closures, and what a crash leaves running.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test says so by failing")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use forebay::{
    clock::{Clock, SystemClock},
    contents::Contents,
    gate::{self, AtClose, Gate},
    process::{self, Dependencies, Dispatcher, Outcome, Processor, Report, WholeFiles, Work},
    routes::{self, Routes},
};
use forebay_queue::{
    Action, Actor, ClaimRequest, Entry, Fact, NewEntry, Order, QueueStore, RouteRequest, State, embedded::EmbeddedQueue,
};
use forebay_storage::{Content, FileId, NewFile, Storage, disk::OsDisk, local::LocalStorage};
use tokio::{sync::Semaphore, task::JoinHandle, time};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const BOUND: Duration = Duration::from_secs(30);

/// A data directory with all that processing stands on.
struct House {
    dir: tempfile::TempDir,
    queue: Arc<dyn QueueStore>,
    storage: Arc<dyn Storage>,
    gate: Arc<Gate>,
    routes: Arc<Routes>,
    clock: Arc<dyn Clock>,
    instance: Uuid,
    /// Files that were put into it.
    puts: AtomicUsize,
}

struct Works {
    dispatcher: Arc<Dispatcher>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Works {
    async fn end(self) {
        self.shutdown.cancel();
        time::timeout(BOUND, self.task).await.expect("the dispatcher ends").unwrap();
    }
}

impl House {
    fn new(routes: &str) -> Self {
        Self::with_gate(routes, gate::Options::default())
    }

    /// `OUT` in the routes stands for a directory that programs may write to.
    fn with_gate(routes: &str, options: gate::Options) -> Self {
        #[derive(serde::Deserialize)]
        struct Config {
            route: Vec<routes::Options>,
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("OUT")).unwrap();
        let text = routes.replace("OUT/", &format!("{}/OUT/", dir.path().display()));
        let config: Config = toml::from_str(&text).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        Self {
            queue: open_queue(dir.path()).0,
            storage: Arc::new(LocalStorage::open(Arc::new(OsDisk), dir.path(), storage_options()).unwrap()),
            gate: Gate::open(&dir.path().join("gate"), options, Arc::clone(&clock), None).unwrap(),
            routes: Arc::new(Routes::from_options(config.route).unwrap()),
            clock,
            instance: process::instance_of(dir.path()).unwrap(),
            puts: AtomicUsize::new(0),
            dir,
        }
    }

    fn out(&self, name: &str) -> PathBuf {
        self.dir.path().join("OUT").join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.out(name)).unwrap_or_default()
    }

    fn dependencies(&self) -> Dependencies {
        Dependencies {
            queue: Arc::clone(&self.queue),
            contents: Contents::new(Arc::clone(&self.storage), Arc::clone(&self.queue)),
            gate: Arc::clone(&self.gate),
            routes: Arc::clone(&self.routes),
            clock: Arc::clone(&self.clock),
            data: self.dir.path().to_owned(),
            instance: self.instance,
            options: process::Options {
                kill_after: Duration::from_millis(500),
                shutdown_grace: Duration::from_millis(100),
                probe_first: Duration::from_millis(50),
                probe_max: Duration::from_millis(100),
                ..process::Options::default()
            },
        }
    }

    fn start(&self) -> Works {
        Self::run(Dispatcher::new(self.dependencies()))
    }

    fn start_with(&self, route: &str, processor: Arc<dyn Processor>) -> Works {
        Self::run(Dispatcher::with_processors(self.dependencies(), BTreeMap::from([(route.to_owned(), processor)])))
    }

    fn run(dispatcher: Arc<Dispatcher>) -> Works {
        let (shutdown, own) = (CancellationToken::new(), Arc::clone(&dispatcher));
        let token = shutdown.clone();
        let task = tokio::spawn(async move { own.run(token).await });
        Works { dispatcher, shutdown, task }
    }

    async fn put(&self, partner: &str, name: &str, bytes: &[u8]) -> Entry {
        let now = self.clock.now();
        let id = FileId::new(now);
        let file = NewFile {
            id,
            partner: partner.into(),
            name: name.into(),
            door: "ftp".into(),
            began_at: now,
            origin: None,
            goes_on: None,
        };
        let mut upload = self.storage.begin(file).await.unwrap();
        upload.write(Bytes::copy_from_slice(bytes)).await.unwrap();
        // One way and the other, in turn.
        let is_inline = self.puts.fetch_add(1, Ordering::Relaxed) % 2 == 1;
        let sealed = upload.seal().await.unwrap();
        let (meta, content) = match is_inline {
            true => sealed.into_inline(now).map(|(meta, bytes)| (meta, Content::Inline(bytes))).ok().unwrap(),
            false => (tokio::task::spawn_blocking(move || sealed.commit(now)).await.unwrap().unwrap(), Content::Kept),
        };
        let new = NewEntry {
            id,
            partner: meta.partner,
            name: meta.name,
            door: meta.door,
            size_bytes: meta.size_bytes,
            sha256: meta.sha256,
            received_at: now,
            route: self.routes.serve(partner, name).map(|route| route.name().to_owned()),
            state: State::Ready,
            reason: None,
            hold: None,
            origin: None,
            idempotency_key: None,
            supersedes: None,
            continues: None,
            claimable_from: None,
        };
        self.queue.accept(new, content, now).await.unwrap()
    }

    async fn until(&self, id: FileId, what: impl Fn(&Entry) -> bool) -> Entry {
        let mut changed = self.queue.changed();
        let waited = time::timeout(BOUND, async {
            loop {
                changed.mark_unchanged();
                let entry = self.queue.get(id).await.unwrap();
                if what(&entry) {
                    return entry;
                }
                let _ = time::timeout(Duration::from_millis(50), changed.changed()).await;
            }
        });
        match waited.await {
            Ok(entry) => entry,
            Err(_) => panic!("it never came to that: {:?}", self.queue.get(id).await),
        }
    }

    async fn until_state(&self, id: FileId, state: State) -> Entry {
        self.until(id, |entry| entry.state == state).await
    }

    async fn facts(&self, id: FileId) -> Vec<Fact> {
        self.queue.history(id).await.unwrap().into_iter().map(|(_, record)| record.fact).collect()
    }

    /// What the last attempt put out.
    async fn output(&self, id: FileId) -> String {
        let facts = self.facts(id).await;
        facts
            .into_iter()
            .rev()
            .find_map(|fact| if let Fact::Ended { output, .. } = fact { Some(output) } else { None })
            .unwrap()
    }

    async fn close(&self, scope: &[&str]) {
        let (gate, scope) = (Arc::clone(&self.gate), scope.iter().map(|name| (*name).to_owned()).collect());
        let until = self.clock.now() + Duration::from_secs(3600);
        let closed =
            tokio::task::spawn_blocking(move || gate.close(scope, Some(until), "test".into(), None, "t".into()));
        closed.await.unwrap().unwrap();
    }

    fn reopen(&self) {
        self.gate.reopen(Vec::new(), "test".into(), "t".into()).unwrap();
    }
}

fn open_queue(data: &Path) -> (Arc<dyn QueueStore>, forebay_queue::Recovered) {
    let (journal, index) = (data.join("journal"), data.join("queue"));
    let (queue, recovered) =
        EmbeddedQueue::open(Arc::new(OsDisk), &journal, &index, forebay_queue::embedded::Options::default()).unwrap();
    (Arc::new(queue), recovered)
}

fn storage_options() -> forebay_storage::local::Options {
    forebay_storage::local::Options { reserve_bytes: 0, reserve_inodes: 0, inline_bytes: 64 << 10 }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waited = time::timeout(BOUND, async {
        while !is_so() {
            time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "it never came to that: {what}");
}

fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rfind(')').is_some_and(|end| !stat[end..].starts_with(") Z"))
}

fn exec(script: &str) -> String {
    format!("[[route]]\nname = \"r\"\nprocessor = \"exec\"\ncommand = [\"/bin/sh\", \"-c\", '''{script}''']\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_code_decides_what_becomes_of_a_file() {
    let house = House::new(&(exec("read code; [ $code = kill ] && kill -9 $$; exit $code") + "order = \"none\"\n"));
    let works = house.start();
    for (code, state, attempts, reason) in [
        ("0", State::Done, 1, None),
        ("65", State::Quarantined, 1, Some("exit 65")),
        ("75", State::Retrying, 1, Some("exit 75")),
        ("1", State::Retrying, 1, Some("exit 1")),
        ("kill", State::Retrying, 1, Some("killed by signal 9")),
    ] {
        let id = house.put("demo", &format!("{code}.txt"), format!("{code}\n").as_bytes()).await.id;
        let entry = house.until_state(id, state).await;
        assert_eq!((entry.attempts, entry.reason.as_deref()), (attempts, reason), "exit {code}");
        assert_eq!(entry.due_at.is_some(), state == State::Retrying);
    }
    assert!(works.dispatcher.paused().is_empty());
    works.end().await;
    assert_eq!(fs::read_dir(house.dir.path().join("scratch")).unwrap().count(), 0, "no attempt's directory is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_the_file_twice_and_this_environment_alone() {
    let route = "[[route]]\nname = \"r\"\nprocessor = \"exec\"\nenvironment = { MINE = \"1\" }\n";
    let house = House::new(&format!("{route}command = [\"env\"]\n"));
    let works = house.start();
    let entry = house.put("demo", "in/a b.hl7", b"MSH|").await;
    house.until_state(entry.id, State::Done).await;
    works.end().await;
    let output = house.output(entry.id).await;
    let got: BTreeMap<_, _> = output.lines().filter_map(|line| line.split_once('=')).collect();
    let path = house.dir.path().join("scratch").join(format!("{}-1", entry.id)).join("a b.hl7");
    let (id, sha256, received) = (entry.id.to_string(), entry.sha256.to_string(), entry.received_at.to_rfc3339());
    let (path, instance) = (path.display().to_string(), house.instance.to_string());
    let mut wanted = BTreeMap::from([
        ("MINE", "1"),
        ("FOREBAY_FILE_ID", id.as_str()),
        ("FOREBAY_PARTNER", "demo"),
        ("FOREBAY_NAME", "in/a b.hl7"),
        ("FOREBAY_PATH", path.as_str()),
        ("FOREBAY_SHA256", sha256.as_str()),
        ("FOREBAY_SIZE", "4"),
        ("FOREBAY_ATTEMPT", "1"),
        ("FOREBAY_ROUTE", "r"),
        ("FOREBAY_DOOR", "ftp"),
        ("FOREBAY_RECEIVED_AT", received.as_str()),
        ("FOREBAY_INSTANCE", instance.as_str()),
    ]);
    let kept: Vec<_> =
        ["PATH", "HOME", "LANG"].into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?))).collect();
    wanted.extend(kept.iter().map(|(name, value)| (*name, value.as_str())));
    assert_eq!(got, wanted);

    let house =
        House::new(&exec("cat > OUT/stdin; cat \"$FOREBAY_PATH\" > OUT/path; pwd > OUT/pwd; echo to stderr >&2"));
    let works = house.start();
    let entry = house.put("demo", "a.hl7", b"MSH|").await;
    house.until_state(entry.id, State::Done).await;
    works.end().await;
    assert_eq!((house.read("stdin"), house.read("path")), ("MSH|".into(), "MSH|".into()));
    assert!(house.read("pwd").trim().ends_with(&format!("{}-1", entry.id)));
    assert_eq!(house.output(entry.id).await, "to stderr\n");
}

/// The first attempt does all that it can to what it was given; the second sees what was accepted, and so does everyone
/// else.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_program_does_to_its_file_changes_what_was_accepted() {
    let script = "if [ $FOREBAY_ATTEMPT = 1 ]; then\n\
          (: > /dev/stdin) 2>/dev/null; (echo evil >> /proc/self/fd/0) 2>/dev/null; ln \"$FOREBAY_PATH\" OUT/$FOREBAY_FILE_ID.link\n\
          chmod 666 \"$FOREBAY_PATH\"; echo evil > \"$FOREBAY_PATH\"; echo evil >> OUT/$FOREBAY_FILE_ID.link\n\
          cat > OUT/$FOREBAY_FILE_ID.1; rm \"$FOREBAY_PATH\"; exit 75\n\
        fi\n\
        cmp \"$FOREBAY_PATH\" - > OUT/$FOREBAY_FILE_ID.differ 2>&1 || exit 65; cat \"$FOREBAY_PATH\" > OUT/$FOREBAY_FILE_ID.2";
    let house = House::new(&(exec(script) + "retry = { first = \"10ms\", max = \"10ms\" }\n"));
    let works = house.start();
    let large: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
    // Small ones with a spool file and without, and one that is too large to be given in memory.
    for (name, bytes) in [("kept", &b"MSH|1"[..]), ("inline", b"MSH|2"), ("large", &large)] {
        let entry = house.put("demo", name, bytes).await;
        house.until_state(entry.id, State::Done).await;
        assert_eq!(house.read(&format!("{}.differ", entry.id)), "", "{name}");
        assert!(fs::read(house.out(&format!("{}.2", entry.id))).unwrap() == bytes, "{name}: the second attempt");
        if name != "large" {
            let given = fs::read(house.out(&format!("{}.1", entry.id))).unwrap();
            assert!(given == bytes, "{name}: what is in memory is not what lies at the path");
        }
        let contents = Contents::new(Arc::clone(&house.storage), Arc::clone(&house.queue));
        let copy = house.out(&format!("{name}.copy"));
        contents.materialize(&entry, &copy, forebay_storage::Durability::Unsynced).expect("is what was accepted");
        assert!(fs::read(copy).unwrap() == bytes, "{name}: accepted bytes");
    }
    works.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partner_gets_no_more_of_a_route_than_it_may() {
    let house = House::new("[[route]]\nname = \"r\"\norder = \"none\"\nper_partner = 2\nconcurrency = 8\n");
    let slow = Arc::new(Slow { claimed: Semaphore::new(0), go: Semaphore::new(0), begun: AtomicUsize::new(0) });
    house.close(&[]).await;
    let mut ids = Vec::new();
    for number in 0..12 {
        let partner = if number < 10 { "big" } else { "small" };
        ids.push(house.put(partner, &format!("{number}"), &[number]).await.id);
    }
    let works = house.start_with("r", Arc::clone(&slow) as Arc<dyn Processor>);
    house.reopen();
    time::timeout(BOUND, slow.claimed.acquire_many(4)).await.unwrap().unwrap().forget();
    let running = works.dispatcher.running();
    assert_eq!(running.iter().filter(|running| running.partner == "big").count(), 2);
    assert_eq!(running.len(), 4);
    slow.go.add_permits(12);
    for id in ids {
        house.until_state(id, State::Done).await;
    }
    works.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_out_ends_the_whole_group() {
    let script = "trap '' TERM; sleep 600 & echo $! > OUT/child; echo $$ > OUT/self; wait; sleep 600";
    let house = House::new(&(exec(script) + "timeout = \"300ms\"\n"));
    let works = house.start();
    let id = house.put("demo", "a", b"x").await.id;
    let entry = house.until_state(id, State::Retrying).await;
    assert_eq!(entry.reason.as_deref(), Some("timed out after 300ms"));
    assert_eq!(entry.attempts, 1);
    for name in ["self", "child"] {
        assert!(!house.read(name).is_empty());
        until("the process is gone", || !runs(&house.read(name))).await;
    }
    works.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_leaves_behind_ends_with_it() {
    let house = House::new(&exec("sleep 600 & echo $! > OUT/child"));
    let works = house.start();
    let id = house.put("demo", "a", b"x").await.id;
    house.until_state(id, State::Done).await;
    until("the process is gone", || !runs(&house.read("child"))).await;
    works.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_output_costs_no_memory_and_its_end_is_kept() {
    let house = House::new(&exec("head -c 104857600 /dev/zero | tr '\\\\0' x; echo; echo the end"));
    let works = house.start();
    let id = house.put("demo", "a", b"x").await.id;
    house.until_state(id, State::Done).await;
    assert_eq!(house.output(id).await, "the end\n");
    works.end().await;
    let peak = fs::read_to_string("/proc/self/status").unwrap();
    let peak = peak.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let kib: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 400 << 10, "{peak}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_closes_stops_what_runs_and_does_not_count_it() {
    let script = "trap 'echo term > OUT/term; exit 1' TERM; echo > OUT/began; while :; do sleep 0.05; done";
    let house = House::new(&exec(script));
    let works = house.start();
    let id = house.put("demo", "a", b"x").await.id;
    until("it began", || house.out("began").exists()).await;
    assert_eq!(works.dispatcher.running().len(), 1);
    house.close(&[]).await;
    let entry = house.until_state(id, State::Ready).await;
    assert_eq!((entry.attempts, house.read("term").as_str()), (0, "term\n"));
    time::timeout(BOUND, works.dispatcher.wait_idle(&[])).await.unwrap();
    works.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_lets_finish_does() {
    let options = gate::Options { at_close: AtClose::Finish, ..gate::Options::default() };
    let house = House::with_gate(&exec("echo > OUT/began; until [ -e OUT/go ]; do sleep 0.02; done"), options);
    let works = house.start();
    let id = house.put("demo", "a", b"x").await.id;
    until("it began", || house.out("began").exists()).await;
    house.close(&[]).await;
    let second = house.put("demo", "b", b"y").await.id;
    fs::write(house.out("go"), "").unwrap();
    house.until_state(id, State::Done).await;
    works.end().await;
    assert_eq!(house.queue.get(second).await.unwrap().state, State::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_route_is_not_claimed_while_another_is_and_goes_on_by_itself() {
    let routes = exec("exit 0").replace("name = \"r\"", "name = \"shut\"\npaths = [\"*.s\"]") + &exec("exit 0");
    let house = House::new(&routes);
    house.close(&["shut"]).await;
    let works = house.start();
    let shut = house.put("demo", "a.s", b"x").await.id;
    // What is processed after it shows that the dispatcher has looked.
    for number in 0..3 {
        let open = house.put("demo", &format!("{number}"), &[number]).await.id;
        house.until_state(open, State::Done).await;
    }
    assert_eq!(house.facts(shut).await.len(), 1, "accepted, and nothing else");
    house.reopen();
    house.until_state(shut, State::Done).await;
    works.end().await;
}

/// Waits between claim and hand-over for as long as a test wants.
struct Slow {
    claimed: Semaphore,
    go: Semaphore,
    begun: AtomicUsize,
}

#[async_trait]
impl Processor for Slow {
    async fn process(&self, work: &Arc<Work>) -> Report {
        self.claimed.add_permits(1);
        self.go.acquire().await.unwrap().forget();
        match work.hand_over(|| self.begun.fetch_add(1, Ordering::SeqCst)) {
            Ok(_) => Outcome::Done.into(),
            Err(_) => Outcome::gate_closed().into(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_closes_after_the_claim_refuses_the_hand_over() {
    let house = House::new("[[route]]\nname = \"r\"\n");
    let slow = Arc::new(Slow { claimed: Semaphore::new(0), go: Semaphore::new(0), begun: AtomicUsize::new(0) });
    let works = house.start_with("r", Arc::clone(&slow) as Arc<dyn Processor>);
    let id = house.put("demo", "a", b"x").await.id;
    time::timeout(BOUND, slow.claimed.acquire()).await.unwrap().unwrap().forget();
    house.close(&[]).await;
    slow.go.add_permits(1);
    let entry = house.until_state(id, State::Ready).await;
    assert_eq!((entry.attempts, slow.begun.load(Ordering::SeqCst)), (0, 0));
    house.reopen();
    slow.go.add_permits(1);
    let entry = house.until_state(id, State::Done).await;
    assert_eq!((entry.attempts, slow.begun.load(Ordering::SeqCst)), (1, 1));
    works.end().await;
}

/// Panics over the first file.
struct Panicking(AtomicUsize);

#[async_trait]
impl Processor for Panicking {
    async fn process(&self, _: &Arc<Work>) -> Report {
        assert!(self.0.fetch_add(1, Ordering::SeqCst) > 0, "on purpose");
        Outcome::Done.into()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_panics_does_not_keep_its_place() {
    let house = House::new("[[route]]\nname = \"r\"\nconcurrency = 1\n");
    let works = house.start_with("r", Arc::new(Panicking(AtomicUsize::new(0))));
    let first = house.put("demo", "a", b"x").await.id;
    house.until(first, |entry| entry.state == State::Active).await;
    let second = house.put("other", "b", b"y").await.id;
    house.until_state(second, State::Done).await;
    works.end().await;
}

/// A storage during whose copying the gate closes.
struct Closing {
    storage: Arc<dyn Storage>,
    gate: Arc<Gate>,
}

#[async_trait]
impl Storage for Closing {
    fn materialize(
        &self,
        id: FileId,
        dest: &Path,
        how: forebay_storage::Durability,
    ) -> forebay_storage::Result<forebay_storage::Verified> {
        let verified = self.storage.materialize(id, dest, how)?;
        self.gate.close(Vec::new(), None, "test".into(), None, "t".into()).unwrap();
        Ok(verified)
    }
    fn read_whole(
        &self,
        _: FileId,
        _: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> forebay_storage::Result<forebay_storage::Verified> {
        unimplemented!()
    }
    async fn begin(&self, _: NewFile) -> forebay_storage::Result<Box<dyn forebay_storage::Upload>> {
        unimplemented!()
    }
    async fn resume(&self, _: NewFile, _: u64) -> forebay_storage::Result<Box<dyn forebay_storage::Upload>> {
        unimplemented!()
    }
    async fn partial(&self, _: &str, _: &str) -> forebay_storage::Result<Option<forebay_storage::PartialInfo>> {
        unimplemented!()
    }
    async fn sweep_partials(&self, _: DateTime<Utc>) -> forebay_storage::Result<usize> {
        unimplemented!()
    }
    async fn partial_count(&self, _: &str) -> forebay_storage::Result<u64> {
        unimplemented!()
    }
    async fn forget_partials(&self, _: &str) -> forebay_storage::Result<usize> {
        unimplemented!()
    }
    async fn partial_bytes(&self, _: &str) -> forebay_storage::Result<u64> {
        unimplemented!()
    }
    fn may_have_partials(&self, _: &str) -> bool {
        false
    }
    async fn drop_partial(&self, _: &str, _: &str) -> forebay_storage::Result<()> {
        unimplemented!()
    }
    async fn give_up_partials(&self, _: &str, _: u64, _: &str) -> forebay_storage::Result<u64> {
        unimplemented!()
    }
    async fn retract(&self, _: FileId, _: forebay_storage::Retract) -> forebay_storage::Result<()> {
        unimplemented!()
    }
    async fn read(&self, _: FileId, _: std::ops::Range<u64>) -> forebay_storage::Result<Bytes> {
        unimplemented!()
    }
    async fn remove(&self, _: &[FileId]) -> forebay_storage::Result<()> {
        unimplemented!()
    }
    async fn close(&self) -> forebay_storage::Result<()> {
        unimplemented!()
    }
    fn admits_copy(&self, destination: &Path, bytes: u64) -> forebay_storage::Result<()> {
        self.storage.admits_copy(destination, bytes)
    }

    fn space(&self) -> forebay_storage::Result<forebay_storage::Space> {
        unimplemented!()
    }
    fn poisoned(&self) -> Option<String> {
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_closes_while_a_file_is_copied_keeps_its_name_from_appearing() {
    for (at_close, state) in [(AtClose::Stop, State::Ready), (AtClose::Finish, State::Done)] {
        let house =
            House::with_gate("[[route]]\nname = \"r\"\n", gate::Options { at_close, ..gate::Options::default() });
        let storage = Closing { storage: Arc::clone(&house.storage), gate: Arc::clone(&house.gate) };
        let deliver = process::Deliver::new(house.out("d"), Contents::new(Arc::new(storage), Arc::clone(&house.queue)));
        let works = house.start_with("r", Arc::new(WholeFiles::new(Arc::new(deliver))));
        let id = house.put("demo", "a.hl7", b"MSH|").await.id;
        let entry = house.until(id, |entry| entry.state == state && entry.changed_seq > entry.turn).await;
        let names: Vec<_> = fs::read_dir(house.out("d/demo")).unwrap().map(|file| file.unwrap().file_name()).collect();
        match at_close {
            AtClose::Stop => assert!(names.is_empty() && entry.attempts == 0, "{names:?}"),
            AtClose::Finish => assert_eq!(names, ["a.hl7"]),
        }
        works.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retrying_head_holds_up_its_lane_and_no_other() {
    let script = "read x; [ $x = again ] && [ $FOREBAY_ATTEMPT = 1 ] && exit 75; echo $FOREBAY_PARTNER/$FOREBAY_NAME >> OUT/order";
    let retry = "retry = { first = \"700ms\", jitter = 0.0 }\n";
    for (order, wanted) in
        [("strict", ["other/c", "one/a", "one/b"].as_slice()), ("none", ["one/b", "other/c", "one/a"].as_slice())]
    {
        let house = House::new(&(exec(script) + retry + &format!("order = \"{order}\"\nconcurrency = 1\n")));
        house.close(&[]).await;
        let mut ids = Vec::new();
        for (partner, name, text) in [("one", "a", "again\n"), ("one", "b", "now\n"), ("other", "c", "now\n")] {
            ids.push(house.put(partner, name, text.as_bytes()).await.id);
        }
        let works = house.start();
        house.reopen();
        for id in ids {
            house.until_state(id, State::Done).await;
        }
        works.end().await;
        let order_file = house.read("order");
        let mut got: Vec<_> = order_file.lines().collect();
        if order == "none" {
            // Whose turn is next among partners is of no matter here.
            assert_eq!(got.last(), wanted.last());
            got.sort_unstable_by_key(|line| wanted.iter().position(|wanted| wanted == line));
        }
        assert_eq!(got, wanted, "{order}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_down_pauses_the_route_and_burns_no_attempts() {
    let script = "echo x >> OUT/runs; [ -e OUT/down ] && exit 71; exit 0";
    let house = House::new(&exec(script));
    fs::write(house.out("down"), "").unwrap();
    house.close(&[]).await;
    let mut ids = Vec::new();
    for partner in ["a", "b", "c", "d"] {
        ids.push(house.put(partner, "x", partner.as_bytes()).await.id);
    }
    let works = house.start();
    house.reopen();
    until("it is paused", || !works.dispatcher.paused().is_empty()).await;
    assert_eq!(works.dispatcher.paused()[0].reason, "exit 71");
    let before = house.read("runs").len();
    until("it is probed, and again", || {
        assert!(works.dispatcher.running().len() <= 4);
        house.read("runs").len() >= before + 6
    })
    .await;
    for id in &ids {
        assert_eq!(house.queue.get(*id).await.unwrap().attempts, 0);
    }
    fs::remove_file(house.out("down")).unwrap();
    for id in ids {
        assert_eq!(house.until_state(id, State::Done).await.attempts, 1);
    }
    assert!(works.dispatcher.paused().is_empty());
    works.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_be_started_pauses_the_route() {
    for command in ["/no/such/program", "no-such-program"] {
        let house = House::new(&format!("[[route]]\nname = \"r\"\nprocessor = \"exec\"\ncommand = [\"{command}\"]\n"));
        let works = house.start();
        let id = house.put("demo", "x", b"x").await.id;
        until("it is paused", || !works.dispatcher.paused().is_empty()).await;
        assert!(works.dispatcher.paused()[0].reason.contains(command));
        works.end().await;
        let entry = house.until_state(id, State::Ready).await;
        assert_eq!(entry.attempts, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_failures_in_a_row_pause_the_route() {
    let house = House::new(&(exec("exit 3") + "concurrency = 1\norder = \"none\"\n"));
    let works = house.start();
    let mut ids = Vec::new();
    for number in 0..8 {
        ids.push(house.put("demo", &format!("{number}"), &[number]).await.id);
    }
    until("it is paused", || !works.dispatcher.paused().is_empty()).await;
    works.end().await;
    let mut attempts = 0;
    for id in ids {
        attempts += house.queue.get(id).await.unwrap().attempts;
    }
    assert_eq!(attempts, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivered_file_is_not_delivered_twice_and_nothing_is_overwritten() {
    let house = House::new("[[route]]\nname = \"r\"\ndirectory = \"OUT/d\"\nduplicate_window = \"0\"\n");
    let works = house.start();
    let dir = house.out("d").join("demo/in");
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(&dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let first = house.put("demo", "in/a.hl7", b"one").await.id;
    house.until_state(first, State::Done).await;
    assert_eq!(names(), ["a.hl7"]);
    // As after a crash that lost the outcome: the same file comes again.
    let act = Action::Requeue(vec![Some("r".into())]);
    house.queue.act(&[first], act, None, Actor::Server, house.clock.now()).await.remove(0).unwrap();
    house.until(first, |entry| entry.state == State::Done).await;
    assert_eq!(names(), ["a.hl7"]);
    // Other files of the same name, one with the same bytes.
    for bytes in [b"two", b"one"] {
        let id = house.put("demo", "in/a.hl7", bytes).await.id;
        house.until_state(id, State::Done).await;
        let id = id.to_string();
        let other = dir.join(format!("a.{}.hl7", &id[id.len() - 8..]));
        assert_eq!(fs::read(other).unwrap(), bytes);
    }
    assert_eq!(fs::read(dir.join("a.hl7")).unwrap(), b"one");
    assert_eq!(names().len(), 3);
    works.end().await;
}

/// The disk may have damaged them, or a program that had them before may have written to them.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_what_was_accepted_are_handed_to_nobody() {
    let deliver = "[[route]]\nname = \"r\"\ndirectory = \"OUT/d\"\n".to_owned();
    for route in [deliver, exec("cat > OUT/got")] {
        let house = House::new(&route);
        house.close(&[]).await;
        let id = house.put("demo", "a.hl7", b"what was accepted").await.id;
        let days = fs::read_dir(house.dir.path().join("spool")).unwrap();
        let spooled = days.map(|day| day.unwrap().path().join(id.to_string())).find(|path| path.exists()).unwrap();
        fs::set_permissions(&spooled, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::write(&spooled, b"what was OTHER...").unwrap();
        let works = house.start();
        house.reopen();
        let entry = house.until(id, |entry| !matches!(entry.state, State::Ready | State::Active)).await;
        assert_eq!(entry.state, State::Held, "{route}: {:?}", entry.reason);
        works.end().await;
        assert!(!house.out("d/demo/a.hl7").exists() && !house.out("got").exists(), "{route}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_needed_for_a_directory_is_held() {
    let house = House::new("[[route]]\nname = \"r\"\ndirectory = \"OUT/d\"\n");
    let works = house.start();
    let id = house.put("demo", "a", b"1").await.id;
    house.until_state(id, State::Done).await;
    let id = house.put("demo", "a/b", b"2").await.id;
    house.until_state(id, State::Held).await;
    assert!(works.dispatcher.paused().is_empty());
    works.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_gives_back_what_runs() {
    let house = House::new(&exec("echo > OUT/began; sleep 600"));
    let works = house.start();
    let id = house.put("demo", "a", b"x").await.id;
    until("it began", || house.out("began").exists()).await;
    works.end().await;
    let entry = house.queue.get(id).await.unwrap();
    assert_eq!((entry.state, entry.attempts, entry.reason.as_deref()), (State::Ready, 0, Some("the server stopped")));
}

/// Does not end, whatever it is told.
struct Stuck(AtomicUsize);

#[async_trait]
impl Processor for Stuck {
    async fn process(&self, work: &Arc<Work>) -> Report {
        work.hand_over(|| self.0.fetch_add(1, Ordering::SeqCst)).unwrap();
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_does_not_wait_for_ever() {
    let house = House::new("[[route]]\nname = \"r\"\n");
    let stuck = Arc::new(Stuck(AtomicUsize::new(0)));
    let works = house.start_with("r", Arc::clone(&stuck) as Arc<dyn Processor>);
    house.put("demo", "a", b"x").await;
    until("it began", || stuck.0.load(Ordering::SeqCst) == 1).await;
    works.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crashed_server_left_running_is_stopped_before_anything_is_claimed() {
    let mut house = House::new(&exec("exit 0"));
    let id = house.put("demo", "a", b"x").await.id;
    let ask = ClaimRequest {
        routes: vec![RouteRequest { name: "r".into(), slots: 1, order: Order::Strict, per_partner: 0 }],
        limit: 1,
        lease_ms: 60_000,
        ..ClaimRequest::default()
    };
    assert_eq!(house.queue.claim(ask, house.clock.now()).await.unwrap().len(), 1);
    let mut child = Command::new("/bin/sh")
        .args(["-c", "trap '' TERM; sleep 600 & echo $! > \"$0\"; wait; wait; sleep 600"])
        .arg(house.out("child"))
        .env("FOREBAY_INSTANCE", house.instance.to_string())
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    until("it began", || !house.read("child").trim().is_empty()).await;
    fs::create_dir_all(house.dir.path().join("scratch/left")).unwrap();
    // The server is gone: only the directory is left.
    let nothing: Arc<dyn QueueStore> = {
        let other = tempfile::tempdir().unwrap();
        open_queue(other.path()).0
    };
    drop(std::mem::replace(&mut house.queue, nothing));
    let (queue, maintenance, recovered) = open_again(house.dir.path()).await;
    house.queue = queue;
    assert_eq!(recovered.interrupted.len(), 1);
    let recovery = process::recover_children(
        &maintenance,
        &recovered.interrupted,
        house.instance,
        house.dir.path(),
        &house.clock,
        Duration::from_millis(200),
    );
    let (report, ()) = tokio::join!(recovery, async { until("it ends", || child.try_wait().unwrap().is_some()).await });
    let report = report.unwrap();
    assert!(report.stopped >= 2 && report.ready == 1 && report.held == 0, "{report:?}");
    assert!(!runs(&house.read("child")), "its child is gone too");
    assert!(!house.dir.path().join("scratch").exists());
    let works = house.start();
    let entry = house.until_state(id, State::Done).await;
    assert_eq!((entry.attempts, entry.crashes), (1, 1));
    works.end().await;
}

/// The lock goes a moment after the last owner.
async fn open_again(
    data: &Path,
) -> (Arc<dyn QueueStore>, Arc<dyn forebay_queue::EmbeddedMaintenance>, forebay_queue::Recovered) {
    let (journal, index) = (data.join("journal"), data.join("queue"));
    let opened = time::timeout(BOUND, async {
        loop {
            let options = forebay_queue::embedded::Options::default();
            match EmbeddedQueue::open(Arc::new(OsDisk), &journal, &index, options) {
                Ok((queue, recovered)) => return (Arc::new(queue), recovered),
                Err(_) => time::sleep(Duration::from_millis(10)).await,
            }
        }
    });
    let (queue, recovered) = opened.await.expect("the queue opens again");
    (queue.clone(), queue, recovered)
}
