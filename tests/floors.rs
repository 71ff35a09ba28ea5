//! The floors of the house: each module names only what is beneath it, by whatever name.
//!
//! A name counts as what it leads to: re-exports, globs, renames, aliases and supertraits are followed to the definition,
//! and every module on the way is named too. And what a floor hands out without its being named (a result, a field, an
//! associated type) counts as well, where the floor above may not know it. `docs/ARCHITECTURE.md` has the rules.

#![allow(clippy::expect_used, clippy::panic, unreachable_pub, reason = "a test says so by failing, and is no library")]
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

#[path = "floors/faces.rs"]
mod faces;
#[path = "floors/resolve.rs"]
mod resolve;
#[path = "floors/sources.rs"]
mod sources;

use resolve::Way;
use sources::{Place, Sources, place};

const STORAGE: &str = "forebay_storage";
const QUEUE: &str = "forebay_queue";

/// From the ground up. A module may name those on floors below its own; those on one floor do not know each other.
/// `config` depends on every module's `Options`, and so stands above all that have some.
const FLOORS: [&[&str]; 13] = [
    &[STORAGE],
    &[QUEUE],
    &["clock", "units", "telemetry", "envelope", "durable_file", "origin", "http", "metrics"],
    &["credentials", "descriptors", "tls"],
    &["contents", "gate", "partners", "routes"],
    &["answers"],
    &["ingest", "process"],
    &["doors"],
    &["operate"],
    &["config"],
    &["server"],
    &["cli"],
    &["main"],
];

/// Modules that see less than all that is beneath them: who, and all that it may name.
const SEES_ONLY: [(&str, &[&str]); 2] = [
    (
        "doors",
        &[
            "ingest",
            "partners",
            "gate",
            "clock",
            "units",
            "telemetry",
            "durable_file",
            "origin",
            "descriptors",
            "http",
            "metrics",
            "tls",
        ],
    ),
    ("main", &["cli"]),
];

/// Words of storage and queue that those above hand on to doors through their own public face, each with its reason. They
/// are plain: `what_is_handed_on_is_plain` holds them to it.
const HANDED_ON: [(&str, &str); 6] = [
    ("forebay_storage::id::FileId", "the id of a file is what all floors and the partner call it by"),
    ("forebay_storage::meta::Sha256", "a digest; FTP's HASH and XSHA256 tell it"),
    ("forebay_storage::meta::Origin", "the drop door sees an original, and the record of its acceptance names it"),
    ("forebay_storage::store::Space", "three numbers, which SFTP's statvfs tells"),
    ("forebay_queue::idempotency::IdempotencyKey", "a short text, which a door reads from a request"),
    (
        "forebay_queue::origin::KnownOrigin",
        "an id, a name, a size, a digest and an origin: what was taken from a folder",
    ),
];

/// What is only handed in, by the composition root: nothing gives one of these out.
const HANDED_IN: [&str; 1] = ["forebay::ingest::core::Dependencies"];

/// The modules of storage that know where bytes lie, and the only ones above it that may name them.
const PLACES_OF_BYTES: [(&str, &str, &str); 6] = [
    ("disk", QUEUE, "the index is set aside, synced and removed on the disk that the journal is on"),
    ("journal", QUEUE, "the queue stands on the journal"),
    ("disk", "server", "the start decides which disk"),
    ("disk", "durable_file", "files beside the accepted ones are written as storage writes, on the same disk"),
    ("local", "server", "the start opens storage in the data directory"),
    ("local", "config", "its `Options` are a section of the configuration"),
];

/// Parts of paths that lead to accepted bytes, or to those that are becoming so. Only storage knows them.
const WHERE_BYTES_LIE: [&str; 7] = ["spool", "tmp", "partials", "aside", "recent", "packs", "user.forebay"];

/// What gives a place on the disk out all the same, with the reason.
const PATHS_GIVEN: [(&str, &str); 4] = [
    ("forebay_storage::disk::Disk::list", "the machine's own disk: whoever may name it made the paths"),
    ("forebay_storage::disk::Disk::real_path", "likewise"),
    ("forebay_storage::log::Recovery.set_aside", "copies of damaged segments: counted, and told to the operator"),
    ("forebay_queue::store::Recovered.set_aside", "the same, and an index that was set aside"),
];

/// Types by which a place on the disk could be handed out.
const PATHS: [&str; 14] = [
    "std::path::Path",
    "std::path::PathBuf",
    "std::fs::File",
    "std::fs::DirEntry",
    "std::fs::ReadDir",
    "std::fs::Metadata",
    "std::ffi::OsStr",
    "std::ffi::OsString",
    "std::ffi::CStr",
    "std::ffi::CString",
    "std::os::fd::OwnedFd",
    "std::os::fd::BorrowedFd",
    "std::os::fd::RawFd",
    "tokio::fs::File",
];

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The part of the house that a place is in; none for other crates and for the root, which is a table of contents.
fn part(place: &[String]) -> Option<&str> {
    match place.first()?.as_str() {
        "forebay" => place.get(1).map(String::as_str).filter(|part| floor(part).is_some()),
        own @ (STORAGE | QUEUE | "main") => Some(own),
        _ => None,
    }
}

/// Whether a way leads to a word that a floor which `own` may name hands on to it.
fn is_handed_on(way: &Way, own: &str, sees: &[&str]) -> bool {
    let handed_on = |place: &Place| HANDED_ON.iter().any(|(word, _)| *word == place.join("::"));
    let through = way.iter().filter_map(|place| part(place)).find(|part| *part != own);
    way.last().is_some_and(handed_on) && through.is_some_and(|first| sees.contains(&first))
}

/// The parts that a way touches and that `own` must not know.
fn forbidden<'a>(way: &'a Way, own: &str) -> BTreeSet<&'a str> {
    let sees = SEES_ONLY.iter().find(|(who, _)| *who == own).map(|(_, sees)| *sees);
    if sees.is_some_and(|sees| is_handed_on(way, own, sees)) {
        return BTreeSet::new();
    }
    let parts = way.iter().filter_map(|place| part(place)).filter(|part| *part != own);
    parts.filter(|part| floor(part) >= floor(own) || sees.is_some_and(|sees| !sees.contains(part))).collect()
}

/// Every path that is named against the floors.
fn breaches(sources: &Sources) -> Vec<String> {
    let mut found = BTreeSet::new();
    for (at, module) in &sources.modules {
        let Some(own) = part(at) else { continue };
        let mut judge = |path: &Place, ways: BTreeSet<Way>| {
            for part in ways.iter().flat_map(|way| forbidden(way, own)) {
                found.insert(format!("{} names {part} ({})", at.join("::"), path.join("::")));
            }
        };
        module.mentions.iter().for_each(|path| judge(path, sources.ways(path, at)));
        module.globs.iter().for_each(|(path, _)| judge(path, sources.ways_of_glob(path, at)));
    }
    found.into_iter().collect()
}

/// Everything that is handed to `above` by what it may name, and that it must not know.
fn handed_out(sources: &Sources, above: &str, sees: &[&str]) -> Vec<String> {
    let reader = place(&format!("forebay::{above}"));
    let mut found = BTreeSet::new();
    for (at, module) in sources.modules.iter().filter(|(at, _)| part(at).is_some_and(|part| sees.contains(&part))) {
        for given in module.given.iter().filter(|given| given.seen.by(&reader)) {
            let by = format!("{}::{}", at.join("::"), given.by);
            if HANDED_IN.iter().any(|given| by.starts_with(&format!("{given}."))) {
                continue;
            }
            for way in given.types.iter().flat_map(|path| sources.ways(path, at)) {
                let Some(last) = way.last() else { continue };
                let what = last.join("::");
                let is_word = HANDED_ON.iter().any(|(word, _)| *word == what);
                let is_known =
                    part(last).is_none_or(|part| sees.contains(&part)) && !HANDED_IN.contains(&what.as_str());
                if !is_word && !is_known {
                    found.insert(format!("{by} gives {what}"));
                }
            }
        }
    }
    found.into_iter().collect()
}

/// Everything that a crate's public face gives by which a place on the disk could be named.
fn paths_given(sources: &Sources, part_of: &[&str]) -> Vec<String> {
    let reader = place("forebay::server");
    let mut found = BTreeSet::new();
    for (at, module) in
        sources.modules.iter().filter(|(at, _)| at.first().is_some_and(|one| part_of.contains(&one.as_str())))
    {
        for given in module.given.iter().filter(|given| given.seen.by(&reader) && given.to == faces::To::Users) {
            let by = format!("{}::{}", at.join("::"), given.by);
            if PATHS_GIVEN.iter().any(|(known, _)| *known == by) {
                continue;
            }
            let ways = given.types.iter().flat_map(|path| sources.ways(path, at));
            let ends = ways.filter_map(|way| way.last().map(|place| place.join("::")));
            for what in ends.filter(|what| PATHS.contains(&what.as_str())) {
                found.insert(format!("{by} gives {what}"));
            }
        }
    }
    found.into_iter().collect()
}

/// Every module above storage that names one which knows where bytes lie, without being listed.
fn names_a_place(sources: &Sources) -> Vec<String> {
    let mut found = BTreeSet::new();
    for (at, module) in &sources.modules {
        let Some(own) = part(at).filter(|own| *own != STORAGE) else { continue };
        let ways = module.mentions.iter().flat_map(|path| sources.ways(path, at));
        let globs = module.globs.iter().flat_map(|(path, _)| sources.ways_of_glob(path, at));
        for place in ways.chain(globs).flatten().filter(|place| place.first().is_some_and(|one| one == STORAGE)) {
            let Some(which) = place.get(1) else { continue };
            let knows = PLACES_OF_BYTES.iter().any(|(module, _, _)| module == which);
            if knows && !PLACES_OF_BYTES.iter().any(|(module, who, _)| module == which && *who == own) {
                found.insert(format!("{} names {}", at.join("::"), place.join("::")));
            }
        }
    }
    found.into_iter().collect()
}

/// Every literal above storage with a part of a path that leads to bytes.
fn spells_a_place(sources: &Sources) -> Vec<String> {
    let mut found = BTreeSet::new();
    for (at, module) in sources.modules.iter().filter(|(at, _)| part(at) != Some(STORAGE)) {
        for text in &module.literals {
            if text.split('/').any(|one| WHERE_BYTES_LIE.contains(&one)) {
                found.insert(format!("{} says {text:?}", at.join("::")));
            }
        }
    }
    found.into_iter().collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All of the house, from its files.
fn house() -> &'static Sources {
    static HOUSE: LazyLock<Sources> = LazyLock::new(read_house);
    &HOUSE
}

fn read_house() -> Sources {
    let mut sources = Sources::default();
    sources.read(STORAGE, &root().join("storage/src/lib.rs"));
    sources.read(QUEUE, &root().join("queue/src/lib.rs"));
    sources.read("forebay", &root().join("src/lib.rs"));
    sources.read("main", &root().join("src/main.rs"));
    sources
}

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).expect("a directory of the sources");
    let all = entries.flat_map(|entry| files(&entry.expect("an entry").path()));
    all.filter(|file| file.extension().is_some_and(|extension| extension == "rs")).collect()
}

#[test]
fn each_module_names_only_what_is_beneath_it() {
    let found = breaches(house());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn doors_are_given_nothing_of_queue_and_storage() {
    let house = house();
    for (who, sees) in SEES_ONLY {
        let found = handed_out(house, who, sees);
        assert!(found.is_empty(), "{who}:\n{}", found.join("\n"));
    }
}

/// A word is a structure or an enum. What it gives is a word too, or gives nothing itself, as its error of parsing does.
#[test]
fn what_is_handed_on_is_plain() {
    let house = house();
    for (word, _) in HANDED_ON {
        let (at, name) = word.rsplit_once("::").expect("a module and a name");
        let module = &house.modules[&place(at)];
        let by_of = |given: &faces::Given| given.by.split(['.', ':', ' ']).next().unwrap_or_default().to_owned();
        assert!(module.bindings.iter().any(|one| one.name == name && matches!(one.to, sources::To::Item)), "{word}");
        let reader = place("forebay::doors");
        let of_it = module.given.iter().filter(|given| {
            (by_of(given) == name || given.by.ends_with(&format!(" for {name}"))) && given.seen.by(&reader)
        });
        for given in of_it {
            for way in given.types.iter().flat_map(|path| house.ways(path, &place(at))) {
                let what = way.last().map(|place| place.join("::")).unwrap_or_default();
                let is_word = HANDED_ON.iter().any(|(word, _)| *word == what);
                let gives_nothing = way.last().and_then(|place| place.split_last()).is_some_and(|(name, at)| {
                    let module = house.modules.get(at);
                    module.is_some_and(|module| !module.given.iter().any(|given| by_of(given) == *name))
                });
                assert!(
                    is_word || gives_nothing || way.last().is_none_or(|place| part(place).is_none()),
                    "{word}: {} gives {what}",
                    given.by
                );
                assert!(!PATHS.contains(&what.as_str()), "{word}: {} gives {what}", given.by);
            }
        }
    }
}

#[test]
fn storage_gives_no_path() {
    let found = paths_given(house(), &[STORAGE, QUEUE]);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn nothing_above_storage_knows_where_bytes_lie() {
    let house = house();
    let found = [names_a_place(house), spells_a_place(house)].concat();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The rules stand on what the reader understands: every file is read, every path of our own leads somewhere.
#[test]
fn all_sources_are_read_and_understood() {
    let house = house();
    for folder in ["src", "storage/src", "queue/src"] {
        for file in files(&root().join(folder)).iter().filter(|file| !house.files.contains(*file)) {
            assert!(file.to_string_lossy().ends_with("tests.rs"), "{} is not read", file.display());
        }
    }
    let mut nowhere = Vec::new();
    for (at, module) in &house.modules {
        for path in module.mentions.iter().chain(module.globs.iter().map(|(path, _)| path)) {
            let is_own = ["crate", "self", "super", "forebay", STORAGE, QUEUE].contains(&path[0].as_str());
            if is_own && house.ways(path, at).is_empty() {
                nowhere.push(format!("{} in {}", path.join("::"), at.join("::")));
            }
        }
    }
    assert!(nowhere.is_empty(), "these lead nowhere:\n{}", nowhere.join("\n"));
    let own = &house.modules[&place("forebay")];
    for binding in &own.bindings {
        assert!(matches!(binding.to, sources::To::Module), "lib.rs is a table of contents: {}", binding.name);
        assert!(floor(&binding.name).is_some(), "{} has no floor: give it one here and in the documents", binding.name);
    }
    assert!(own.globs.is_empty(), "lib.rs is a table of contents");
}

/// No list says more than is needed.
#[test]
fn no_exception_is_left_over() {
    let house = house();
    let text_of = |part_of: &str| -> BTreeSet<String> {
        let modules = house.modules.iter().filter(|(at, _)| part(at) == Some(part_of));
        modules.flat_map(|(_, module)| module.literals.iter().cloned()).collect()
    };
    let storage = text_of(STORAGE);
    for one in WHERE_BYTES_LIE {
        assert!(storage.contains(one), "storage knows no {one}");
    }
    let reached = |who: &str| -> BTreeSet<String> {
        let modules = house.modules.iter().filter(|(at, _)| part(at) == Some(who));
        let ways = modules.flat_map(|(at, module)| module.mentions.iter().flat_map(|path| house.ways(path, at)));
        ways.flatten().map(|place| place.join("::")).collect()
    };
    for (module, who, _) in PLACES_OF_BYTES {
        let before = format!("{STORAGE}::{module}");
        assert!(reached(who).iter().any(|place| place.starts_with(&before)), "{who} does not name {before}");
    }
    let mut doors = reached("doors");
    for (at, module) in house.modules.iter().filter(|(at, _)| part(at) == Some("ingest")) {
        let given = module.given.iter().flat_map(|given| &given.types).flat_map(|path| house.ways(path, at));
        doors.extend(given.flatten().map(|place| place.join("::")));
    }
    for (word, _) in HANDED_ON {
        assert!(doors.contains(word), "doors neither name nor get {word}");
    }
    for (by, _) in PATHS_GIVEN {
        let all = house.modules.iter().flat_map(|(at, module)| module.given.iter().map(move |one| (at, one)));
        assert!(
            all.into_iter().any(|(at, given)| format!("{}::{}", at.join("::"), given.by) == by),
            "there is no {by}"
        );
    }
}

#[test]
fn the_lower_crates_do_not_know_the_upper_ones() {
    for manifest in ["storage/Cargo.toml", "queue/Cargo.toml"] {
        let text = fs::read_to_string(root().join(manifest)).expect("a manifest");
        assert!(!text.lines().any(|line| line.starts_with("forebay ")), "{manifest} depends on the root crate");
    }
}

/// A small house: modules and their code.
fn small(modules: &[(&str, &str)]) -> Sources {
    let mut sources = Sources::default();
    let ground = [
        ("forebay_storage", "pub use id::FileId;"),
        ("forebay_storage::id", "pub struct FileId;"),
        ("forebay_storage::local", "pub struct LocalStorage;"),
        ("forebay_queue", "pub use store::{Entry, QueueStore};"),
        ("forebay_queue::store", "pub trait QueueStore {} pub enum Entry { A }"),
        ("forebay::process", "pub mod wire {} pub struct Dispatcher;"),
        ("forebay::clock", "pub struct Clock;"),
        ("forebay::server", "pub struct Server;"),
    ];
    for (at, code) in ground.iter().chain(modules) {
        sources.add(at, code);
    }
    sources
}

/// What code of a door breaks when `ingest` has this code.
fn at_the_door(ingest: &str, door: &str) -> Vec<String> {
    breaches(&small(&[
        ("forebay::ingest", ingest),
        ("forebay::doors", "pub mod ftp {}"),
        ("forebay::doors::ftp", door),
    ]))
}

#[test]
fn a_breach_is_found_in_every_form() {
    let re_export = "pub use forebay_queue::{Entry, QueueStore};";
    let forms = [
        ("named outright", "", "fn x() { forebay_queue::QueueStore::new() }"),
        ("named from the root", "", "fn x() { ::forebay_queue::QueueStore::new() }"),
        ("the crate by another name", "", "use forebay_queue as q; fn x(e: q::Entry) {}"),
        ("extern crate", "", "extern crate forebay_queue as q; fn x(e: q::Entry) {}"),
        ("re-exported", re_export, "use crate::ingest::Entry;"),
        ("without an import", re_export, "fn x(e: Box<dyn crate::ingest::QueueStore>) {}"),
        ("re-exported by another name", "pub use forebay_queue::Entry as Item;", "use crate::ingest::Item;"),
        ("imported by another name", re_export, "use crate::ingest::Entry as Item;"),
        ("re-exported whole", "pub use forebay_queue::*;", "use crate::ingest::Entry;"),
        ("imported whole", re_export, "use crate::ingest::*;"),
        ("both whole", "pub use forebay_queue::*;", "use crate::ingest::*;"),
        ("in a module", "pub mod inner { pub use forebay_queue as q; }", "use crate::ingest::inner::q::Entry;"),
        (
            "in a list",
            "pub mod inner { pub use forebay_queue as q; }",
            "use crate::{clock::Clock, ingest::{inner::{q::{Entry as E}}}};",
        ),
        ("the module by another name", re_export, "use crate::ingest::{self as way_in}; fn x(e: way_in::Entry) {}"),
        ("the root by another name", re_export, "use crate as root; fn x(e: root::ingest::Entry) {}"),
        ("upwards", re_export, "use super::super::ingest::Entry;"),
        ("from within", re_export, "mod deep { fn x(e: super::super::super::ingest::Entry) {} }"),
        ("by way of the door itself", re_export, "use crate::ingest; mod deep { fn x(e: super::ingest::Entry) {} }"),
        ("within a function", re_export, "fn x() { use crate::ingest::Entry as E; E::A; }"),
        ("variants", re_export, "use crate::ingest::Entry::*;"),
        ("an alias", "pub type Item = Vec<forebay_queue::Entry>;", "use crate::ingest::Item;"),
        (
            "an alias of an import",
            "use forebay_queue::Entry; pub type Item<T> = Result<Entry, T>;",
            "type I = crate::ingest::Item<()>;",
        ),
        ("a trait that stands on it", "pub trait Keeps: forebay_queue::QueueStore {}", "use crate::ingest::Keeps;"),
        (
            "through two",
            "mod a { pub(super) use forebay_queue::store as b; } pub use a::b as c;",
            "use crate::ingest::c::Entry;",
        ),
        ("in a macro", re_export, "fn x() { assert!(matches!(y, Some(crate::ingest::Entry::A))) }"),
        ("in a macro of its own", re_export, "macro_rules! x { () => { $crate::ingest::Entry::A } }"),
        ("in an attribute", re_export, "#[serde(with = \"crate::process::wire\")] struct X;"),
        ("another floor", "pub use crate::process::Dispatcher;", "use crate::ingest::Dispatcher;"),
        ("a word outright", "", "use forebay_storage::FileId;"),
        (
            "a word by the crate's other name",
            "pub use forebay_storage as s;",
            "use forebay_storage as s; fn x(i: s::FileId) {}",
        ),
        ("something above", "", "use crate::server::Server;"),
    ];
    for (what, ingest, door) in forms {
        let found = at_the_door(ingest, door);
        assert!(found.iter().any(|one| one.starts_with("forebay::doors")), "{what}: {found:?}");
    }
    let root = small(&[("forebay", "pub use forebay_queue as q;"), ("forebay::doors", "use crate::q::Entry;")]);
    assert_eq!(breaches(&root), ["forebay::doors names forebay_queue (crate::q::Entry)"]);
}

#[test]
fn what_is_allowed_is_no_breach() {
    let word = "pub use forebay_storage::FileId; pub struct Ingest; mod own { use forebay_queue::Entry; }";
    let fine = [
        "use crate::ingest::FileId;",
        "use crate::{clock::Clock, ingest::{FileId as Id, Ingest}}; fn x(i: Id) { let entry = Entry::A; } enum Entry { A }",
        "use crate::ingest::*;",
        "fn x() { self::y(); super::ftp::y() } fn y() {}",
        "#[cfg(test)] mod tests { use forebay_queue::Entry; }",
        "//! forebay_queue::Entry\n/// [`forebay_queue::Entry`]\nfn x() {} // forebay_queue::Entry",
    ];
    for door in fine {
        assert!(at_the_door(word, door).is_empty(), "{door}: {:?}", at_the_door(word, door));
    }
    let above = small(&[
        ("forebay::ingest", "pub use forebay_queue::Entry;"),
        ("forebay::operate", "use crate::ingest::Entry;"),
    ]);
    assert!(breaches(&above).is_empty());
}

#[test]
fn what_is_handed_out_is_found_in_every_form() {
    let used = "use forebay_queue::{Entry, QueueStore}; use std::sync::Arc; pub struct Ingest; ";
    let forms = [
        "impl Ingest { pub fn queue(&self) -> Arc<dyn QueueStore> { todo!() } }",
        "impl Ingest { pub(crate) async fn entry(&self) -> Result<Option<&Entry>, ()> { todo!() } }",
        "pub fn entries() -> impl Iterator<Item = Entry> { todo!() }",
        "pub fn each(f: impl FnMut(&Entry) -> bool) {}",
        "pub fn each<F: FnMut(&Entry)>(f: F) {}",
        "pub struct Accepted { pub entry: Entry }",
        "pub struct Accepted(pub Entry);",
        "pub enum Seen { It(Entry), Not }",
        "pub type Item = Entry;",
        "pub static QUEUE: Option<&dyn QueueStore> = None;",
        "pub trait Evidence { fn look(&self, entry: &Entry); }",
        "pub trait Evidence { type Of: QueueStore; }",
        "impl std::ops::Deref for Ingest { type Target = dyn QueueStore; fn deref(&self) -> &Self::Target { todo!() } }",
        "impl AsRef<Entry> for Ingest { fn as_ref(&self) -> &Entry { todo!() } }",
        "impl Ingest { pub fn into_process(self) -> crate::process::Dispatcher { todo!() } }",
    ];
    let sees = SEES_ONLY[0].1;
    for form in forms {
        let house = small(&[("forebay::ingest", &format!("{used}{form}"))]);
        assert_eq!(handed_out(&house, "doors", sees).len(), 1, "{form}");
    }
    let fine = [
        "impl Ingest { fn queue(&self) -> Arc<dyn QueueStore> { todo!() } }",
        "impl Ingest { pub fn new(queue: Arc<dyn QueueStore>) -> Arc<Self> { todo!() } }",
        "pub struct Accepted { pub(self) entry: Entry, pub id: forebay_storage::FileId }",
        "impl From<Entry> for Ingest { fn from(entry: Entry) -> Self { todo!() } }",
        "mod inner { pub(super) fn of() -> super::Entry { todo!() } }",
    ];
    for form in fine {
        let house = small(&[("forebay::ingest", &format!("{used}{form}"))]);
        assert!(handed_out(&house, "doors", sees).is_empty(), "{form}: {:?}", handed_out(&house, "doors", sees));
    }
    // What is handed in for the start may hold stores, and is not to be had from anything.
    let core = "pub struct Dependencies { pub queue: std::sync::Arc<dyn forebay_queue::QueueStore> }";
    let get = "pub fn all() -> core::Dependencies { todo!() }";
    let house = small(&[("forebay::ingest::core", core), ("forebay::ingest", get)]);
    assert_eq!(handed_out(&house, "doors", sees), ["forebay::ingest::all gives forebay::ingest::core::Dependencies"]);
}

#[test]
fn a_path_of_bytes_is_found_in_every_form() {
    let forms = [
        "use std::path::PathBuf; pub fn place() -> PathBuf { todo!() }",
        "use std::path::PathBuf as P; pub fn place() -> Option<P> { todo!() }",
        "use std::path; pub struct Kept { pub at: path::PathBuf }",
        "type Where = std::path::PathBuf; pub trait Storage { fn place(&self) -> Result<Where, ()>; }",
        "mod inner { pub use std::path::*; } pub fn place<'a>() -> &'a inner::Path { todo!() }",
        "pub struct Kept; impl AsRef<std::path::Path> for Kept { fn as_ref(&self) -> &std::path::Path { todo!() } }",
        "pub fn open() -> std::io::Result<std::fs::File> { todo!() }",
        "pub fn each(f: impl Fn(&std::path::Path)) {}",
    ];
    for form in forms {
        let found = paths_given(&small(&[("forebay_storage::local", form)]), &[STORAGE]);
        assert!(!found.is_empty(), "{form}");
    }
    let fine =
        "use std::path::PathBuf; pub fn open(at: &std::path::Path) {} pub(crate) fn place() -> PathBuf { todo!() }
        pub struct Root { at: PathBuf } pub trait Storage { fn copy(&self, to: &std::path::Path); }";
    assert!(paths_given(&small(&[("forebay_storage::local", fine)]), &[STORAGE]).is_empty());

    for cli in [
        "use forebay_storage::local::LocalStorage;",
        "use crate::server::bytes;",
        "use crate::server::*;",
        "fn x(s: forebay_storage::local::LocalStorage) {}",
    ] {
        let server = ("forebay::server", "pub use forebay_storage::local as bytes;");
        let found = names_a_place(&small(&[server, ("forebay::cli", cli)]));
        assert!(found.iter().all(|one| one.starts_with("forebay::cli")) && !found.is_empty(), "{cli}: {found:?}");
    }
    for said in [
        "Path::new(\"spool\")",
        "data.join(\"journal/packs\")",
        "format!(\"{}/spool/{id}\", data)",
        "getxattr(file, \"user.forebay\")",
    ] {
        let found = spells_a_place(&small(&[("forebay::operate", &format!("fn x() {{ {said} }}"))]));
        assert_eq!(found.len(), 1, "{said}");
    }
    let fine = "/// The spool/ of it.\nfn x() { warn!(\"the spool is full\"); y(\"a.tmp\") }";
    assert!(spells_a_place(&small(&[("forebay::operate", fine)])).is_empty());
}
