//! `deny.toml` against a database of advisories: each advisory of a crate that is built in fails the run until somebody has
//! judged it, and no judgement outlives its advisory.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The advisories that `deny.toml` excepts, each with its crate.
const JUDGED: [(&str, &str); 3] =
    [("rsa", "RUSTSEC-2023-0071"), ("fxhash", "RUSTSEC-2025-0057"), ("instant", "RUSTSEC-2024-0384")];

fn git(at: &Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.arg("-C").arg(at).args(["-c", "user.name=test", "-c", "user.email=test@localhost"]).args(arguments);
    let done = command.output().expect("git runs");
    assert!(done.status.success(), "{done:?}");
}

/// `cargo deny check advisories` with a database of these alone. What is more in an advisory stands behind its id.
fn check(advisories: &[(&str, &str, &str)]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    // The directory of github.com/RustSec/advisory-db, as tests/run makes it.
    let database = dir.path().join("advisory-db-3157b0e258782691");
    for (name, id, more) in advisories {
        let of_crate = database.join("crates").join(name);
        fs::create_dir_all(&of_crate).unwrap();
        let head = format!("[advisory]\nid = \"{id}\"\npackage = \"{name}\"\ndate = \"2025-01-01\"\n{more}");
        let text = format!("```toml\n{head}\n[versions]\npatched = []\n```\n\n# A title\n\nA text.\n");
        fs::write(of_crate.join(format!("{id}.md")), text).unwrap();
    }
    git(&database, &["init", "--quiet"]);
    git(&database, &["add", "--all"]);
    git(&database, &["commit", "--quiet", "--message", "advisories"]);
    let rules = fs::read_to_string(format!("{ROOT}/deny.toml")).unwrap();
    let place = "db-path = \"target/tools/advisory-dbs\"";
    assert!(rules.contains(place), "the place of the database");
    let config = dir.path().join("deny.toml");
    fs::write(&config, rules.replace(place, &format!("db-path = {:?}", dir.path()))).unwrap();
    let path = format!("{ROOT}/target/tools/bin:{}", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("cargo");
    command.args(["deny", "--offline", "--locked", "--config"]).arg(&config).args(["check", "advisories"]);
    command.current_dir(ROOT).env("PATH", path).output().expect("cargo runs")
}

fn judged() -> Vec<(&'static str, &'static str, &'static str)> {
    JUDGED.iter().map(|(name, id)| (*name, *id, "")).collect()
}

#[test]
fn what_was_judged_passes_and_every_other_advisory_fails_the_run() {
    let output = check(&[&judged()[..], &[("a-crate-of-others", "RUSTSEC-2099-0001", "")]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let others = [("sled", "RUSTSEC-2099-0002", ""), ("tokio", "RUSTSEC-2099-0003", "informational = \"unsound\"\n")];
    let output = check(&[&judged()[..], &others].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{told}");
    for (name, id, _) in others {
        assert!(told.lines().any(|line| line.starts_with("error")) && told.contains(id), "{name}: {told}");
    }
}

#[test]
fn a_judgement_whose_advisory_is_gone_fails_the_run() {
    let output = check(&[("a-crate-of-others", "RUSTSEC-2099-0001", "")]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors = told.matches("error[advisory-not-detected]").count();
    assert!(!output.status.success() && errors == JUDGED.len(), "{told}");
}
