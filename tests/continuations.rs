//! Files that are sent in pieces, each where the one before ends: one file is processed, and each byte is kept once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{
    fs,
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use forebay::{
    ingest::{Peer, Proven, SessionInfo, Start},
    partners::{Complete, Policy},
};
use forebay_queue::{Action, Actor, ClaimRequest, Continues, Entry, Hold, NewEntry, Order, RouteRequest, State};
use forebay_storage::{Content, DigestState, Durability, StorageError};
use harness::{Ftp, House, PARTNER, PASSWORD, Plan, binary::Machine, files_below, wait_until};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sha2::Digest;

/// Files are claimable at once: what is tried here is not the sign that a reply was read.
fn plan() -> Plan {
    Plan { policy: Policy { complete: Complete::Eof, ..Policy::default() }, ..Plan::default() }
}

fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(seed).fill(bytes.as_mut_slice());
    bytes
}

/// As fsspec writes a file: STOR, REST 65536 and STOR, REST 131072 and STOR.
fn store_in_pieces(ftp: &mut Ftp, name: &str, bytes: &[u8], piece: usize) {
    for (n, part) in bytes.chunks(piece).enumerate() {
        if n > 0 {
            assert_eq!(ftp.command(&format!("REST {}", n * piece)).code, 350);
        }
        let told = ftp.store(name, part);
        assert!(told.code == 226 && !told.text.contains("a new file"), "{}", told.text);
    }
}

fn claim(house: &House) -> Vec<Entry> {
    let routes = vec![RouteRequest { name: "all".into(), slots: 100, order: Order::None, per_partner: 0 }];
    let request = ClaimRequest { routes, limit: 100, lease_ms: 60_000, ..ClaimRequest::default() };
    let claims = house.block_on(house.queue.claim(request, chrono::Utc::now())).unwrap();
    claims.into_iter().map(|claim| claim.entry).collect()
}

/// What a processor is given of a file.
fn copy(house: &House, entry: &Entry) -> Result<Vec<u8>, StorageError> {
    let (contents, entry, to) = (house.contents.clone(), entry.clone(), house.path("copy"));
    let copied = house.block_on(async move {
        let work = move || {
            let verified = contents.materialize(&entry, &to, Durability::Synced)?;
            assert_eq!((verified.size_bytes, verified.sha256), (entry.size_bytes, entry.sha256));
            let bytes = fs::read(&to).unwrap();
            fs::remove_file(&to).unwrap();
            Ok(bytes)
        };
        tokio::task::spawn_blocking(work).await.unwrap()
    });
    assert!(!house.path("copy").exists(), "nothing is left of it");
    copied
}

fn bytes_below(dir: &Path) -> u64 {
    files_below(dir).iter().map(|path| path.metadata().unwrap().len()).sum()
}

/// Bytes of contents on the disk, once the journal's short log is emptied.
fn kept_bytes(house: House) -> (u64, House) {
    let data = house.data();
    drop(house);
    let house = House::on(plan(), data);
    (bytes_below(&house.path("spool")) + bytes_below(&house.path("journal/packs")), house)
}

#[test]
fn a_file_in_pieces_is_one_file_and_takes_its_bytes_once() {
    let bytes = random_bytes(1, 2 << 20);
    // Pieces that come with their records, and such as have a file each.
    for piece in [64 << 10, 300 << 10] {
        // A quota that has no room for any of it twice.
        let policy = Policy { quota_bytes: Some((2 << 20) + (100 << 10)), ..plan().policy };
        let house = House::new(Plan { policy, ..plan() });
        let mut ftp = house.session();
        store_in_pieces(&mut ftp, "big.bin", &bytes, piece);
        assert_eq!(ftp.command("SIZE big.bin").text.trim(), format!("213 {}", bytes.len()));
        assert!(ftp.fetch("RETR big.bin").unwrap() == bytes);
        for at in [0, 1, 65_535, 65_536, 700_000, bytes.len() - 1] {
            assert_eq!(ftp.command(&format!("REST {at}")).code, 350);
            assert!(ftp.fetch("RETR big.bin").unwrap() == bytes[at..], "from {at}");
        }
        drop(ftp);
        house.wait_alone();
        let (kept, house) = kept_bytes(house);
        assert!(kept < (bytes.len() + (200 << 10)) as u64, "{kept} bytes are kept of {}", bytes.len());
        let claimed = claim(&house);
        assert_eq!(claimed.len(), 1);
        assert!(copy(&house, &claimed[0]).unwrap() == bytes);
        let states = house.states("big.bin");
        assert!(states[..states.len() - 1].iter().all(|state| *state == State::Superseded), "{states:?}");
        assert_eq!(states.len(), bytes.len().div_ceil(piece));
    }
}

#[test]
fn a_log_that_is_appended_to_takes_its_lines_once() {
    let house = House::new(plan());
    let mut ftp = house.session();
    let mut all = Vec::new();
    for n in 0..400 {
        let line = format!("{n}: something happened\r\n");
        assert_eq!(ftp.upload("APPE", "day.log", line.as_bytes()).code, 226);
        all.extend_from_slice(line.as_bytes());
    }
    assert_eq!(ftp.fetch("RETR day.log").unwrap(), all);
    let stats = house.block_on(house.queue.stats(chrono::Utc::now())).unwrap();
    assert_eq!(stats.counts.iter().map(|count| count.size_bytes).sum::<u64>(), all.len() as u64);
    let claimed = claim(&house);
    assert_eq!(claimed.iter().map(|entry| entry.size_bytes).collect::<Vec<_>>(), [all.len() as u64]);
    assert_eq!(copy(&house, &claimed[0]).unwrap(), all);
    // It has begun: what follows is another file, which begins with the same bytes, and its sender is told.
    let told = ftp.upload("APPE", "day.log", b"late");
    assert!(told.code == 226 && told.text.contains("a new file, for the earlier one is active"), "{}", told.text);
    all.extend_from_slice(b"late");
    assert_eq!(ftp.fetch("RETR day.log").unwrap(), all);
    let claimed = claim(&house);
    assert_eq!(
        claimed.iter().map(|entry| (entry.supersedes, entry.continues.is_some())).collect::<Vec<_>>(),
        [(None, false)]
    );
}

/// What is there is not read again for each piece: a large file, or a log of a day, would be read for ever.
#[test]
fn what_goes_on_reads_nothing_of_what_is_there() {
    let house = House::new(plan());
    let bytes = random_bytes(6, 400_000);
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.bin", &bytes[..100_000]).code, 226);
    // Once: the first file does not have the state of its digest.
    assert_eq!(ftp.upload("APPE", "a.bin", &bytes[100_000..200_000]).code, 226);
    for path in files_below(&house.path("spool")) {
        fs::remove_file(path).unwrap();
    }
    for at in [200_000, 300_000] {
        assert_eq!(ftp.upload("APPE", "a.bin", &bytes[at..at + 100_000]).code, 226, "{at}");
    }
    let last = house.entries().pop().unwrap();
    assert_eq!(last.sha256.0, sha2::Sha256::digest(&bytes)[..]);
}

/// A processor begins with a file while somebody sends what follows.
#[test]
fn what_began_meanwhile_is_the_beginning_of_a_file_of_its_own() {
    let house = House::new(plan());
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.bin", b"first ").code, 226);
    let mut data = ftp.passive();
    assert_eq!(ftp.command("APPE a.bin").code, 150);
    data.write_all(b"second").unwrap();
    let mut first = Vec::new();
    // It was put off for a moment, in favour of what might follow.
    wait_until("it begins", || {
        first = claim(&house);
        !first.is_empty()
    });
    drop(data);
    let told = ftp.reply();
    assert!(told.code == 226 && told.text.contains("a new file, for the earlier one is active"), "{}", told.text);
    let second = claim(&house);
    assert_eq!(second.len(), 1);
    assert_eq!((second[0].supersedes, second[0].continues.as_ref().map(|it| it.of)), (None, Some(first[0].id)));
    assert_eq!(
        (copy(&house, &first[0]).unwrap(), copy(&house, &second[0]).unwrap()),
        (b"first ".to_vec(), b"first second".to_vec())
    );
}

#[test]
fn an_upload_that_is_cut_goes_on_where_it_was() {
    let bytes = random_bytes(2, 900_000);
    let house = House::new(plan());
    for (name, first) in [("small.bin", 1_000), ("large.bin", 200_000)] {
        let mut ftp = house.session();
        assert_eq!(ftp.store(name, &bytes[..first]).code, 226);
        let mut to = first;
        for more in [300_000, 5, 100_000] {
            let mut data = ftp.passive();
            assert_eq!(ftp.command(&format!("REST {to}")).code, 350);
            assert_eq!(ftp.command(&format!("STOR {name}")).code, 150);
            data.write_all(&bytes[to..to + more]).unwrap();
            // The client's death closes both.
            drop((ftp, data));
            house.wait_alone();
            to += more;
            ftp = house.session();
            assert_eq!(ftp.command(&format!("SIZE {name}")).text.trim(), format!("213 {to}"));
            let partials = bytes_below(&house.path("partials"));
            assert_eq!(partials, (to - first) as u64, "what was accepted is not kept again");
        }
        // A little of it once more, as some clients do.
        to -= 70_000;
        assert_eq!(ftp.command(&format!("REST {to}")).code, 350);
        assert_eq!(ftp.store(name, &bytes[to..]).code, 226);
        let claimed = claim(&house);
        assert_eq!(claimed.len(), 1, "{:?}", house.states(name));
        assert!(copy(&house, &claimed[0]).unwrap() == bytes);
        assert_eq!(house.states(name), [State::Superseded, State::Active]);
    }
}

#[test]
fn a_cut_one_that_goes_on_within_what_was_accepted_is_another_file() {
    let house = House::new(plan());
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.bin", b"0123456789").code, 226);
    let mut data = ftp.passive();
    assert_eq!(ftp.command("APPE a.bin").code, 150);
    data.write_all(b"abc").unwrap();
    drop((ftp, data));
    house.wait_alone();
    let mut ftp = house.session();
    assert_eq!(ftp.command("SIZE a.bin").text.trim(), "213 13");
    assert_eq!(ftp.command("REST 5").code, 350);
    assert_eq!(ftp.store("a.bin", b"xyz").code, 226);
    assert_eq!(ftp.fetch("RETR a.bin").unwrap(), b"01234xyz");
    assert_eq!(house.states("a.bin"), [State::Ready, State::Ready]);
}

/// Whose sender never read the reply, in the order in which that is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unread {
    Second,
    FirstAndSecond,
    SecondAndFirst,
}

/// Taken back in either order, small or large: the one before is what it was, and the sender can go on.
#[test]
fn a_continuation_that_is_taken_back_gives_the_one_before_back() {
    for unread in [Unread::Second, Unread::FirstAndSecond, Unread::SecondAndFirst] {
        for own in [10, 200_000] {
            is_taken_back(unread, own);
        }
    }
}

fn is_taken_back(unread: Unread, own: usize) {
    let house = House::new(plan());
    let bytes = random_bytes(3, 300_000 + own);
    let session = SessionInfo {
        partner: PARTNER.parse().unwrap(),
        door: "ftp",
        peer: Peer::Address("127.0.0.1:1".parse().unwrap()),
        id: uuid::Uuid::nil(),
    };
    house.block_on(async {
        let send = async |from: usize, to: usize| {
            let mut intake = house.ingest.resume(&session, "a.bin", Start::At(from as u64), None).await.unwrap();
            intake.write(bytes[from..to].to_vec().into()).await.unwrap();
            intake.finish(Box::new(Proven)).await.unwrap()
        };
        let resumable = async || house.ingest.resumable(&session, "a.bin").await.unwrap();
        let first = send(0, 300_000).await;
        let second = send(300_000, bytes.len()).await;
        if unread == Unread::FirstAndSecond {
            assert!(house.ingest.withdraw(&first, "test").await.is_err(), "another file rests on it");
        }
        house.ingest.withdraw(&second, "test").await.unwrap();
        let back = house.queue.get(first.id).await.unwrap();
        // Half a file, maybe: it is not to be processed without what follows.
        let (state, hold) = match unread {
            Unread::FirstAndSecond => (State::Held, Some(Hold::ReplyNotRead)),
            _ => (State::Ready, None),
        };
        assert_eq!((back.state, back.hold, back.superseded), (state, hold, None), "{unread:?}");
        assert_eq!(house.ingest.files(&session).stat("a.bin").await.unwrap().size_bytes, 300_000);
        // A large one is a partial behind it; of a small one its sender sends the few bytes again.
        let mut from = resumable().await;
        assert_eq!(from, (own > 70_000).then_some(bytes.len() as u64));
        if unread == Unread::SecondAndFirst {
            house.ingest.withdraw(&first, "test").await.unwrap();
            from = resumable().await;
            assert_eq!(from, Some(300_000));
        }
        let again = send(from.unwrap_or(300_000) as usize, bytes.len()).await;
        let whole = house.queue.get(again.id).await.unwrap();
        assert_eq!(whole.supersedes, (unread == Unread::Second).then_some(first.id));
    });
    let claimed = claim(&house);
    assert_eq!(claimed.len(), 1);
    assert!(copy(&house, &claimed[0]).unwrap() == bytes, "{own} {unread:?}");
}

#[test]
fn purge_and_a_lost_index_leave_what_is_there_whole() {
    let bytes = random_bytes(4, 700_000);
    let house = House::new(plan());
    let mut ftp = house.session();
    store_in_pieces(&mut ftp, "a.bin", &bytes, 200_000);
    store_in_pieces(&mut ftp, "b.bin", &bytes, 50_000);
    drop(ftp);
    house.wait_alone();
    let much_later = chrono::Utc::now() + chrono::TimeDelta::days(400);
    let purge = |house: &House| house.block_on(house.queue.purge(much_later, 1_000, much_later)).unwrap();
    assert_eq!(purge(&house).files, 0, "all of it is needed");
    let data = house.data();
    drop(house);
    fs::remove_dir_all(data.path().join("queue")).unwrap();
    let house = House::on(plan(), data);
    let claimed = claim(&house);
    assert_eq!(claimed.len(), 2);
    for entry in &claimed {
        assert!(copy(&house, entry).unwrap() == bytes);
    }
    let lease = claimed[0].lease.clone().unwrap();
    let end = forebay_queue::Settlement {
        state: State::Done,
        counted: true,
        due_at: None,
        reason: None,
        output: String::new(),
    };
    let done = house.queue.settle(lease.token, claimed[0].id, end, chrono::Utc::now());
    house.block_on(done).unwrap();
    let gone = purge(&house);
    assert_eq!((gone.files, gone.kept.len()), if claimed[0].name == "a.bin" { (4, 4) } else { (14, 0) });
    house.block_on(house.storage.remove(&gone.kept)).unwrap();
    assert!(copy(&house, &claimed[1]).unwrap() == bytes);
}

#[test]
fn a_beginning_that_is_damaged_or_missing_holds_what_continues_it() {
    let bytes = random_bytes(5, 700_000);
    let house = House::new(plan());
    let mut ftp = house.session();
    store_in_pieces(&mut ftp, "missing.bin", &bytes, 200_000);
    store_in_pieces(&mut ftp, "spoiled.bin", &bytes, 200_000);
    store_in_pieces(&mut ftp, "packed.bin", &bytes[..300_000], 60_000);
    drop(ftp);
    house.wait_alone();
    let second = |name: &str| house.entries().into_iter().filter(|entry| entry.name == name).nth(1).unwrap();
    let spooled = |id: forebay_storage::FileId| {
        let found = files_below(&house.path("spool")).into_iter().find(|path| path.ends_with(id.to_string()));
        found.unwrap()
    };
    fs::remove_file(spooled(second("missing.bin").id)).unwrap();
    let spoiled = spooled(second("spoiled.bin").id);
    fs::set_permissions(&spoiled, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut content = fs::read(&spoiled).unwrap();
    content[1_000] ^= 1;
    fs::File::options().write(true).open(&spoiled).unwrap().write_all(&content).unwrap();
    let data = house.data();
    drop(house);
    let pack = files_below(&data.path().join("journal/packs")).pop().unwrap();
    let mut content = fs::read(&pack).unwrap();
    // In the second piece.
    let at = content.windows(16).position(|window| *window == bytes[100_000..100_016]).unwrap();
    content[at] ^= 1;
    fs::write(&pack, content).unwrap();
    let house = House::on(plan(), data);
    let entries = house.entries();
    let last = |name: &str| entries.iter().rfind(|entry| entry.name == name).unwrap();
    assert_eq!((last("missing.bin").state, last("missing.bin").hold), (State::Held, Some(Hold::BytesMissing)));
    assert_eq!(house.recovered.missing.len(), 1, "{:?}", house.recovered);
    for name in ["missing.bin", "spoiled.bin", "packed.bin"] {
        // What makes a processor's attempt a hold, with the reason.
        let error = copy(&house, last(name)).unwrap_err();
        assert!(matches!(error, StorageError::Damaged { .. }), "{name}: {error}");
    }
    // Nor does a download end early without a word.
    let mut ftp = house.session();
    for name in ["missing.bin", "packed.bin"] {
        assert!(ftp.fetch(&format!("RETR {name}")).is_err(), "{name}");
    }
    let held = [last("missing.bin").id];
    let cancel = house.queue.act(&held, Action::Cancel, None, Actor::Server, chrono::Utc::now());
    assert!(house.block_on(cancel).remove(0).is_ok());
}

/// Each part is what was accepted, and together they are not: no processor gets that.
#[test]
fn parts_that_are_sound_and_make_another_whole_are_not_given() {
    let house = House::new(plan());
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.bin", b"first ").code, 226);
    drop(ftp);
    house.wait_alone();
    let first = house.entries().remove(0);
    let digest = |bytes: &[u8]| forebay_storage::Sha256(sha2::Sha256::digest(bytes).into());
    let mut copies = Vec::new();
    for whole in [b"first second", b"other second"] {
        let new = NewEntry {
            id: forebay_storage::FileId::new(chrono::Utc::now()),
            partner: PARTNER.into(),
            name: "a.bin".into(),
            door: "ftp".into(),
            size_bytes: 12,
            sha256: digest(whole),
            received_at: chrono::Utc::now(),
            route: Some("all".into()),
            state: State::Ready,
            reason: None,
            hold: None,
            origin: None,
            idempotency_key: None,
            supersedes: None,
            continues: Some(Continues {
                of: first.id,
                at: 6,
                own_sha256: digest(b"second"),
                digest: DigestState::of(&sha2::Sha256::new_with_prefix(whole)),
            }),
            claimable_from: None,
        };
        let accepted = house.queue.accept(new, Content::Inline("second".into()), chrono::Utc::now());
        let entry = house.block_on(accepted).unwrap();
        copies.push(copy(&house, &entry));
    }
    assert_eq!(copies.remove(0).unwrap(), b"first second");
    assert!(matches!(copies.remove(0), Err(StorageError::Damaged { .. })));
}

#[test]
fn the_server_processes_the_whole_tells_of_it_and_verifies_it() {
    let mut machine = Machine::new("");
    machine.start();
    machine.add_partner(PARTNER, PASSWORD);
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    let bytes = random_bytes(6, 600_000);
    let mut ftp = Ftp::connect(machine.ftp);
    ftp.login(PARTNER, PASSWORD);
    for (name, piece) in [("a.bin", 64 << 10), ("b.bin", 150_000)] {
        store_in_pieces(&mut ftp, name, &bytes, piece);
    }
    machine.kill();
    machine.start();
    let waiting = machine.queue();
    let ready: Vec<_> = waiting.iter().filter(|entry| entry["state"] == "ready").collect();
    assert_eq!(ready.len(), 2, "{}", machine.log());
    let continues = &ready[1]["continues"];
    let (before, from) = (continues["file"].as_str().unwrap(), continues["at"].as_u64().unwrap());
    let shown = machine.ok(&["queue", "show", ready[1]["id"].as_str().unwrap()]);
    assert!(shown.contains(&format!("continues {before} from byte {from}")), "{shown}");
    machine.ok(&["queue", "verify"]);
    machine.ok(&["gate", "open", "--reason", "test"]);
    let delivered = || {
        let mut files = files_below(&machine.data().join("delivered"));
        files.retain(|path| path.extension().is_some_and(|end| end == "bin"));
        files
    };
    wait_until("both are delivered", || delivered().len() == 2);
    for path in delivered() {
        assert!(fs::read(&path).unwrap() == bytes, "{}", path.display());
    }
    machine.ok(&["queue", "verify"]);
    let piece = files_below(&machine.data().join("spool")).pop().unwrap();
    fs::set_permissions(&piece, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::File::options().write(true).open(&piece).unwrap().write_all(b"spoiled").unwrap();
    let found = machine.cli(&["queue", "verify"]);
    let said = String::from_utf8_lossy(&found.stdout).into_owned() + &String::from_utf8_lossy(&found.stderr);
    assert!(!found.status.success() && said.contains("its sha-256 is"), "{said}");
}

/// Sends a file piece by piece until nobody is there any more. Gives all that was sent of it, and how much was said to be
/// kept.
fn append_until_killed(
    ftp: &mut Ftp,
    name: &str,
    random: &mut StdRng,
    told_of: &AtomicUsize,
) -> (Vec<u8>, usize, bool) {
    let (mut sent, mut kept) = (Vec::new(), 0);
    for n in 0..random.random_range(2..30) {
        let size =
            if random.random_bool(0.2) { random.random_range(66_000..150_000) } else { random.random_range(0..3_000) };
        let own: Vec<u8> = (0..size).map(|_| random.random()).collect();
        sent.extend_from_slice(&own);
        let verb = if n == 0 { "STOR" } else { "APPE" };
        match ftp.try_upload(verb, name, &own) {
            Ok(told) if told.code == 226 => {
                kept = sent.len();
                told_of.fetch_add(1, Ordering::Relaxed);
            }
            _ => return (sent, kept, false),
        }
    }
    (sent, kept, true)
}

#[test]
fn kills_lose_nothing_of_a_file_that_comes_in_pieces() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut machine = Machine::new("");
    machine.start();
    machine.add_partner(PARTNER, PASSWORD);
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    let mut files = Vec::new();
    for round in 0..12 {
        let (pieces, moment) = (random.random_range(3..12), random.random_range(0..8_000));
        let seed = random.random();
        let told_of = Arc::new(AtomicUsize::new(0));
        let told = told_of.clone();
        let mut ftp = Ftp::connect(machine.ftp);
        ftp.login(PARTNER, PASSWORD);
        let client = std::thread::spawn(move || {
            let (mut random, mut sent) = (StdRng::seed_from_u64(seed), Vec::new());
            for number in 0.. {
                let name = format!("{round}-{number}.bin");
                let (bytes, kept, goes_on) = append_until_killed(&mut ftp, &name, &mut random, &told);
                sent.push((name, bytes, kept));
                if !goes_on {
                    break;
                }
            }
            sent
        });
        wait_until("some pieces are kept", || told_of.load(Ordering::Relaxed) >= pieces);
        // In the middle of one of the next.
        std::thread::sleep(std::time::Duration::from_micros(moment));
        machine.kill();
        files.extend(client.join().unwrap());
        machine.start();
    }
    let verified = machine.cli(&["queue", "verify"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    machine.ok(&["gate", "open", "--reason", "test"]);
    machine.wait_until_none_is(&["ready", "active", "retrying"], "all is processed");
    let mut acknowledged = 0;
    for (name, sent, kept) in files.iter().filter(|(_, _, kept)| *kept > 0) {
        let path = machine.data().join("delivered").join(PARTNER).join(name);
        let there = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}\n{}", path.display(), machine.log()));
        // A piece whose reply was not heard may be there.
        assert!(there.len() >= *kept && sent.starts_with(&there), "{name}: {} of {kept} bytes", there.len());
        acknowledged += 1;
    }
    let superseded = machine.queue().iter().filter(|entry| entry["state"] == "superseded").count();
    println!("{acknowledged} files, {superseded} pieces of them superseded");
    assert!(acknowledged >= 12 && superseded >= 12, "too few to prove anything: {acknowledged}, {superseded}");
}
