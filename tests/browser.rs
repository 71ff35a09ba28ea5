//! The pages in a real browser: Chromium, driven by playwright-core, with axe-core on every page and in every state. What it
//! saw is in `target/screenshots/`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where something is missing")]

mod harness;

use std::{fs, path::PathBuf, process::Command};

use harness::binary::{FOREBAY, Machine};

const PASSWORD: &str = "correct horse battery staple";

/// What stands behind the pages: a partner that is slow, and processors with every outcome.
const CONFIG: &str = r#"
[limits]
startup_burst = 10000
startups_per_second = 10000

[schedule]
file = "maintenance.toml"

[[partner]]
name = "Slow"
bandwidth = "20 MB/s"

[[route]]
name = "labs"
paths = ["*.hl7"]
processor = "deliver"
directory = "@DIR@/delivered"

[[route]]
name = "checks"
paths = ["*.bad"]
processor = "exec"
command = ["/bin/sh", "-c", "echo 'no message header' >&2; exit 65"]

[[route]]
name = "nightly"
paths = ["*.later"]
processor = "deliver"
directory = "@DIR@/nightly"
"#;

/// One route is closed: its files wait, and there is a notice.
const WINDOW: &str = "timezone = \"America/Chicago\"\n[[window]]\nname = \"Nightly run\"\nroutes = [\"nightly\"]\n\
    start = \"2026-01-01 00:00\"\nend = \"2126-01-01 00:00\"\nreason = \"System maintenance\"\n";

/// Runs a script of `tests/browser/` against a server of its own.
fn browse(script: &str) {
    let here = |path: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    let mut machine = Machine::new(CONFIG);
    machine.write("maintenance.toml", WINDOW);
    let long = format!("Clinic-{}", "x".repeat(57));
    for partner in ["Clinic", "Slow", &long] {
        machine.add_partner(partner, PASSWORD);
    }
    machine.start();
    let screenshots = here("target/screenshots");
    fs::create_dir_all(&screenshots).unwrap();
    let output = Command::new("node")
        .arg(here("tests/browser").join(script).with_extension("js"))
        .env("BROWSER_BASE", format!("http://{}", machine.web))
        .env("BROWSER_SCREENSHOTS", &screenshots)
        .env("BROWSER_PLACE", machine.path())
        .env("FOREBAY", FOREBAY)
        .env("FOREBAY_CONFIG", machine.path().join("forebay.toml"))
        .env("PARTNER_PASSWORD", PASSWORD)
        .output()
        .expect("tests/run installs node");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{script}: {}\n{said}\n{}", output.status, machine.log());
    assert!(!machine.log().contains("panicked"), "{}", machine.log());
}

#[test]
fn visitors_see_an_open_gate_and_a_closed_one() {
    browse("faces");
}

#[test]
fn a_partner_signs_in_and_out() {
    browse("sign_in");
}

#[test]
fn two_hundred_mebibytes_are_dropped_with_progress_and_a_receipt() {
    browse("upload");
}

#[test]
fn a_gate_that_closes_under_an_upload_leaves_no_doubt_of_what_is_kept() {
    browse("closing");
}

#[test]
fn hostile_names_are_names_on_every_page() {
    browse("names");
}

#[test]
fn everything_works_without_script() {
    browse("no_script");
}
