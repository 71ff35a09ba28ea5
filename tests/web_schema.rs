//! The web services against their own description: schemathesis tries all that it allows and much that it does not, with the
//! gate open and closed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where something is missing")]

mod harness;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
};

use harness::{
    PARTNER, PASSWORD,
    binary::{Machine, http_get},
};

/// All requests come from one address, many without a right login.
const LIMITS: &str = "[limits]\nstartup_burst = 10000\nstartups_per_second = 10000\nmax_startups = \"10000:1:10000\"\n\
    free_failures = 1000000\nmax_failed_logins = 1000000\nmax_sessions_per_partner = 1000\n";

const ROUTE: &str = "[[route]]\nname = \"all\"\nprocessor = \"deliver\"\ndirectory = \"@DIR@/delivered\"\n";

/// The route is closed and the web is not: files are deferred, and there is a notice.
const WINDOW: &str = "timezone = \"America/Chicago\"\n[[window]]\nname = \"Servers\"\nroutes = [\"all\"]\n\
    start = \"2026-01-01 00:00\"\nend = \"2126-01-01 00:00\"\nreason = \"System maintenance\"\n";

/// Examples of each operation in each phase.
const EXAMPLES: u32 = 100;

/// The answers that there were.
#[derive(Debug, serde::Deserialize)]
struct Seen {
    /// How many, by method, path and status.
    answers: BTreeMap<String, u64>,
    /// The ids of files that are kept as the answers have it.
    kept: BTreeSet<String>,
}

fn machine() -> Machine {
    let mut machine = Machine::new(&format!("[schedule]\nfile = \"maintenance.toml\"\n\n{LIMITS}\n{ROUTE}"));
    machine.write("maintenance.toml", WINDOW);
    machine.add_partner(PARTNER, PASSWORD);
    machine.start();
    machine
}

/// The description as it is served.
fn description(machine: &Machine) -> PathBuf {
    let answer = http_get(machine.web, "/v1/openapi.json", "application/json").expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let path = machine.path().join("openapi.json");
    fs::write(&path, body).unwrap();
    path
}

/// Runs schemathesis in all its phases; `gate` names its settings.
fn schemathesis(machine: &Machine, gate: &str) -> Seen {
    let here = |path: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u32>().expect("a number"));
    let seed = number("FOREBAY_FUZZ_SEED").unwrap_or_else(rand::random);
    println!("seed {seed}");
    let (description, seen) = (description(machine), machine.path().join("seen.json"));
    if gate == "closed" {
        machine.ok(&["gate", "close", "--reason", "to be seen closed"]);
    }
    let settings = here("tests/clients/schemathesis");
    let output = Command::new(here("target/tools/schemathesis/bin/schemathesis"))
        .env("PYTHONPATH", &settings)
        .envs([("SCHEMATHESIS_HOOKS", "web_schema"), ("WEB_SCHEMA_GATE", gate)])
        .env("WEB_SCHEMA_SEEN", &seen)
        .envs([("PYTHONDONTWRITEBYTECODE", "1"), ("NO_PROXY", "*")])
        .current_dir(machine.path())
        .args(["--config-file".as_ref(), settings.join(gate).with_extension("toml").as_os_str()])
        .arg("run")
        .arg(&description)
        .args(["--url", &format!("http://{}", machine.web), "--auth", &format!("{PARTNER}:{PASSWORD}")])
        .args(["--phases", "examples,coverage,fuzzing,stateful", "--mode", "all", "--continue-on-failure"])
        .args(["--max-examples", &EXAMPLES.to_string(), "--seed", &seed.to_string()])
        .args(["--generation-database", "none", "--request-timeout", "30", "--no-color"])
        .output()
        .expect("tests/run installs schemathesis");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{}\n{}{}", output.status, String::from_utf8_lossy(&output.stderr), machine.log());
    assert!(!machine.log().contains("panicked"), "{}", machine.log());
    serde_json::from_slice(&fs::read(seen).unwrap()).unwrap()
}

#[test]
fn what_the_description_says_holds_while_the_gate_is_open() {
    let machine = machine();
    let seen = schemathesis(&machine, "open");
    for wanted in [
        "POST /v1/files 201",
        "POST /v1/files 400",
        "GET /v1/files 200",
        "GET /v1/files 400",
        "GET /v1/files/{id} 200",
        "GET /v1/files/{id} 404",
        "GET /v1/out/ 200",
        "GET /v1/out/{name} 200",
        "GET /v1/out/{name} 206",
        "GET /v1/out/{name} 404",
        "QUERY /v1/files 405",
        "TRACE /v1/out/{name} 405",
        "DELETE /v1/files/{id} 405",
    ] {
        assert!(seen.answers.contains_key(wanted), "never seen: {wanted}\n{:#?}", seen.answers);
    }
    let queue = machine.queue();
    assert!(queue.iter().any(|entry| entry["deferred"] == true), "files are deferred: {queue:#?}");
    let queued: BTreeSet<_> = queue.iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(queued, seen.kept, "what was answered 201 is queued, and nothing else");
}

#[test]
fn every_answer_is_503_while_the_gate_is_closed() {
    let machine = machine();
    let seen = schemathesis(&machine, "closed");
    assert!(seen.answers.len() > 10, "{:#?}", seen.answers);
    assert!(seen.answers.keys().all(|answer| answer.ends_with(" 503")), "{:#?}", seen.answers);
    assert!(machine.queue().is_empty(), "nothing is kept");
}
