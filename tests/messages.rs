//! Files that are handed over message by message, to programs that refuse, fail, stand still and are killed, by a server
//! that is killed and whose gate closes in the middle.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test reads the clock of the machine, and says so by failing"
)]

mod harness;

use std::{collections::HashMap, fmt::Write as _, fs, thread, time::Duration};

use harness::{Ftp, binary::Machine, wait_until};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::Value;

const PASSWORD: &str = "correct horse battery staple";

/// What it does the control id says: it notes when it begins and ends, and keeps what it was given.
const PROCESSOR: &str = r#"#!/bin/sh
dir="${0%/*}"
echo "begin $FOREBAY_MESSAGE_ID $FOREBAY_MESSAGE $(date +%s%N)" >>"$dir/runs.log"
cat >"$dir/out/$FOREBAY_MESSAGE"
env | grep ^FOREBAY_ | sort >"$dir/env/$FOREBAY_MESSAGE"
case "$FOREBAY_CONTROL_ID" in
  BAD*) echo "about to refuse"; echo "the name is missing"; exit 65 ;;
  FAIL*) echo "no idea"; exit 1 ;;
  LATER*) [ -e "$dir/later" ] || exit 75 ;;
  SLOW*) sleep 0.1 ;;
esac
[ -e "$dir/down" ] && exit 1
echo "end $FOREBAY_MESSAGE_ID $FOREBAY_MESSAGE $(date +%s%N)" >>"$dir/runs.log"
"#;

fn machine(messages: &str, more: &str) -> Machine {
    let machine = Machine::new(&format!(
        "[process]\npause_after = 3\nprobe_first = \"200ms\"\nprobe_max = \"300ms\"\nkill_after = \"2s\"\n\n\
         [schedule]\nfile = \"maintenance.toml\"\n\n\
         [[route]]\nname = \"all\"\nprocessor = \"exec\"\ncommand = [\"/bin/sh\", \"@DIR@/process\"]\n\
         retry = {{ first = \"50ms\", max = \"200ms\" }}\n{more}\n\
         [route.messages]\nformat = \"hl7v2\"\n{messages}\n"
    ));
    machine.write("process", PROCESSOR);
    machine.write("maintenance.toml", "timezone = \"America/Chicago\"\n");
    for dir in ["out", "env"] {
        fs::create_dir(machine.path().join(dir)).unwrap();
    }
    machine.add_partner("clinic", PASSWORD);
    machine
}

fn message(control_id: &str) -> String {
    message_of(control_id, "P")
}

fn message_of(control_id: &str, mode: &str) -> String {
    format!(
        "MSH|^~\\&|APP|FAC|REG|STATE|20260424190000||VXU^V04^VXU_V04|{control_id}|{mode}|2.5.1\rPID|1||{control_id}^^^MR\r"
    )
}

fn batch(messages: &[String]) -> String {
    let count = messages.len();
    format!("FHS|^~\\&|APP|FAC\rBHS|^~\\&|APP|FAC\r{}BTS|{count}\rFTS|1\r", messages.concat())
}

fn batch_of(count: usize, control_id: impl Fn(usize) -> String) -> String {
    batch(&(1..=count).map(|number| message(&control_id(number))).collect::<Vec<_>>())
}

fn send(machine: &Machine, name: &str, bytes: &str) {
    let mut ftp = Ftp::connect(machine.ftp);
    ftp.login("clinic", PASSWORD);
    assert_eq!(ftp.store(name, bytes.as_bytes()).code, 226);
}

/// The one file's entry, once it is in this state.
fn wait_state(machine: &Machine, state: &str) -> Value {
    machine
        .wait_queue(&format!("it is {state}"), |entries| entries.len() == 1 && entries[0]["state"] == state)
        .remove(0)
}

/// What became of each message.
fn outcomes(machine: &Machine, entry: &Value) -> HashMap<u64, Value> {
    let listed = machine.ok(&["message", "list", entry["id"].as_str().unwrap(), "--json"]);
    let mut all = HashMap::new();
    for run in harness::binary::json_lines(&listed).into_iter().skip(1) {
        let (first, count) = (run["first"].as_u64().unwrap(), run["count"].as_u64().unwrap());
        for ordinal in first..first + count {
            assert!(all.insert(ordinal, run.clone()).is_none(), "message {ordinal} has two outcomes");
        }
    }
    all
}

fn result(outcomes: &HashMap<u64, Value>, ordinal: u64) -> &str {
    outcomes.get(&ordinal).and_then(|run| run["result"].as_str()).unwrap_or("none")
}

/// What the programs noted: the word, the message, the time in nanoseconds.
fn runs(machine: &Machine) -> Vec<(String, u64, u128)> {
    let text = fs::read_to_string(machine.path().join("runs.log")).unwrap_or_default();
    let line = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        // A line may be cut where the program was killed.
        Some((words.first()?.to_string(), words.get(2)?.parse().ok()?, words.get(3)?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// How often each message was begun.
fn begun(machine: &Machine) -> HashMap<u64, usize> {
    let mut begun = HashMap::new();
    for (_, message, _) in runs(machine).iter().filter(|(word, ..)| word == "begin") {
        *begun.entry(*message).or_default() += 1;
    }
    begun
}

#[test]
fn each_message_comes_by_itself_and_a_bad_one_sinks_nothing() {
    let mut machine = machine("", "");
    machine.start();
    let messages = [
        message("M1"),
        message("BAD2"),
        message_of("M3", "T"),
        message(""),
        "MSH#*~\\&#APP#FAC#REG#STATE#2026##ADT*A04#M5#P#2.3\nPID#1\n\nPV1#1\n".to_owned(),
        message("M6"),
    ];
    send(&machine, "week 17.hl7", &batch(&messages));
    let entry = wait_state(&machine, "done");
    let outcomes = outcomes(&machine, &entry);
    let results: Vec<_> = (1..=7).map(|ordinal| result(&outcomes, ordinal)).collect();
    assert_eq!(results, ["accepted", "refused", "tested", "rejected", "accepted", "accepted", "none"]);
    assert_eq!(outcomes[&2]["detail"]["text"], "exit 65: the name is missing");
    assert_eq!(outcomes[&4]["detail"]["text"], "MSH-10 is missing");
    for ordinal in [1, 2, 5, 6] {
        let given = fs::read(machine.path().join(format!("out/{ordinal}"))).unwrap();
        let whole = messages[ordinal as usize - 1].as_bytes();
        assert_eq!(given, whole, "message {ordinal}: {}", String::from_utf8_lossy(&given));
    }
    assert!(!machine.path().join("out/3").exists() && !machine.path().join("out/4").exists());
    let told = fs::read_to_string(machine.path().join("env/1")).unwrap();
    let id = entry["id"].as_str().unwrap();
    for line in [
        format!("FOREBAY_MESSAGE_ID={id}-1"),
        "FOREBAY_MESSAGE=1".to_owned(),
        "FOREBAY_MESSAGES=6".to_owned(),
        "FOREBAY_CONTROL_ID=M1".to_owned(),
        "FOREBAY_MESSAGE_TYPE=VXU^V04^VXU_V04".to_owned(),
        "FOREBAY_MODE=production".to_owned(),
        "FOREBAY_NAME=week 17.hl7".to_owned(),
    ] {
        assert!(told.lines().any(|told| told == line), "{line} is not in {told}");
    }
    assert!(!told.contains("FOREBAY_PATH"));
    let progress = &entry["messages"];
    assert_eq!((&progress["messages"], &progress["tally"]["refused"]), (&Value::from(6), &Value::from(1)));
    let shown = machine.ok(&["queue", "show", id]);
    assert!(shown.contains("6 messages: 3 accepted, 1 tested, 1 refused, 1 rejected"), "{shown}");
    let only = machine.ok(&["message", "list", &id[..23], "--result", "refused"]);
    assert!(only.contains("exit 65: the name is missing") && !only.contains("accepted\n"), "{only}");
}

#[test]
fn one_that_always_fails_is_refused_alone() {
    let mut machine = machine("", "");
    machine.start();
    send(&machine, "a.hl7", &batch_of(6, |number| if number == 3 { "FAIL3".to_owned() } else { format!("M{number}") }));
    let entry = wait_state(&machine, "done");
    let outcomes = outcomes(&machine, &entry);
    let results: Vec<_> = (1..=6).map(|ordinal| result(&outcomes, ordinal)).collect();
    assert_eq!(results, ["accepted", "accepted", "refused", "accepted", "accepted", "accepted"]);
    assert_eq!(outcomes[&3]["detail"]["errors"][0]["code"], 207);
    assert_eq!(begun(&machine)[&3], 3);
    assert!(begun(&machine).iter().all(|(message, times)| *message == 3 || *times == 1));
}

#[test]
fn a_system_that_is_down_burns_nothing() {
    let mut machine = machine("attempts = 1", "");
    machine.write("down", "");
    machine.start();
    send(&machine, "a.hl7", &batch_of(8, |number| format!("M{number}")));
    wait_until("the route is paused", || machine.ok(&["queue", "stats"]).contains("paused"));
    let tried = begun(&machine).len();
    assert_eq!(tried, 3, "no more than it takes to tell");
    let before = begun(&machine)[&1];
    wait_until("it is probed", || begun(&machine)[&1] > before + 1);
    fs::remove_file(machine.path().join("down")).unwrap();
    let entry = wait_state(&machine, "done");
    let outcomes = outcomes(&machine, &entry);
    assert!((1..=8).all(|ordinal| result(&outcomes, ordinal) == "accepted"), "{outcomes:?}");
}

#[test]
fn what_asks_for_another_time_goes_on_there() {
    let mut machine = machine("", "");
    machine.start();
    send(
        &machine,
        "a.hl7",
        &batch_of(4, |number| if number == 3 { "LATER3".to_owned() } else { format!("M{number}") }),
    );
    wait_state(&machine, "retrying");
    machine.write("later", "");
    let entry = wait_state(&machine, "done");
    assert!(begun(&machine).iter().all(|(message, times)| *message == 3 || *times == 1), "{:?}", begun(&machine));
    assert_eq!(outcomes(&machine, &entry).len(), 4);
}

#[test]
fn a_file_that_looks_cut_waits_for_an_operator_and_one_without_messages_is_refused() {
    let mut machine = machine("counts = \"reject\"", "");
    machine.start();
    let whole = batch_of(3, |number| format!("M{number}"));
    send(&machine, "cut.hl7", whole.strip_suffix("BTS|3\rFTS|1\r").unwrap());
    let entry = wait_state(&machine, "held");
    assert!(entry["reason"].as_str().unwrap().contains("has no BTS"), "{entry}");
    assert_eq!(begun(&machine).len(), 0);
    machine.ok(&["queue", "release", entry["id"].as_str().unwrap(), "--reason", "it is whole, they say"]);
    wait_state(&machine, "done");
    assert_eq!(begun(&machine).len(), 3);
    send(&machine, "count.hl7", &whole.replace("BTS|3", "BTS|7"));
    send(&machine, "report.hl7", "%PDF-1.7 and no message at all");
    send(&machine, "none.hl7", "FHS|^~\\&|APP\rBHS|^~\\&|APP\rBTS|0\rFTS|1\r");
    let entries = machine.wait_queue("all are judged", |entries| {
        entries.len() == 4 && entries.iter().all(|entry| entry["state"] == "done" || entry["state"] == "quarantined")
    });
    let standing = |name: &str| {
        let entry = entries.iter().find(|entry| entry["name"] == name).unwrap();
        (entry["state"].as_str().unwrap().to_owned(), entry["reason"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(standing("count.hl7").0, "quarantined");
    assert!(standing("count.hl7").1.contains("says \"7\", and there are 3 messages"), "{:?}", standing("count.hl7"));
    assert!(standing("report.hl7").1.contains("no HL7 v2 file"), "{:?}", standing("report.hl7"));
    assert_eq!(standing("none.hl7").0, "done");
    assert_eq!(begun(&machine).len(), 3);
}

#[test]
fn nothing_is_handed_over_while_the_gate_is_closed_and_the_next_message_comes_first_afterwards() {
    let mut machine = machine("in_flight = 2", "");
    machine.start();
    send(&machine, "a.hl7", &batch_of(40, |number| format!("SLOW{number}")));
    for round in 1..=5 {
        let enough = round * 4;
        wait_until("some were handed over", || begun(&machine).len() >= enough);
        machine.ok(&["gate", "close", "--reason", "a window in the middle", "--wait"]);
        let closed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let there = runs(&machine).len();
        // Not to wait for something, but for nothing.
        thread::sleep(Duration::from_millis(300));
        assert_eq!(runs(&machine).len(), there, "nothing begins, nothing ends: no program is alive");
        machine.ok(&["gate", "open", "--reason", "it is over"]);
        wait_until("it goes on", || runs(&machine).len() > there);
        let (word, next, at) = runs(&machine)[there].clone();
        assert!(word == "begin" && at > closed);
        let ended: Vec<u64> = runs(&machine)[..there].iter().filter(|run| run.0 == "end").map(|run| run.1).collect();
        let first_open = (1..).find(|message| !ended.contains(message)).unwrap();
        // Two are handed over at once, and either may note it first.
        assert!((first_open..first_open + 2).contains(&next), "{next} came first, and {first_open} is the next");
    }
    let entry = wait_state(&machine, "done");
    let outcomes = outcomes(&machine, &entry);
    assert!((1..=40).all(|ordinal| result(&outcomes, ordinal) == "accepted"));
    assert_eq!(entry["attempts"], 1, "a closure is no attempt");
}

/// Kills the server at random moments of one file, and sees which messages came more than once.
fn killed_in_the_middle(in_flight: usize, count: usize, kills: usize) {
    let seed = std::env::var("FOREBAY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("FOREBAY_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut machine = machine(&format!("in_flight = {in_flight}"), "");
    machine.start();
    send(&machine, "a.hl7", &batch_of(count, |number| format!("M{number}")));
    let mut done = 0;
    for _ in 0..kills {
        let before = begun(&machine).values().sum::<usize>();
        let wanted = before + random.random_range(1..(count / kills).max(2));
        wait_until("it went on", || {
            done = begun(&machine).len();
            done >= count || begun(&machine).values().sum::<usize>() >= wanted
        });
        machine.kill();
        machine.start();
        // Three crashes in a row before any message went on: that is for an operator to look at.
        if machine.queue()[0]["state"] == "held" {
            let id = machine.queue()[0]["id"].as_str().unwrap().to_owned();
            machine.ok(&["queue", "release", &id, "--reason", "it was us"]);
        }
    }
    let entry = wait_state(&machine, "done");
    let outcomes = outcomes(&machine, &entry);
    let mut wrong = String::new();
    for ordinal in 1..=count as u64 {
        if result(&outcomes, ordinal) != "accepted" || !begun(&machine).contains_key(&ordinal) {
            writeln!(
                wrong,
                "message {ordinal}: {:?}, begun {:?}",
                outcomes.get(&ordinal),
                begun(&machine).get(&ordinal)
            )
            .unwrap();
        }
    }
    assert_eq!(wrong, "", "with FOREBAY_SEED={seed}");
    let again: usize = begun(&machine).values().map(|times| times - 1).sum();
    eprintln!("{kills} kills: {again} of {count} messages were handed over again");
    assert!(again <= kills * in_flight, "{again} of {count} came again after {kills} kills, FOREBAY_SEED={seed}");
}

#[test]
fn a_kill_in_the_middle_loses_nothing_and_repeats_no_more_than_was_in_flight() {
    killed_in_the_middle(1, 300, 12);
}

#[test]
fn with_many_in_flight_too() {
    killed_in_the_middle(8, 400, 12);
}

#[test]
fn a_confined_program_gets_messages_too() {
    let writable = "confine = true\nwritable = [\"@DIR@/runs.log\", \"@DIR@/out\", \"@DIR@/env\"]";
    let mut machine = machine("", writable);
    machine.write("runs.log", "");
    machine.start();
    send(&machine, "a.hl7", &batch_of(3, |number| format!("M{number}")));
    let entry = wait_state(&machine, "done");
    let outcomes = outcomes(&machine, &entry);
    assert!((1..=3).all(|ordinal| result(&outcomes, ordinal) == "accepted"), "{outcomes:?}");
}
