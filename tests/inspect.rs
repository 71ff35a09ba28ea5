//! `forebay inspect` on real files: no server, no configuration, an answer whatever the file is.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may expect")]

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

const FOREBAY: &str = env!("CARGO_BIN_EXE_forebay");
const MESSAGE: &str = "MSH|^~\\&|IIS|FAC1|REG|STATE|20260424221507||VXU^V04^VXU_V04|M1|P|2.5.1\rPID|1||42\r";

fn inspect(place: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(FOREBAY);
    command.arg("inspect").args(arguments).current_dir(place).env_remove("FOREBAY_CONFIG");
    command.stdin(Stdio::null()).output().expect("runs")
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn a_good_batch_is_counted() {
    let place = tempfile::tempdir().unwrap();
    let second = MESSAGE.replace("|M1|", "|M2|");
    let text = format!("FHS|^~\\&\rBHS|^~\\&\r{MESSAGE}{second}BTS|2\rFTS|1\r");
    fs::write(place.path().join("batch.hl7"), &text).unwrap();
    let output = inspect(place.path(), &["batch.hl7", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let report = json(&output);
    for (key, value) in [
        ("messages", 2),
        ("files", 1),
        ("batches", 1),
        ("file_trailers", 1),
        ("batch_trailers", 1),
        ("segments", 4),
        ("repeated_control_ids", 0),
        ("bytes", text.len() as u64),
    ] {
        assert_eq!(report[key], value, "{key} in {report}");
    }
    assert_eq!((&report["format"], report["faults"].as_array().unwrap().len()), (&"hl7v2".into(), 0));
    let shown = inspect(place.path(), &["batch.hl7"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("hl7v2: 2 messages in ") && shown.contains("no faults"), "{shown}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "it makes nothing");
}

#[test]
fn faults_are_told_and_the_exit_code_says_so() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("bad.hl7"), format!("lost\rBHS|^~\\&\r{MESSAGE}{MESSAGE}BTS|3\r")).unwrap();
    let output = inspect(place.path(), &["bad.hl7"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for part in [
        "fault: 4 bytes at 0 belong to no message",
        "fault: message 2 has the control id \"M1\" of an earlier one",
        "says \"3\", and there are 2 messages",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let report = json(&inspect(place.path(), &["bad.hl7", "--json"]));
    let kinds: Vec<_> = report["faults"].as_array().unwrap().iter().map(|fault| fault["fault"].clone()).collect();
    assert_eq!(kinds, ["outside", "repeated", "count"]);
    let long = inspect(place.path(), &["bad.hl7", "--json", "--max-message", "64"]);
    assert!(json(&long)["faults"].as_array().unwrap().iter().any(|fault| fault["fault"] == "too_long"), "{long:?}");
}

#[test]
fn what_is_no_hl7_has_an_answer_too() {
    let place = tempfile::tempdir().unwrap();
    for (name, bytes, fault) in [
        ("empty.hl7", Vec::new(), "no_header"),
        ("pdf.hl7", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n".repeat(1_000), "no_header"),
        ("wide.hl7", "\u{feff}MSH|^~\\&|".encode_utf16().flat_map(u16::to_le_bytes).collect(), "utf16"),
        ("one-line.hl7", vec![b'|'; 5 << 20], "no_header"),
    ] {
        fs::write(place.path().join(name), bytes).unwrap();
        let output = inspect(place.path(), &[name, "--json"]);
        let report = json(&output);
        assert_eq!((output.status.code(), &report["faults"][0]["fault"]), (Some(1), &fault.into()), "{name}: {report}");
        assert!(report["format"].is_null(), "{name}: {report}");
    }
    let missing = inspect(place.path(), &["nowhere.hl7"]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("nowhere.hl7"));
}

#[test]
fn a_hostile_name_cannot_steer_the_terminal() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("a.hl7"), MESSAGE.replace("|M1|", "|\x1b[2J|").repeat(2)).unwrap();
    let shown = inspect(place.path(), &["a.hl7"]).stdout;
    assert!(!shown.contains(&0x1b), "{}", String::from_utf8_lossy(&shown));
}

#[test]
fn it_reads_standard_input() {
    let mut child = Command::new(FOREBAY)
        .args(["inspect", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    child.stdin.take().unwrap().write_all(MESSAGE.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(json(&output)["messages"], 1);
}
