//! The stored format of records is kept for ever.

use std::sync::Arc;

use forebay_queue::{QueueError, QueueStore, Record, State};
use forebay_storage::{
    disk::OsDisk,
    log::{Log, LogOptions},
};

use crate::house::{House, assert_sound};

const RECORDS: &str = include_str!("../fixtures/records-v1.jsonl");

fn write_journal(house: &House, records: &[Vec<u8>]) {
    let options = LogOptions { segment_bytes: 256 << 10, ..LogOptions::default() };
    let (mut log, _) = Log::open(Arc::new(OsDisk), &house.journal(), options, 1, &mut |_, _| {}).unwrap();
    log.append(records).unwrap();
}

fn version_one() -> Vec<Vec<u8>> {
    RECORDS.lines().map(|line| [&[1], line.as_bytes()].concat()).collect()
}

#[tokio::test]
async fn records_of_version_one_still_open() {
    let house = House::new();
    write_journal(&house, &version_one());
    let (queue, recovered) = house.try_open().unwrap();
    assert_eq!((recovered.replayed as usize, recovered.faults), (RECORDS.lines().count(), vec![]));
    let states: Vec<_> = queue.list(&Default::default(), None, 99).await.unwrap().entries;
    let states: Vec<_> = states.iter().map(|entry| (entry.name.as_str(), entry.state)).collect();
    let wanted = [
        ("retried.hl7", State::Retrying),
        ("again.hl7", State::Duplicate),
        ("released.hl7", State::Ready),
        ("final.hl7", State::Ready),
        ("crashed.hl7", State::Ready),
        ("called-off.hl7", State::Cancelled),
        ("carried.hl7", State::Active),
    ];
    assert_eq!(states, wanted);
    assert_eq!(recovered.interrupted[0].lease.as_ref().unwrap().child.as_ref().unwrap().pgid, 4_242);
    assert_sound(&queue).await;
}

/// Records of every fact that the last version in JSON had. It opened a journal of them as it stands in the test.
const JSON: &str = include_str!("../fixtures/records-v3.jsonl");

#[tokio::test]
async fn records_of_the_last_version_in_json_still_open() {
    let house = House::new();
    let records: Vec<_> = JSON.lines().map(|line| [&[3], line.as_bytes()].concat()).collect();
    write_journal(&house, &records);
    let (queue, recovered) = house.try_open().unwrap();
    assert_eq!(recovered.replayed as usize, JSON.lines().count());
    let entries = queue.list(&Default::default(), None, 99).await.unwrap().entries;
    let mut states: Vec<_> = entries.iter().map(|entry| (entry.name.as_str(), entry.state)).collect();
    states.sort_unstable();
    let wanted = [
        ("carried.hl7", State::Active),
        ("d.hl7", State::Ready),
        ("in/b.hl7", State::Withdrawn),
        ("new.hl7", State::Held),
        ("new/c.hl7", State::Ready),
        ("old.hl7", State::Superseded),
    ];
    assert_eq!(states, wanted);
    let lease = recovered.interrupted[0].lease.as_ref().unwrap();
    assert!(lease.node.is_local() && lease.child.as_ref().unwrap().node.is_local());
    assert_eq!(queue.origins().await.unwrap(), []);
    assert_sound(&queue).await;
}

#[test]
fn records_are_shown_as_they_were_in_json() {
    for line in RECORDS.lines().chain(JSON.lines()) {
        let record: Record = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&record).unwrap(), line);
    }
}

#[test]
fn a_newer_format_is_left_alone() {
    let house = House::new();
    drop(house.open());
    let mut records = version_one();
    records.push(b"\x05what a newer version writes".to_vec());
    write_journal(&house, &records);
    let Err(QueueError::Unreadable(said)) = house.try_open() else { panic!("opened") };
    assert!(said.contains("format 5") && said.contains("newer"), "{said}");
    let left: Vec<_> = std::fs::read_dir(house.dir()).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing was set aside: {left:?}");
}
