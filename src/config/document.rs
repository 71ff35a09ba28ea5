//! A TOML file that is read section by section, so that every fault is found and named with key and line.
//!
//! Serde stops at the first fault of a struct. Where a section does not read as a whole, each of its keys is therefore
//! tried alone; what reads is kept, so that its values can be validated too.

use std::{collections::BTreeSet, ops::Range, path::PathBuf};

use serde::de::DeserializeOwned;
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::{fault::Fault, retired::RETIRED};

/// A TOML file and what was found wrong with it so far.
/// Sections are asked for by name; what nobody has asked for at [`Document::finish`] is an unknown
/// key. Faults carry the line, found by the key's path in the text.
#[derive(Debug)]
pub(super) struct Document {
    file: PathBuf,
    text: String,
    table: Table,
    toml: bool,
    known: BTreeSet<String>,
    /// The faults that were found.
    pub(super) faults: Vec<Fault>,
    /// Keys that went, which are no faults.
    pub(super) warnings: Vec<Fault>,
}

impl Document {
    /// Reads the text; what is no TOML becomes faults, and the rest is still read.
    #[must_use]
    pub(super) fn parse(file: PathBuf, text: String) -> Self {
        let mut document = Self {
            file,
            text,
            table: Table::new(),
            toml: true,
            known: BTreeSet::new(),
            faults: Vec::new(),
            warnings: Vec::new(),
        };
        match document.text.parse::<Table>() {
            Ok(table) => document.table = table,
            Err(_) => {
                document.toml = false;
                let (_, errors) = DeTable::parse_recoverable(&document.text);
                let faults: Vec<_> = errors.iter().map(|e| (e.span(), e.message().trim().to_owned())).collect();
                for (span, what) in faults {
                    let line = span.map(|span| document.line_of(span));
                    document.faults.push(Fault { file: document.file.clone(), line, key: String::new(), what });
                }
            }
        }
        document.faults.sort_by_key(|fault| fault.line.unwrap_or(0));
        // Before any section is read: `deny_unknown_fields` would call a retired key a fault.
        document.take_out_retired();
        document
    }

    /// Takes keys that went out of the table, and notes a warning for each.
    /// For single sections as for lists of them.
    fn take_out_retired(&mut self) {
        for retired in &RETIRED {
            let mut found = Vec::new();
            match self.table.get_mut(retired.section) {
                Some(Value::Table(section)) => {
                    found.extend(section.remove(retired.key).map(|_| format!("{}.{}", retired.section, retired.key)));
                }
                Some(Value::Array(sections)) => {
                    for (at, section) in sections.iter_mut().enumerate() {
                        if section.as_table_mut().is_some_and(|section| section.remove(retired.key).is_some()) {
                            found.push(format!("{}[{at}].{}", retired.section, retired.key));
                        }
                    }
                }
                _ => {}
            }
            for key in found {
                let (file, line, what) = (self.file.clone(), self.locate(&key), retired.instead.to_owned());
                self.warnings.push(Fault { file, line, key, what });
            }
        }
    }

    /// Notes a fault of a key.
    /// Its line is looked up at once: the path counts the sections of the file.
    pub(super) fn fault(&mut self, key: impl Into<String>, what: impl Into<String>) {
        let key = key.into();
        let line = self.locate(&key);
        self.faults.push(Fault { file: self.file.clone(), line, key, what: what.into() });
    }

    /// Returns true if the text is TOML; an empty one is.
    #[must_use]
    pub(super) fn is_toml(&self) -> bool {
        self.toml
    }

    /// Notes what is no fault of a key, and probably not what is wanted.
    pub(super) fn warn(&mut self, key: impl Into<String>, what: impl Into<String>) {
        let key = key.into();
        let line = self.locate(&key);
        self.warnings.push(Fault { file: self.file.clone(), line, key, what: what.into() });
    }

    /// Returns true if the file has this top-level key, whether it reads or not.
    #[must_use]
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The value of a top-level key, if it is there and reads.
    pub(super) fn value<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        self.known.insert(key.to_owned());
        let value = self.table.get(key)?.clone();
        match T::deserialize(value) {
            Ok(read) => Some(read),
            Err(error) => {
                self.fault(key, sentence(error.message()));
                None
            }
        }
    }

    /// The section `[key]`, or its default where it is missing or does not read.
    pub(super) fn section<T: DeserializeOwned + Default>(&mut self, key: &str) -> T {
        self.known.insert(key.to_owned());
        match self.table.get(key).cloned() {
            None => T::default(),
            Some(Value::Table(table)) => self.read(key, table, &[]).unwrap_or_default(),
            Some(_) => {
                self.fault(key, format!("is a section: write [{key}]"));
                T::default()
            }
        }
    }

    /// The sections `[[key]]` that read, and where among all of them each stood; `required` are the keys that each
    /// must have.
    pub(super) fn sections<T: DeserializeOwned>(&mut self, key: &str, required: &[&str]) -> (Vec<T>, Vec<usize>) {
        self.known.insert(key.to_owned());
        let tables = match self.table.get(key).cloned() {
            None => return (Vec::new(), Vec::new()),
            Some(Value::Array(values)) => values,
            Some(_) => {
                self.fault(key, format!("is a list of sections: write [[{key}]]"));
                return (Vec::new(), Vec::new());
            }
        };
        let (mut read, mut places) = (Vec::new(), Vec::new());
        for (index, value) in tables.into_iter().enumerate() {
            let path = format!("{key}[{index}]");
            match value {
                Value::Table(table) => {
                    if let Some(section) = self.read(&path, table, required) {
                        read.push(section);
                        places.push(index);
                    }
                }
                _ => self.fault(path, format!("is a section: write [[{key}]]")),
            }
        }
        (read, places)
    }

    /// Notes every top-level key that nothing asked for.
    pub(super) fn finish(&mut self) {
        let unknown: Vec<_> = self.table.keys().filter(|key| !self.known.contains(*key)).cloned().collect();
        let known = self.known.iter().cloned().collect::<Vec<_>>().join(", ");
        for key in unknown {
            self.fault(key, format!("unknown key; there are {known}"));
        }
        self.faults.sort_by_key(|fault| fault.line.unwrap_or(0));
    }

    /// A section key by key where it does not read whole: each key is added to those that read so
    /// far, and kept if the whole still reads.
    fn read<T: DeserializeOwned>(&mut self, path: &str, table: Table, required: &[&str]) -> Option<T> {
        let read = |table: &Table| T::deserialize(Value::Table(table.clone())).map_err(|e| e.message().to_owned());
        // The usual way, without the trials below.
        if let Ok(whole) = read(&table) {
            return Some(whole);
        }
        let mut kept = Table::new();
        for key in required {
            if let Some(value) = table.get(*key) {
                kept.insert((*key).to_owned(), value.clone());
            }
        }
        let given = kept.clone();
        for key in required.iter().filter(|key| !given.contains_key(**key)) {
            self.fault(path, format!("\"{key}\" is missing"));
        }
        if given.len() < required.len() {
            // Its other keys are still checked, with a placeholder for the missing one.
            kept.extend(required.iter().filter(|key| !given.contains_key(**key)).map(|key| stand_in(key)));
        }
        for (key, value) in &table {
            let mut trial = kept.clone();
            trial.insert(key.clone(), value.clone());
            match read(&trial) {
                Ok(_) => kept = trial,
                Err(what) => {
                    self.narrow(&format!("{path}.{key}"), key, value, &kept, &what, &read);
                    if required.contains(&key.as_str()) {
                        kept.extend([stand_in(key)]);
                    }
                }
            }
        }
        if given.len() < required.len() { None } else { read(&kept).ok() }
    }

    /// A fault of `key`; where its value is a table, of the keys within that do not read.
    /// So that `limits.max_connections` is named and not `limits`.
    fn narrow<T>(
        &mut self,
        path: &str,
        key: &str,
        value: &Value,
        kept: &Table,
        what: &str,
        read: &impl Fn(&Table) -> Result<T, String>,
    ) {
        let mut found = false;
        if let Value::Table(inner) = value {
            for (name, value) in inner {
                let mut trial = kept.clone();
                trial.insert(key.to_owned(), Value::Table(Table::from_iter([(name.clone(), value.clone())])));
                if let Err(what) = read(&trial) {
                    self.fault(format!("{path}.{name}"), sentence(&what));
                    found = true;
                }
            }
        }
        if !found {
            self.fault(path, sentence(what));
        }
    }

    /// The line of the deepest part of the key's path that the file has.
    fn locate(&self, path: &str) -> Option<usize> {
        let (root, _) = DeTable::parse_recoverable(&self.text);
        let mut span = None;
        let mut here = DeValue::Table(root.into_inner());
        for step in steps(path) {
            let next = match (&here, step) {
                (DeValue::Table(table), Step::Key(name)) => {
                    let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref().as_ref() == name) else {
                        break;
                    };
                    // An array of tables has no line of its own; its elements have.
                    span = Some(key.span());
                    value.get_ref().clone()
                }
                (DeValue::Array(array), Step::Index(index)) => {
                    let Some(value) = array.get(index) else { break };
                    span = Some(value.span());
                    value.get_ref().clone()
                }
                _ => break,
            };
            here = next;
        }
        span.map(|span| self.line_of(span))
    }

    fn line_of(&self, span: Range<usize>) -> usize {
        let end = span.start.min(self.text.len());
        1 + self.text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count()
    }
}

/// A text that required keys of any section read: names and paths.
fn stand_in(key: &str) -> (String, Value) {
    (key.to_owned(), Value::String("missing".to_owned()))
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// `route[0].paths[1]` is `route`, 0, `paths`, 1.
fn steps(path: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let mut pieces = part.split('[');
        steps.extend(pieces.next().filter(|name| !name.is_empty()).map(Step::Key));
        steps.extend(pieces.filter_map(|piece| piece.trim_end_matches(']').parse().ok()).map(Step::Index));
    }
    steps
}

/// Rewords a message of serde for operators.
fn sentence(what: &str) -> String {
    let what = what.trim();
    if let Some(rest) = what.strip_prefix("unknown field ") {
        let known = rest.split_once("expected ").map_or("", |(_, known)| known);
        let known = known.trim_start_matches("one of ").replace('`', "");
        return format!("unknown key; there are {known}");
    }
    what.replace('`', "\"")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Door {
        listen: String,
        limit: u32,
        inner: Inner,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        first: u32,
        second: u32,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Route {
        name: String,
        #[serde(default)]
        slots: u32,
    }

    fn lines(document: &Document) -> Vec<(Option<usize>, &str)> {
        document.faults.iter().map(|fault| (fault.line, fault.key.as_str())).collect()
    }

    #[test]
    fn every_fault_is_found_with_key_and_line() {
        let text = "data = 5\nfoo = 1\n[ftp]\nlisten = 1\nlimit = 7\nlisen = \"x\"\n[ftp.inner]\nfirst = \"a\"\nthird = 3\n\
                    [[route]]\nname = \"a\"\n[[route]]\nslots = \"x\"\n[[route]]\nname = \"c\"\nslots = -1\n";
        let mut document = Document::parse("forebay.toml".into(), text.into());
        assert_eq!(document.value::<String>("data"), None);
        let door: Door = document.section("ftp");
        assert_eq!(door.limit, 7, "what reads is kept");
        let (routes, places): (Vec<Route>, _) = document.sections("route", &["name"]);
        assert_eq!((routes.len(), places), (2, vec![0, 2]));
        document.finish();
        assert_eq!(
            lines(&document),
            [
                (Some(1), "data"),
                (Some(2), "foo"),
                (Some(4), "ftp.listen"),
                (Some(6), "ftp.lisen"),
                (Some(8), "ftp.inner.first"),
                (Some(9), "ftp.inner.third"),
                (Some(12), "route[1]"),
                (Some(13), "route[1].slots"),
                (Some(16), "route[2].slots"),
            ]
        );
        assert!(document.faults[3].what.starts_with("unknown key; there are listen, limit, inner"));
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_lines() {
        let document = Document::parse("forebay.toml".into(), "a = \nb = 1\nc = [\n".into());
        assert_eq!(document.faults.first().and_then(|fault| fault.line), Some(1), "{:?}", document.faults);
    }
}
