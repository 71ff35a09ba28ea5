//! What holds at every door, asked of each by the same test: what is kept and when it is said, what is refused, what is
//! left of an upload that breaks off, and that nothing leads out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail, and waits")]

mod harness;

use std::{
    io::Write,
    net::TcpStream,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::RecvTimeoutError,
    },
    thread,
    time::{Duration, Instant},
};

use forebay::{
    clock::{Clock, SystemClock},
    partners::{Complete, Delete, Policy},
};
use forebay_queue::State;
use harness::{
    Door, House, PARTNER, Plan, Why, files_below,
    killed::killed_clients_commit_nothing,
    paths::hostile,
    site::{self, Site, USER},
    wait_until,
};

/// A test for each door, called `ftp::name`, `ftps::name` and `sftp::name`.
macro_rules! at_every_door {
    ($($name:ident),* $(,)?) => {
        at_every_door!(@ ftp, Ftp, $($name),*);
        at_every_door!(@ ftps, Ftps, $($name),*);
        at_every_door!(@ sftp, Sftp, $($name),*);
    };
    (@ $module:ident, $door:ident, $($name:ident),*) => {
        mod $module {
            $(#[test] fn $name() { super::$name(super::Door::$door); })*
        }
    };
}

at_every_door![
    what_is_kept_is_queued_and_shown,
    the_same_name_again_is_a_new_file,
    a_temporary_name_waits_and_its_rename_is_the_acceptance,
    with_complete_rename_every_upload_waits_for_its_rename,
    what_no_route_serves_is_held,
    an_acceptance_tells_of_the_closure_of_its_route_and_of_no_other,
    names_that_are_none_are_refused,
    uploads_in_parallel_cannot_exceed_the_quota,
    a_file_that_is_too_large_is_refused_and_leaves_nothing,
    a_short_disk_refuses_and_leaves_nothing,
    an_upload_that_breaks_off_is_kept_as_a_partial_and_is_no_file,
    an_interrupted_temporary_file_cannot_be_renamed_to_a_final_name,
    out_is_for_reading_and_deleting,
    a_listing_has_what_stays_while_other_names_come_and_go,
    deleting_removes_from_the_view_and_by_policy_cancels,
    a_disabled_account_loses_its_session,
    stopping_lets_an_upload_end,
    stopping_cuts_an_upload_that_goes_on_and_keeps_what_came,
    a_restart_shows_the_same_view_and_adopts_what_the_journal_does_not_know,
    no_path_leads_out,
    connections_beyond_the_limit_are_turned_away,
    who_says_nothing_for_too_long_is_sent_away_and_who_works_is_not,
    a_thousand_slow_connections_do_not_keep_an_honest_upload_away,
    bytes_without_an_end_take_no_memory,
    heavy_killed_clients_commit_nothing,
];

fn house() -> House {
    House::new(Plan::default())
}

fn with_policy(policy: Policy) -> House {
    House::new(Plan { policy, ..Plan::default() })
}

fn partial(house: &House, name: &str) -> Option<u64> {
    house.block_on(house.storage.partial(PARTNER, name)).unwrap().map(|partial| partial.size_bytes)
}

fn what_is_kept_is_queued_and_shown(door: Door) {
    let house = house();
    let mut client = house.enter(door);
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7) as u8).collect();
    client.put("batch.hl7", &bytes).unwrap();
    assert_eq!(client.list("/"), ["batch.hl7"]);
    client.put("empty.hl7", b"").unwrap();
    let entries = house.entries();
    assert_eq!(entries.len(), 2);
    let entry = &entries[0];
    assert_eq!((entry.partner.as_str(), entry.name.as_str(), entry.door.as_str()), (PARTNER, "batch.hl7", door.name()));
    assert_eq!((entry.state, entry.route.as_deref(), entry.size_bytes), (State::Ready, Some("all"), 3_000_000));
    assert_eq!(house.bytes(entry), bytes);
    assert_eq!(client.fetch("batch.hl7").unwrap(), bytes);
}

fn the_same_name_again_is_a_new_file(door: Door) {
    let house = house();
    let mut client = house.enter(door);
    client.put("a.hl7", b"first").unwrap();
    client.put("a.hl7", b"the second").unwrap();
    let entries = house.entries();
    assert_eq!(entries.len(), 2);
    assert_eq!(house.bytes(&entries[0]), b"first");
    assert_eq!(house.bytes(&entries[1]), b"the second");
    assert_eq!(client.fetch("a.hl7").unwrap(), b"the second");
}

fn a_temporary_name_waits_and_its_rename_is_the_acceptance(door: Door) {
    let house = house();
    let mut client = house.enter(door);
    client.put("a.hl7.tmp", b"data").unwrap();
    assert_eq!(house.states("a.hl7.tmp"), [State::Unfinished]);
    client.rename("a.hl7.tmp", "a.hl7").unwrap();
    assert_eq!(house.states("a.hl7"), [State::Ready]);
    assert_eq!(client.list("/"), ["a.hl7"]);
    // Every component counts, and a directory takes its files along.
    client.make_directory("up.part").unwrap();
    client.put("up.part/b.hl7", b"data").unwrap();
    assert_eq!(house.states("up.part/b.hl7"), [State::Unfinished]);
    client.rename("up.part", "up").unwrap();
    assert_eq!(house.states("up/b.hl7"), [State::Ready]);
    // A file that no processor has begun is processed under its new name.
    client.rename("a.hl7", "z.hl7").unwrap();
    assert_eq!((house.states("a.hl7"), house.states("z.hl7")), (vec![], vec![State::Ready]));
    assert_eq!(client.list("/"), ["up", "z.hl7"]);
}

fn with_complete_rename_every_upload_waits_for_its_rename(door: Door) {
    let house = with_policy(Policy { complete: Complete::Rename, ..Policy::default() });
    let mut client = house.enter(door);
    client.put("a.hl7", b"data").unwrap();
    assert_eq!(house.states("a.hl7"), [State::Unfinished]);
    client.rename("a.hl7", "b.hl7").unwrap();
    assert_eq!(house.states("b.hl7"), [State::Ready]);
}

fn what_no_route_serves_is_held(door: Door) {
    let mut plan = Plan::default();
    plan.routes[0].paths = vec!["*.hl7".to_owned()];
    let house = House::new(plan);
    house.enter(door).put("a.txt", b"data").unwrap();
    let entry = house.entries().remove(0);
    assert_eq!((entry.state, entry.route), (State::Held, None));
    assert_eq!(entry.reason.as_deref(), Some("no route serves this file"));
}

fn an_acceptance_tells_of_the_closure_of_its_route_and_of_no_other(door: Door) {
    let route = |name: &str| {
        let route =
            format!("name = {name:?}\nprocessor = \"deliver\"\ndirectory = \"/nowhere\"\npaths = [\"*.{name}\"]");
        toml::from_str(&route).unwrap()
    };
    let house = House::new(Plan { routes: vec![route("hl7"), route("x12")], ..Plan::default() });
    let mut client = house.enter(door);
    for closed in ["hl7", "web"] {
        house.gate.close(vec![closed.to_owned()], None, "an upgrade".to_owned(), None, "operator".to_owned()).unwrap();
    }
    for (name, standing) in [
        ("a.hl7", "; processing deferred until further notice"),
        ("b.x12", ""),
        ("c.tmp", "; it waits for its final name"),
        ("d.txt", "; held: no route serves this file"),
    ] {
        client.put(name, b"hello").unwrap();
        let id = house.entries().into_iter().find(|entry| entry.name == name).unwrap().id;
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(client.acceptance(), format!("Received {id}; 5 bytes, sha256 {sha256}{standing}"), "{name}");
    }
}

fn names_that_are_none_are_refused(door: Door) {
    let house = house();
    let mut client = house.enter(door);
    let long = "x".repeat(256);
    let deep = format!("{}a", "d/".repeat(40));
    for name in ["../up", "a/../../etc/passwd", "..", "tab\tname", "bell\u{7}", &long, &deep] {
        door.assert_refused(client.put(name, b"data"), Why::BadName, name);
    }
    door.assert_refused(client.make_directory("a\tb"), Why::BadName, "a directory");
    // What cannot be seen, or turns the direction of writing: a person would read another name.
    for unseen in
        ['\u{202e}', '\u{2066}', '\u{200b}', '\u{200d}', '\u{feff}', '\u{2028}', '\u{2029}', '\u{ad}', '\u{e0041}']
    {
        let name = format!("lab{unseen}7lh.exe");
        door.assert_refused(client.put(&name, b"data"), Why::BadName, &name);
        door.assert_refused(client.make_directory(&name), Why::BadName, &name);
    }
    client.put("good.hl7", b"data").unwrap();
    assert_eq!(house.entries().len(), 1);
    assert!(files_below(&house.path("tmp")).is_empty());
}

fn uploads_in_parallel_cannot_exceed_the_quota(door: Door) {
    const SIZE: usize = 600_000;
    let house = with_policy(Policy { quota_bytes: Some(5 * SIZE as u64 + 1000), ..Policy::default() });
    let put = |name: &str| {
        let answer = house.enter(door).put(name, &vec![b'x'; SIZE]);
        let accepted = answer.is_ok();
        if !accepted {
            door.assert_refused(answer, Why::Quota, name);
        }
        accepted
    };
    let accepted = thread::scope(|scope| {
        let put = &put;
        let uploads: Vec<_> = (0..16).map(|n| scope.spawn(move || put(&format!("{n}.hl7")))).collect();
        uploads.into_iter().map(|upload| upload.join().unwrap()).filter(|&accepted| accepted).count()
    });
    assert!(accepted <= 5, "{accepted} files are more than the quota");
    assert_eq!(house.entries().len(), accepted);
    // What was refused gave its bytes back: one by one, as many as fit are taken.
    let later = (0..16).filter(|n| put(&format!("late{n}.hl7"))).count();
    assert_eq!(accepted + later, 5);
    assert_eq!(house.block_on(house.queue.unprocessed_bytes(PARTNER)).unwrap(), 5 * SIZE as u64);
    wait_until("nothing is left behind", || files_below(&house.path("tmp")).is_empty());
}

fn a_file_that_is_too_large_is_refused_and_leaves_nothing(door: Door) {
    let house = with_policy(Policy { max_file_bytes: Some(1_000_000), ..Policy::default() });
    let mut client = house.enter(door);
    door.assert_refused(client.put("a.hl7", &vec![0; 1_000_001]), Why::TooLarge, "a byte too many");
    client.put("b.hl7", &vec![0; 1_000_000]).unwrap();
    wait_until("nothing is left behind", || files_below(&house.path("tmp")).is_empty());
    assert!(files_below(&house.path("partials")).is_empty());
    assert_eq!(client.list("/"), ["b.hl7"]);
}

fn a_short_disk_refuses_and_leaves_nothing(door: Door) {
    let house = House::new(Plan { reserve_bytes: 1 << 60, ..Plan::default() });
    let mut client = house.enter(door);
    door.assert_refused(client.put("a.hl7", b"data"), Why::Full, "there is no room");
    assert!(house.entries().is_empty());
    assert!(files_below(&house.path("tmp")).is_empty());
    assert_eq!(client.list("/"), Vec::<String>::new());
}

fn an_upload_that_breaks_off_is_kept_as_a_partial_and_is_no_file(door: Door) {
    let house = house();
    let mut client = house.enter(door);
    client.try_begin("a.hl7", &vec![7; 500_000]).unwrap().unwrap();
    drop(client);
    house.wait_alone();
    assert!(house.entries().is_empty());
    assert!(house.block_on(house.spool.ids()).unwrap().is_empty());
    assert_eq!(partial(&house, "a.hl7"), Some(500_000));
    assert_eq!(house.enter(door).list("/"), Vec::<String>::new());
}

fn an_interrupted_temporary_file_cannot_be_renamed_to_a_final_name(door: Door) {
    let house = house();
    let mut client = house.enter(door);
    client.try_begin("a.tmp", &[1; 1000]).unwrap().unwrap();
    drop(client);
    house.wait_alone();
    door.assert_refused(house.enter(door).rename("a.tmp", "a.hl7"), Why::NotFound, "it never was a file");
    assert!(house.entries().is_empty());
}

fn out_is_for_reading_and_deleting(door: Door) {
    let house = House::new(Plan { outbox: true, ..Plan::default() });
    let mut client = house.enter(door);
    let receipt = house.outbox().join("receipt.json");
    std::fs::write(&receipt, "{}").unwrap();
    client.put("a.tmp", b"x").unwrap();
    door.assert_refused(client.put("out/a.hl7", b"x"), Why::Denied, "an upload");
    door.assert_refused(client.put("out/receipt.json", b"x"), Why::Denied, "an upload over a receipt");
    door.assert_refused(client.make_directory("out/x"), Why::Denied, "a directory");
    door.assert_refused(client.remove_directory("out"), Why::Denied, "removing it");
    for (from, to) in [("out/receipt.json", "r.json"), ("out", "elsewhere"), ("a.tmp", "out/a")] {
        door.assert_refused(client.rename(from, to), Why::Denied, from);
    }
    assert_eq!(client.fetch("out/receipt.json").unwrap(), b"{}");
    client.delete("out/receipt.json").unwrap();
    assert!(!receipt.exists());
    assert_eq!(house.states("a.tmp"), [State::Unfinished]);
}

/// Sets a flag however its holder ends.
struct Set<'a>(&'a AtomicBool);

impl Drop for Set<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// As in an outbox, where other programs write files aside and rename them.
fn a_listing_has_what_stays_while_other_names_come_and_go(door: Door) {
    let house = House::new(Plan { outbox: true, ..Plan::default() });
    let mut client = house.enter(door);
    client.put("first.hl7", b"data").unwrap();
    let out = house.outbox();
    for number in 0..100 {
        std::fs::write(out.join(format!("stays-{number}")), b"").unwrap();
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                std::fs::write(out.join("comes"), b"").unwrap();
                std::fs::rename(out.join("comes"), out.join("goes")).unwrap();
            }
        });
        let _over = Set(&over);
        for _ in 0..100 {
            let list = client.list("/out");
            assert_eq!(list.iter().filter(|name| name.starts_with("stays-")).count(), 100, "{list:?}");
        }
    });
}

fn deleting_removes_from_the_view_and_by_policy_cancels(door: Door) {
    for (delete, state) in [(Delete::ViewOnly, State::Ready), (Delete::Cancel, State::Cancelled)] {
        let house = with_policy(Policy { delete, ..Policy::default() });
        let mut client = house.enter(door);
        client.put("a.hl7", b"data").unwrap();
        client.delete("a.hl7").unwrap();
        assert_eq!(client.list("/"), Vec::<String>::new());
        assert_eq!(house.states("a.hl7"), [state]);
        assert_eq!(house.bytes(&house.entries()[0]), b"data");
        door.assert_refused(client.delete("a.hl7"), Why::NotFound, "it is gone");
    }
}

fn a_disabled_account_loses_its_session(door: Door) {
    let house = house();
    let mut client = house.enter(door);
    house.partners.disable(&PARTNER.parse().unwrap()).unwrap();
    wait_until("the session ends", || house.partners.sessions().is_empty());
    // One more answer may have been under way: why it ends.
    let kept = (0..2).filter_map(|_| client.try_put("a.hl7", b"data").ok()).any(|answer| answer.is_ok());
    assert!(!kept);
    assert!(door.try_enter(house.addresses(), PARTNER, harness::PASSWORD).is_err());
}

fn stopping_lets_an_upload_end(door: Door) {
    let mut house = house();
    let (idle, mut client) = (house.enter(door), house.enter(door));
    client.try_begin("a.hl7", b"first half ").unwrap().unwrap();
    let address = door.address(house.addresses());
    thread::scope(|scope| {
        let closing = scope.spawn(|| house.close_doors());
        // It takes nobody in any more, and the upload goes on.
        wait_until("the door is shut", || TcpStream::connect(address).is_err());
        client.try_more(b"second half").unwrap();
        client.try_finish().unwrap().unwrap();
        let took = closing.join().unwrap();
        assert!(took < Duration::from_secs(5), "{took:?}");
    });
    assert_eq!(house.entries()[0].size_bytes, 22);
    drop(idle);
}

fn stopping_cuts_an_upload_that_goes_on_and_keeps_what_came(door: Door) {
    let mut plan = Plan::default();
    plan.ftp.grace = Duration::from_millis(100);
    plan.sftp.grace = Duration::from_millis(100);
    let mut house = House::new(plan);
    let mut client = house.enter(door);
    client.try_begin("a.hl7", &[7; 100_000]).unwrap().unwrap();
    let took = house.close_doors();
    assert!(took < Duration::from_secs(5), "{took:?}");
    house.block_on(house.ingest.idle());
    assert!(house.entries().is_empty());
    assert_eq!(partial(&house, "a.hl7"), Some(100_000));
}

fn a_restart_shows_the_same_view_and_adopts_what_the_journal_does_not_know(door: Door) {
    let first = house();
    let mut client = first.enter(door);
    client.put("a.hl7", b"one").unwrap();
    client.put("b.tmp", b"two").unwrap();
    // Committed, and then nothing: as if the server had died before the journal's record.
    let now = SystemClock::new().now();
    first.block_on(async {
        let file = forebay_storage::NewFile {
            id: forebay_storage::FileId::new(now),
            partner: PARTNER.to_owned(),
            name: "unknown.hl7".to_owned(),
            door: door.name().to_owned(),
            began_at: now,
            origin: None,
            goes_on: None,
        };
        let mut upload = first.storage.begin(file).await.unwrap();
        upload.write(bytes::Bytes::from_static(b"three")).await.unwrap();
        upload.commit(now).await.unwrap();
    });
    // What the partner sees is in the index, and follows from the journal.
    let data = first.data();
    drop(client);
    first.wait_alone();
    drop(first);
    std::fs::remove_dir_all(data.path().join("queue")).unwrap();
    let second = House::on(Plan::default(), data);
    assert_eq!(second.recovered.adopted.len(), 1);
    assert_eq!(second.states("unknown.hl7"), [State::Held]);
    let mut client = second.enter(door);
    assert_eq!(client.fetch("a.hl7").unwrap(), b"one");
    client.rename("b.tmp", "b.hl7").unwrap();
    assert_eq!(second.states("b.hl7"), [State::Ready]);
}

/// Everything of the protocol that takes a path, with everything that is no path of the partner's.
fn no_path_leads_out(door: Door) {
    let house = House::new(Plan { outbox: true, ..Plan::default() });
    let secret = "known to nobody";
    std::fs::create_dir(house.path("elsewhere")).unwrap();
    std::fs::write(house.path("elsewhere/secret"), secret).unwrap();
    // What stands for the machine's own: were a path to lead out, nothing real may be hurt.
    std::fs::create_dir(house.path("etc")).unwrap();
    std::fs::write(house.path("etc/passwd"), secret).unwrap();
    std::fs::create_dir(house.path("Other")).unwrap();
    std::fs::write(house.path("Other/secret"), secret).unwrap();
    let mut client = house.enter(door);
    client.put("mine.hl7", b"mine").unwrap();
    let view = house.outbox();
    std::os::unix::fs::symlink(house.path("elsewhere"), view.join("linked")).unwrap();
    std::os::unix::fs::symlink(house.path("etc"), view.join("etc")).unwrap();
    std::os::unix::fs::symlink(house.path("Other"), view.join("other")).unwrap();
    for path in hostile(&house.path("elsewhere/secret")) {
        let shown = String::from_utf8_lossy(&path).into_owned();
        for verb in client.verbs() {
            let (answer, heard) = client.say(verb, &path);
            assert!(!heard.contains(secret) && !heard.contains("root:"), "{verb} {shown}: {heard}");
            let done = answer.is_ok();
            let text = answer.err().map_or_else(String::new, |refused| refused.text);
            let control = text.chars().any(|c| c.is_control() && !"\r\n".contains(c));
            assert!(!control, "{verb} {shown:?}: {text:?}");
            if done && client.renames_mine_to(verb) {
                // The name was fit for a file of the partner's own; the file gets its own name back.
                // Where an earlier temporary file of that name waits for an operator it does not, and is sent again.
                if client.say("rename-back", &path).0.is_err() {
                    client.put("mine.hl7", b"mine").unwrap();
                }
            }
        }
    }
    for kept in ["elsewhere/secret", "etc/passwd", "Other/secret"] {
        assert_eq!(std::fs::read_to_string(house.path(kept)).unwrap(), secret);
    }
    for directory in ["elsewhere", "etc", "Other"] {
        assert_eq!(std::fs::read_dir(house.path(directory)).unwrap().count(), 1, "something was made in {directory}");
    }
    for entry in house.entries() {
        let leads_up = entry.name.split('/').any(|part| part == "..");
        assert!(!entry.name.chars().any(char::is_control) && !leads_up, "{:?}", entry.name);
    }
    assert_eq!(client.fetch("mine.hl7").unwrap(), b"mine");
}

fn connections_beyond_the_limit_are_turned_away(door: Door) {
    let mut plan = Plan::default();
    plan.limits.max_connections = 2;
    let house = House::new(plan);
    let (first, second) = (house.enter(door), house.enter(door));
    let enters = || door.try_enter(house.addresses(), PARTNER, harness::PASSWORD).is_ok();
    assert!(!enters());
    drop((first, second));
    wait_until("places are free again", enters);
}

fn who_says_nothing_for_too_long_is_sent_away_and_who_works_is_not(door: Door) {
    let mut plan = Plan::default();
    plan.limits.idle = Duration::from_millis(600);
    let house = House::new(plan);
    let (mut idle, mut working) = (house.enter(door), house.enter(door));
    working.try_begin("a.hl7", b"begun").unwrap().unwrap();
    let began = Instant::now();
    // Longer than anyone may be idle.
    while began.elapsed() < Duration::from_secs(2) {
        working.try_more(b", and on").unwrap();
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(house.partners.sessions().len(), 1, "the idle one has gone");
    working.try_finish().unwrap().unwrap();
    assert_eq!(house.states("a.hl7"), [State::Ready]);
    assert!(!matches!(idle.try_put("b.hl7", b"data"), Ok(Ok(()))), "nobody was there any more");
    wait_until("the other is idle now too", || house.partners.sessions().is_empty());
}

fn a_thousand_slow_connections_do_not_keep_an_honest_upload_away(door: Door) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted).unwrap();
    assert!(limit.maximum.is_none_or(|most| most > 4500), "the hard limit on files is too low for this");
    let site = Site::limited("", "max_connections = 1200\nmax_connections_per_address = 1200\nlogin_grace = \"60s\"");
    let before = site.memory_kib("VmRSS");
    let at = site.machine.addresses();
    let mut slow: Vec<TcpStream> = (0..1000)
        .map(|_| {
            let mut stream = TcpStream::connect(door.address(at)).unwrap();
            stream.write_all(b"US").unwrap();
            stream
        })
        .collect();
    // They go on, a byte now and then, while somebody works.
    let (working, done) = std::sync::mpsc::channel::<()>();
    thread::scope(|scope| {
        let slow = &mut slow;
        scope.spawn(move || {
            while done.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
                for stream in &mut *slow {
                    let _ = stream.write_all(b"x");
                }
            }
        });
        // Dropped at the end of the work, also when it fails.
        let _working = working;
        for n in 0..20 {
            let began = Instant::now();
            let mut client = door.try_enter(at, USER, site::PASSWORD).unwrap();
            client.put(&format!("{n}.hl7"), &vec![b'x'; 1 << 20]).unwrap();
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        }
    });
    assert_eq!(site.queue().len(), 20);
    let grown = site.memory_kib("VmRSS").saturating_sub(before);
    println!("1,000 connections and 20 uploads: {grown} KiB more");
    assert!(grown < 100 << 10, "{grown} KiB more");
}

/// Before a login and after. The connection is ended, so another is opened, until a hundred were.
fn bytes_without_an_end_take_no_memory(door: Door) {
    const PIECE: usize = 1 << 20;
    let site = Site::open("");
    let at = site.machine.addresses();
    let before = site.memory_kib("VmHWM");
    let piece = vec![b'x'; PIECE];
    for _ in 0..100 {
        let mut stream = TcpStream::connect(door.address(at)).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        assert!((0..40).any(|_| stream.write_all(&piece).is_err()), "it was read on and on before a login");
        let mut client = door.try_enter(at, USER, site::PASSWORD).unwrap();
        assert!((0..40).any(|_| client.try_babble(&piece).is_err()), "it was read on and on");
    }
    door.try_enter(at, USER, site::PASSWORD).unwrap().put("a.hl7", b"data").unwrap();
    let grown = site.memory_kib("VmHWM") - before;
    println!("at most {grown} KiB more");
    assert!(grown < 64 << 10, "{grown} KiB more");
}

fn heavy_killed_clients_commit_nothing(door: Door) {
    killed_clients_commit_nothing(&house(), door);
}
