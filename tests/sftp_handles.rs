//! Handles that get in each other's way: several on one name, and requests of one channel that overtake each other.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod harness;

use forebay_queue::State;
use harness::{
    House, PARTNER, PASSWORD, Plan,
    sftp_client::{Answer, CLOSE, OPEN, STATUS, Sftp, TO_WRITE, WRITE, string},
};

const RENAME: u8 = 18;
const EXTENDED: u8 = 200;

fn login(house: &House) -> Sftp {
    Sftp::login(house.sftp, PARTNER, PASSWORD).unwrap()
}

fn sync(sftp: &mut Sftp, handle: &[u8]) -> Answer {
    sftp.ask(EXTENDED, &[&string(b"fsync@openssh.com"), handle])
}

/// Which bytes how often in a row.
fn runs(bytes: &[u8]) -> Vec<(char, usize)> {
    bytes.chunk_by(|one, other| one == other).map(|run| (char::from(run[0]), run.len())).collect()
}

/// All that was accepted, sorted.
fn accepted(house: &House) -> Vec<Vec<(char, usize)>> {
    let mut bytes: Vec<_> = house.entries().iter().map(|entry| runs(&house.bytes(entry))).collect();
    bytes.sort();
    bytes
}

/// What was answered positively is what was accepted, and nothing else is.
#[test]
fn uploads_of_one_name_that_were_synced_keep_to_their_own_bytes() {
    let house = House::new(Plan::default());
    let (mut one, mut other) = (login(&house), login(&house));
    let (ours, theirs) = (vec![b'a'; 100_000], vec![b'b'; 120_000]);
    let (first, second) = (one.open("x.hl7", TO_WRITE).unwrap(), other.open("x.hl7", TO_WRITE).unwrap());
    assert!(one.write(&first, 0, &ours).is_ok());
    assert!(other.write(&second, 0, &theirs).is_ok());
    assert!(sync(&mut one, &first).is_ok());
    // It may be told to sync later, but not at the other's expense.
    let synced = sync(&mut other, &second);
    assert_eq!(synced.kind, STATUS);
    assert!(one.close(&first).is_ok());
    let mut expected = vec![runs(&ours)];
    if other.close(&second).is_ok() {
        expected.push(runs(&theirs));
    }
    assert_eq!(accepted(&house), expected);
}

#[test]
fn an_upload_that_was_synced_does_not_end_as_half_of_another() {
    let house = House::new(Plan::default());
    let (mut one, mut other) = (login(&house), login(&house));
    let first = one.open("x.hl7", TO_WRITE).unwrap();
    assert!(one.write(&first, 0, &[b'a'; 50_000]).is_ok());
    assert!(sync(&mut one, &first).is_ok());
    let second = other.open("x.hl7", TO_WRITE).unwrap();
    assert!(other.write(&second, 0, &[b'b'; 60_000]).is_ok());
    drop(other);
    harness::wait_until("the other is gone", || house.partners.sessions().len() == 1);
    house.block_on(house.ingest.idle());
    assert!(one.write(&first, 50_000, &[b'c'; 1000]).is_ok());
    let closed = one.close(&first);
    assert!(closed.is_ok(), "{}", closed.text());
    assert_eq!(accepted(&house), [[('a', 50_000), ('c', 1000)]]);
}

/// What was synced can be gone on with after the connection broke.
#[test]
fn what_was_synced_and_not_closed_is_a_partial() {
    let house = House::new(Plan::default());
    let mut sftp = login(&house);
    let handle = sftp.open("x.hl7", TO_WRITE).unwrap();
    assert!(sftp.write(&handle, 0, &[b'a'; 5000]).is_ok());
    for round in 0..3 {
        assert!(sync(&mut sftp, &handle).is_ok(), "{round}");
        let partial = house.block_on(house.storage.partial(PARTNER, "x.hl7")).unwrap().unwrap();
        assert_eq!(partial.size_bytes, 5000 + 100 * round);
        assert!(sftp.write(&handle, 5000 + 100 * round, &[b'b'; 100]).is_ok());
    }
    drop(sftp);
    house.wait_alone();
    let partial = house.block_on(house.storage.partial(PARTNER, "x.hl7")).unwrap().unwrap();
    assert_eq!(partial.size_bytes, 5300);
    assert_eq!(house.entries().len(), 0);
}

/// The requests of a burst that nobody waits for the answers of.
fn burst(sftp: &mut Sftp, requests: &[(u8, Vec<u8>)]) -> Vec<Answer> {
    let ids: Vec<_> = requests.iter().map(|(kind, body)| sftp.request(*kind, &[body]).unwrap()).collect();
    let mut answers: Vec<_> = ids.iter().map(|_| sftp.answer().unwrap()).collect();
    answers.sort_by_key(|answer| answer.id);
    assert!(answers.iter().map(|answer| answer.id).eq(ids), "each has one answer");
    answers
}

fn write(handle: &[u8], offset: u64, bytes: &[u8]) -> (u8, Vec<u8>) {
    (WRITE, [handle, &offset.to_be_bytes(), &string(bytes)].concat())
}

fn rename(from: &str, to: &str) -> (u8, Vec<u8>) {
    (RENAME, [string(from.as_bytes()), string(to.as_bytes())].concat())
}

#[test]
fn a_burst_is_done_in_the_order_in_which_it_was_sent() {
    let house = House::new(Plan::default());
    let mut sftp = login(&house);
    for round in 0..20 {
        let (temporary, name) = (format!("x{round}.tmp"), format!("x{round}.hl7"));
        let handle = sftp.open(&temporary, TO_WRITE).unwrap();
        let half = vec![b'x'; 32 << 10];
        let answers = burst(
            &mut sftp,
            &[
                rename(&temporary, &name),
                write(&handle, 32 << 10, &half),
                write(&handle, 0, &half),
                (CLOSE, handle.clone()),
                write(&handle, 64 << 10, b"late"),
                (CLOSE, handle.clone()),
                rename(&temporary, &name),
                rename(&temporary, &name),
            ],
        );
        let went: Vec<_> = answers.iter().map(Answer::is_ok).collect();
        assert_eq!(went, [false, true, true, true, false, false, true, false], "{answers:?}");
        assert_eq!(house.states(&name), [State::Ready]);
    }
    assert!(accepted(&house).iter().all(|runs| *runs == [('x', 64 << 10)]));
}

#[test]
fn a_file_with_a_hole_is_never_accepted() {
    let house = House::new(Plan::default());
    let mut sftp = login(&house);
    let handle = sftp.open("x.hl7", TO_WRITE).unwrap();
    let answers = burst(
        &mut sftp,
        &[write(&handle, 0, b"0123"), write(&handle, 8, b"89"), write(&handle, 5, b"567"), (CLOSE, handle.clone())],
    );
    assert!(answers[..3].iter().all(Answer::is_ok) && !answers[3].is_ok(), "{answers:?}");
    // Bounds of numbers are no way around.
    let handle = sftp.open("y.hl7", TO_WRITE).unwrap();
    for offset in [u64::MAX, u64::MAX - 3, 1 << 63, i64::MAX as u64] {
        let answer = sftp.write(&handle, offset, b"0123");
        assert!(!answer.is_ok(), "{offset}");
    }
    assert!(!sftp.close(&handle).is_ok());
    assert_eq!(house.entries().len(), 0);
}

/// OpenSSH's client sets the size to what it has written before it closes a file that it breaks off.
#[test]
fn who_sets_the_size_and_closes_has_broken_off_unless_more_comes() {
    const FSETSTAT: u8 = 10;
    let house = House::new(Plan::default());
    let mut sftp = login(&house);
    let mode = [4_u32.to_be_bytes(), 0o644_u32.to_be_bytes()].concat();
    let size = |bytes: u64| [&1_u32.to_be_bytes()[..], &bytes.to_be_bytes()].concat();
    for (name, more) in [("a.hl7", &b""[..]), ("b.hl7", b"behind")] {
        let handle = sftp.ask(OPEN, &[&string(name.as_bytes()), &TO_WRITE.to_be_bytes(), &mode]).body;
        assert!(sftp.write(&handle, 0, b"before").is_ok());
        assert!(sftp.ask(FSETSTAT, &[&handle, &size(6)]).is_ok());
        if !more.is_empty() {
            assert!(sftp.write(&handle, 6, more).is_ok());
        }
        assert_eq!(sftp.close(&handle).is_ok(), !more.is_empty(), "{name}");
    }
    let kept: Vec<_> = house.entries().into_iter().map(|entry| (entry.name.clone(), house.bytes(&entry))).collect();
    assert_eq!(kept, [("b.hl7".to_owned(), b"beforebehind".to_vec())]);
    let partial = house.block_on(house.storage.partial(PARTNER, "a.hl7")).unwrap();
    assert!(partial.is_some(), "what came can be gone on with");
}
