//! docs/CONFIGURATION.md against the code: every key is there, none is made up, and each default is the true one.

#![allow(clippy::expect_used, reason = "a test says so by failing")]

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

/// The tables of the reference: heading → key → default as written, without the backticks.
fn reference() -> BTreeMap<String, BTreeMap<String, String>> {
    let text = include_str!("../docs/CONFIGURATION.md");
    let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut heading = String::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("##") {
            heading = title.trim_matches(['#', ' ', '`']).to_owned();
        }
        let cells: Vec<&str> = line.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
        let [key, default, ..] = cells.as_slice() else { continue };
        if let Some(key) = key.strip_prefix('`').and_then(|key| key.strip_suffix('`')) {
            sections.entry(heading.clone()).or_default().insert(key.to_owned(), default.trim_matches('`').to_owned());
        }
    }
    sections
}

/// Every key that `T` reads: what serde names when it meets one that nobody reads.
fn keys_of<T: DeserializeOwned>(needed: &str) -> BTreeSet<String> {
    let text = format!("{needed}\nno_such_key = 1");
    let error = toml::from_str::<T>(&text).err().expect("an unknown key is refused").message().to_owned();
    let (_, list) = error.split_once("expected ").unwrap_or_else(|| panic!("serde's words have changed: {error}"));
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Holds one section of the reference against the struct that reads it. `needed` is the least that it takes.
fn hold<T: DeserializeOwned + Serialize>(heading: &str, needed: &str) {
    let mut sections = reference();
    let documented = sections.remove(heading).unwrap_or_else(|| panic!("no table under {heading:?}"));
    let documented_keys: BTreeSet<String> = documented.keys().cloned().collect();
    let nested: BTreeSet<String> = ["retry", "messages"].map(str::to_owned).into();
    let keys: BTreeSet<String> = keys_of::<T>(needed).difference(&nested).cloned().collect();
    assert_eq!(documented_keys, keys, "the keys of {heading}: documented on the left, read on the right");

    let least: T = toml::from_str(needed).unwrap_or_else(|error| panic!("{heading}: {error}"));
    let mut wrong = Vec::new();
    let defaults = Table::try_from(least).expect("options serialize");
    for (key, written) in &documented {
        let known = defaults.get(key);
        match written.as_str() {
            "required" => {}
            "none" if known.is_some() => wrong.push(format!("{key} is {known:?}")),
            "none" => {}
            written => {
                let text = format!("{needed}\n{key} = {written}");
                let read = toml::from_str::<T>(&text).unwrap_or_else(|error| panic!("{heading} {key}: {error}"));
                let read = Table::try_from(read).expect("options serialize");
                if read.get(key) != known {
                    wrong.push(format!("{key} is {known:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "other defaults than documented in {heading}: {wrong:?}");
}

#[test]
fn the_reference_has_every_key_with_its_true_default() {
    hold::<forebay::partners::Limits>("[limits]", "");
    hold::<forebay::partners::Policy>("[policy]", "");
    hold::<forebay::routes::Options>("[[route]]", "name = \"a\"");
    hold::<forebay::routes::Retry>("[route.retry]", "");
    hold::<forebay::routes::MessageOptions>("[route.messages]", "format = \"hl7v2\"");
    hold::<forebay::gate::Options>("[schedule]", "");
    hold::<forebay::doors::ftp::Options>("[ftp]", "");
    hold::<forebay::doors::sftp::Options>("[sftp]", "");
    hold::<forebay::doors::drop::Options>("[[drop]]", "directory = \"/in\"\npartner = \"a\"");
    hold::<forebay::doors::web::Options>("[web]", "");
    hold::<forebay::doors::web::HealthOptions>("[health]", "");
    hold::<forebay::doors::web::MetricsOptions>("[metrics]", "");
    hold::<forebay::ingest::Options>("[ingest]", "");
    hold::<forebay::process::Options>("[process]", "");
    hold::<forebay::config::Storage>("[storage]", "");
    hold::<forebay::config::Queue>("[queue]", "");
    hold::<forebay::telemetry::Options>("[log]", "");
}

#[test]
fn a_partner_may_have_every_policy_of_its_own() {
    let mut policy = keys_of::<forebay::partners::Policy>("");
    policy.extend(["name", "certificates", "outbox"].map(str::to_owned));
    assert_eq!(policy, keys_of::<forebay::partners::Override>("name = \"a\""));
}

#[test]
fn a_schedule_with_every_documented_key_is_read() {
    let schedule = r#"
        timezone = "America/Chicago"
        [[window]]
        name = "Monthly patching"
        start = "2026-05-03 02:00"
        end = "2026-05-03 05:00"
        repeat = "FREQ=MONTHLY;BYDAY=1SU"
        reason = "System maintenance"
        message = "Please try again later."
        routes = ["immunizations", "web"]
        [[window]]
        start = "2026-05-03 02:00"
        duration = "3h"
    "#;
    forebay::gate::parse_schedule(schedule).expect("every key is known");
    let written: Table = toml::from_str(schedule).expect("is TOML");
    let Some(Value::Array(windows)) = written.get("window") else { panic!("windows are a list") };
    let used: BTreeSet<&str> =
        windows.iter().filter_map(Value::as_table).flat_map(Table::keys).map(String::as_str).collect();
    let documented = &reference()["The schedule: `maintenance.toml"];
    let outer = ["timezone", "[[window]]"];
    assert_eq!(documented.keys().map(String::as_str).filter(|key| !outer.contains(key)).collect::<BTreeSet<_>>(), used);
}

#[test]
fn files_that_the_documents_name_are_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents =
        std::fs::read_dir(root.join("docs")).expect("docs/ is there").map(|entry| entry.expect("reads").path());
    let mut missing = Vec::new();
    for document in documents.chain([root.join("README.md")]) {
        let text = std::fs::read_to_string(&document).expect("reads");
        let places = ["src/", "storage/", "queue/src", "tests/", "packaging/", "examples/", "docs/"];
        for word in
            text.split(['`', '(', ')', ' ', '\n']).filter(|word| places.iter().any(|place| word.starts_with(place)))
        {
            let path = word.trim_end_matches([',', '.', ';', ':']);
            if !root.join(path).exists() {
                missing.push(format!("{} names {path}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
