//! The floors of the house: each module names only what is beneath it.

#![allow(clippy::expect_used, reason = "a test says so by failing")]
use std::{
    fs,
    path::{Path, PathBuf},
};

/// From the ground up. A module may name those on floors below its own; those on one floor do not know each other.
/// `config` depends on every module's `Options`, and so stands above all that have some.
const FLOORS: [&[&str]; 11] = [
    &["forebay_storage"],
    &["forebay_queue"],
    &["clock", "units", "telemetry"],
    &["contents", "gate", "partners", "routes"],
    &["answers"],
    &["ingest", "process"],
    &["doors"],
    &["operate"],
    &["config"],
    &["server"],
    &["cli"],
];

/// Modules that are further away from something than their floor: who, and what they never name.
const NEVER: [(&str, &[&str]); 1] = [("doors", &["forebay_storage", "forebay_queue", "contents", "process", "routes"])];

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The modules that a piece of code names, by `crate::…`, in a `use crate::{…}` list, or as another crate.
fn named(code: &str) -> Vec<String> {
    let code: String = code.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut names = Vec::new();
    for word in ["crate::", "forebay::"] {
        for (at, _) in code.match_indices(word) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            names.extend(heads(&code[at + word.len()..]));
        }
    }
    for name in ["forebay_storage", "forebay_queue"] {
        if code.contains(name) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    names.dedup();
    names
}

/// The first components behind `crate::`: one, or those of a list in braces.
fn heads(rest: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(list) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let (mut depth, mut item, mut items) = (0, String::new(), Vec::new());
    for c in list.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                item.push(c);
            }
        }
    }
    items.push(item);
    items.iter().map(|item| word(item.trim())).filter(|name| !name.is_empty()).collect()
}

/// What a module names and must not.
fn breaches(module: &str, code: &str) -> Vec<String> {
    let own = floor(module).expect("every module has a floor");
    let never = NEVER.iter().filter(|(who, _)| *who == module).flat_map(|(_, what)| what.iter());
    let never: Vec<&str> = never.copied().collect();
    let mut found = named(code);
    found.retain(|name| name != module);
    found.retain(|name| never.contains(&name.as_str()) || floor(name).is_some_and(|other| other >= own));
    found
}

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).expect("a directory of the sources");
    entries.flat_map(|entry| files(&entry.expect("an entry").path())).filter(|file| is_rust(file)).collect()
}

fn is_rust(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "rs")
}

/// The code of a file without its unit tests: those may stand on real parts.
fn code_of(file: &Path) -> String {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name.contains("tests") || file.components().any(|part| part.as_os_str() == "tests") {
        return String::new();
    }
    let text = fs::read_to_string(file).expect("a source file");
    text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned()
}

#[test]
fn each_module_names_only_what_is_beneath_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    let mut looked_at = 0;
    for entry in fs::read_dir(&src).expect("the sources") {
        let path = entry.expect("an entry").path();
        let module = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        if module == "lib" || module == "main" {
            continue;
        }
        assert!(floor(&module).is_some(), "{module} has no floor: give it one here and in the documents");
        for file in files(&path) {
            looked_at += 1;
            for name in breaches(&module, &code_of(&file)) {
                all.push(format!("{} names {name}", file.strip_prefix(&src).unwrap_or(&file).display()));
            }
        }
    }
    assert!(looked_at > 50, "only {looked_at} files were looked at");
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn the_lower_crates_do_not_know_the_upper_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in files(&root.join("storage/src")) {
        assert!(!code_of(&file).contains("forebay_queue"), "{}", file.display());
    }
    for manifest in ["storage/Cargo.toml", "queue/Cargo.toml"] {
        let text = fs::read_to_string(root.join(manifest)).expect("a manifest");
        assert!(!text.lines().any(|line| line.starts_with("forebay ")), "{manifest} depends on the root crate");
    }
}

#[test]
fn a_breach_is_found_in_every_form() {
    assert_eq!(breaches("ingest", "use crate::process::Dispatcher;"), ["process"]);
    assert_eq!(breaches("gate", "use crate::{\n    clock::Clock,\n    doors::{ftp, web},\n    units,\n};"), ["doors"]);
    assert_eq!(breaches("doors", "fn x() { forebay_queue::nothing() }"), ["forebay_queue"]);
    assert_eq!(breaches("partners", "let x = crate::gate::WEB;"), ["gate"]);
    assert_eq!(breaches("operate", "use crate::{config::Config, gate::Gate};"), ["config"]);
    assert!(breaches("server", "use crate::{config::Config, doors::ftp}; // crate::cli").is_empty());
}
