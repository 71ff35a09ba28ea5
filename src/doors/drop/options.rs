//! One `[[drop]]` of the configuration.
//!
//! `validate` judges the text alone, with paths made absolute before; `look` asks the machine, for
//! `forebay check`. A folder that is not there is a fault of the check and none of the start:
//! another machine may mount it later.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{partners::PartnerName, units};

/// A folder that another server writes to, and whose files these are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder.
    pub directory: PathBuf,
    /// The partner whose files they are.
    pub partner: PartnerName,
    /// The sign that a file is whole.
    #[serde(default)]
    pub accept: Accept,
    /// `settled`: how long size and times must have stood still.
    #[serde(default = "default_settle", with = "units::duration")]
    pub settle: Duration,
    /// `marker`: what the marker's name has behind the file's name.
    #[serde(default = "default_marker")]
    pub marker: String,
    /// The fate of a file that was taken.
    #[serde(default)]
    pub after: After,
    /// `move`: where to; on the same file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub move_to: Option<PathBuf>,
    /// Files in subfolders are taken too.
    #[serde(default)]
    pub subfolders: bool,
    /// The interval at which everything in it is looked at, whatever the system tells of changes.
    #[serde(default = "default_sweep", with = "units::duration")]
    pub sweep: Duration,
    /// Most files of this folder that are copied at once.
    #[serde(default = "default_at_once")]
    pub at_once: usize,
}

/// The sign that a file is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accept {
    /// It was renamed to the name that it has.
    #[default]
    Rename,
    /// A marker file stands beside it that is no older than its last byte.
    Marker,
    /// Size and times have stood still for a while.
    Settled,
}

/// The fate of a file that was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum After {
    /// It is deleted.
    #[default]
    Delete,
    /// It is moved to another directory.
    Move,
}

/// A longer path does not fit beside the name into what a spooled file says of itself.
const MOST_PATH_BYTES: usize = 512;

impl Options {
    /// Every fault of all folders, each with its key. Paths are absolute; nothing but their names is looked at.
    #[must_use]
    pub fn validate(all: &[Self], data: &Path) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        for (at, one) in all.iter().enumerate() {
            let mut say = |key: &str, what: String| faults.push((format!("drop[{at}].{key}"), what));
            one.own_faults(data, &mut say);
            for (other_at, other) in all.iter().enumerate() {
                // Each pair both ways round: one may lie in the other, or move into it.
                one.faults_beside(other, other_at, at, &mut say);
            }
        }
        faults
    }

    /// Faults of one folder by itself.
    fn own_faults(&self, data: &Path, say: &mut impl FnMut(&str, String)) {
        let length = self.directory.as_os_str().len();
        if length > MOST_PATH_BYTES || self.directory.to_str().is_none() {
            say("directory", format!("must be UTF-8 of at most {MOST_PATH_BYTES} bytes"));
        }
        let (directory, data) = (plain(&self.directory), plain(data));
        // Files of the server's own would be taken and removed.
        if directory.starts_with(&data) {
            say("directory", "is in the data directory: nothing but Forebay writes there".to_owned());
        } else if data.starts_with(&directory) && self.subfolders {
            say("directory", "holds the data directory, and its subfolders are taken too".to_owned());
        }
        if self.accept == Accept::Settled && self.settle < Duration::from_secs(1) {
            say("settle", "must be at least 1s".to_owned());
        }
        if self.accept == Accept::Marker
            && (self.marker.is_empty() || self.marker.contains('/') || self.marker.len() > 64)
        {
            say("marker", "is what a marker's name has behind the file's name, such as \".done\"".to_owned());
        }
        // What the system does not tell is found by the sweep alone, so it must come.
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&self.sweep) {
            say("sweep", "must lie between 1s and 1h".to_owned());
        }
        if !(1..=64).contains(&self.at_once) {
            say("at_once", "must be 1 to 64".to_owned());
        }
        match (self.after, &self.move_to) {
            (After::Move, None) => say("move_to", "is missing: after = \"move\" needs to know where to".to_owned()),
            (After::Delete, Some(_)) => say("move_to", "is for after = \"move\" alone".to_owned()),
            (After::Move, Some(to)) if plain(to).starts_with(&data) => {
                say("move_to", "is in the data directory".to_owned());
            }
            _ => {}
        }
    }

    /// Faults of one folder beside another.
    fn faults_beside(&self, other: &Self, other_at: usize, at: usize, say: &mut impl FnMut(&str, String)) {
        let (own, others) = (plain(&self.directory), plain(&other.directory));
        // Said once, at the second of them.
        if other_at < at && own == others {
            say("directory", format!("is drop[{other_at}]'s already"));
        } else if other_at != at && other.subfolders && own.starts_with(&others) {
            say("directory", format!("is a subfolder of drop[{other_at}]'s, which takes those too"));
        }
        if let Some(to) = self.move_to.as_deref().map(plain) {
            // For ever: each round would accept all of them again.
            if to == others {
                say("move_to", format!("is the folder of drop[{other_at}]: what is moved there would come in again"));
            } else if other.subfolders && to.starts_with(&others) {
                say("move_to", format!("is in the folder of drop[{other_at}], which takes subfolders too"));
            }
        }
    }

    /// The faults on this machine now. The folder may be there later, so the server starts all the same.
    #[must_use]
    pub fn look(all: &[Self], partners: &Path) -> Vec<(String, String)> {
        use std::os::unix::fs::MetadataExt;
        let mut faults = Vec::new();
        let mut real = BTreeSet::new();
        for (at, one) in all.iter().enumerate() {
            let mut say = |key: &str, what: String| faults.push((format!("drop[{at}].{key}"), what));
            let directory = match fs::metadata(&one.directory) {
                Ok(there) if there.is_dir() => Some(there),
                Ok(_) => {
                    say("directory", format!("{} is no directory", one.directory.display()));
                    None
                }
                Err(error) => {
                    say("directory", format!("{} cannot be read: {error}", one.directory.display()));
                    None
                }
            };
            // By device and inode: links and mounts give one folder several names.
            if directory.as_ref().is_some_and(|there| !real.insert((there.dev(), there.ino()))) {
                say("directory", "is another [[drop]]'s under another name".to_owned());
            }
            if let Some(to) = &one.move_to {
                match (fs::metadata(to), &directory) {
                    // A move across file systems is a copy, which can be seen half done.
                    (Ok(there), Some(directory)) if there.is_dir() && there.dev() != directory.dev() => {
                        say("move_to", "is on another file system than directory".to_owned());
                    }
                    (Ok(there), _) if there.is_dir() => {}
                    (Ok(_), _) => say("move_to", format!("{} is no directory", to.display())),
                    (Err(error), _) => say("move_to", format!("{} cannot be read: {error}", to.display())),
                }
            }
            let account = format!("{}.json", one.partner.as_str().to_ascii_lowercase());
            if partners.is_dir() && !partners.join(account).exists() {
                let name = &one.partner;
                say("partner", format!("there is no account {name}: `forebay partner add {name}`"));
            }
        }
        faults
    }
}

/// The path as it is when it can be resolved, or else without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| {
        let mut plain = PathBuf::new();
        for part in path.components() {
            match part {
                Component::CurDir => {}
                // Only where it cannot be resolved: a link before `..` would lead elsewhere.
                Component::ParentDir => drop(plain.pop()),
                part => plain.push(part),
            }
        }
        plain
    })
}

fn default_settle() -> Duration {
    Duration::from_secs(30)
}

fn default_marker() -> String {
    ".done".to_owned()
}

fn default_sweep() -> Duration {
    Duration::from_secs(60)
}

fn default_at_once() -> usize {
    8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        drop: Vec<Options>,
    }

    #[test]
    fn every_fault_is_told_with_its_key() {
        let file: File = toml::from_str(
            r#"
            [[drop]]
            directory = "/srv/in"
            partner = "clinic"
            subfolders = true
            [[drop]]
            directory = "/srv/./in"
            partner = "clinic"
            accept = "marker"
            marker = ""
            [[drop]]
            directory = "/data/spool"
            partner = "clinic"
            accept = "settled"
            settle = "10ms"
            after = "move"
            [[drop]]
            directory = "/srv/other"
            partner = "clinic"
            after = "move"
            move_to = "/srv/in/done"
            at_once = 0
            sweep = "0s"
            "#,
        )
        .unwrap();
        let keys: Vec<_> = Options::validate(&file.drop, Path::new("/data")).into_iter().map(|fault| fault.0).collect();
        let expected = [
            "drop[1].marker",
            "drop[1].directory",
            "drop[2].directory",
            "drop[2].settle",
            "drop[2].move_to",
            "drop[3].sweep",
            "drop[3].at_once",
            "drop[3].move_to",
        ];
        assert_eq!(keys, expected);
        assert!(toml::from_str::<File>("[[drop]]\ndirectory = \"/in\"").is_err(), "whose files are they?");
        assert!(toml::from_str::<File>("[[drop]]\ndirectory = \"/in\"\npartner = \"a\"\nafter = \"keep\"").is_err());
    }
}
