//! The directory of accounts.
//!
//! # Guarantees
//! A change is on stable storage when its method returns, and is seen by every process at its next look: a look costs
//! one `stat`. Two names that differ in case alone are one file. Changes of two processes do not lose each other: each
//! holds a lock on the directory from its read to its rename.
//!
//! # After a crash
//! A file is either as before the change or as after it (`durable_file`). What a crash leaves aside is removed by the next
//! change of the same account, and at the next open when it is a day old.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, OFlags};

use super::{Account, PartnerName, PartnersError, former};
use crate::durable_file;

/// No account is near this size.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The time for which a temporary file left by a crash is kept.
const KEEP_ASIDE: Duration = Duration::from_secs(24 * 60 * 60);

/// All accounts, and what is wrong with files that are none.
#[derive(Debug)]
pub struct Listing {
    /// In order of their names.
    pub accounts: Vec<Account>,
    /// One for each file that cannot be read as an account.
    pub faults: Vec<PartnersError>,
}

/// A fingerprint that tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The directory of accounts.
#[derive(Debug)]
pub(super) struct Accounts {
    directory: PathBuf,
    read: Mutex<HashMap<String, (Stamp, Arc<Account>)>>,
}

impl Accounts {
    /// Opens the directory, and makes it when it is missing.
    pub(super) fn open(directory: &Path, now: DateTime<Utc>) -> Result<Self, PartnersError> {
        let accounts = Self { directory: directory.to_owned(), read: Mutex::new(HashMap::new()) };
        accounts.make_directory()?;
        accounts.sweep(now)?;
        Ok(accounts)
    }

    /// All accounts of a directory, which is left as it is.
    pub(super) fn look(directory: &Path) -> Result<Listing, PartnersError> {
        Self { directory: directory.to_owned(), read: Mutex::default() }.list()
    }

    fn make_directory(&self) -> Result<(), PartnersError> {
        use std::os::unix::fs::DirBuilderExt;
        match std::fs::DirBuilder::new().mode(0o700).create(&self.directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => return Err(failed("make", &self.directory)(error)),
        }
        Ok(durable_file::sync_directory(durable_file::directory_of(&self.directory))?)
    }

    /// Removes what crashes left aside. Young ones may be another process's change in progress.
    fn sweep(&self, now: DateTime<Utc>) -> Result<(), PartnersError> {
        for entry in self.entries()? {
            let path = entry.path();
            let aside = entry.file_name().to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(".tmp"));
            let Ok(metadata) = entry.metadata() else { continue };
            if aside && metadata.is_file() && now.timestamp() - metadata.mtime() > KEEP_ASIDE.as_secs() as i64 {
                std::fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    fn entries(&self) -> Result<Vec<std::fs::DirEntry>, PartnersError> {
        let read = std::fs::read_dir(&self.directory).map_err(failed("read", &self.directory))?;
        read.collect::<io::Result<_>>().map_err(failed("read", &self.directory))
    }

    fn path(&self, folded: &str) -> PathBuf {
        self.directory.join(format!("{folded}.json"))
    }

    /// The account of `name` as it is now.
    pub(super) fn get(&self, name: &PartnerName) -> Result<Option<Arc<Account>>, PartnersError> {
        let folded = name.folded();
        let path = self.path(&folded);
        // Not followed: a link is no account, and `load` says so.
        let stamp = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => Stamp::of(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.read.lock().remove(&folded);
                return Ok(None);
            }
            Err(error) => return Err(failed("look at", &path)(error)),
        };
        if let Some((seen, account)) = self.read.lock().get(&folded)
            && *seen == stamp
        {
            return Ok(Some(Arc::clone(account)));
        }
        let (stamp, account) = self.load(&path, &folded)?;
        let account = Arc::new(account);
        self.read.lock().insert(folded, (stamp, Arc::clone(&account)));
        Ok(Some(account))
    }

    fn load(&self, path: &Path, folded: &str) -> Result<(Stamp, Account), PartnersError> {
        let damaged = |what: &str| PartnersError::Damaged { path: path.to_owned(), what: what.to_owned() };
        // Without NOFOLLOW a link could point anywhere; without NONBLOCK a named pipe would hold us for ever.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
        let file = match File::options().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                return Err(damaged("is a symbolic link"));
            }
            Err(error) => return Err(failed("open", path)(error)),
        };
        let metadata = file.metadata().map_err(failed("look at", path))?;
        if !metadata.is_file() {
            return Err(damaged("is no regular file"));
        }
        if metadata.len() > MAX_FILE_BYTES {
            return Err(damaged("is too large to be an account"));
        }
        let mut json = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut json).map_err(failed("read", path))?;
        let account = Account::from_json(&json).map_err(|what| damaged(&what))?;
        // A file that was copied by hand would let one partner in as another.
        if account.name.folded() != folded {
            return Err(damaged("holds the account of another name"));
        }
        Ok((Stamp::of(&metadata), account))
    }

    /// How many there are; those that cannot be read count too.
    pub(super) fn count(&self) -> u64 {
        let is_account = |entry: &std::fs::DirEntry| {
            entry.file_name().to_str().is_some_and(|name| name.ends_with(".json") && !name.starts_with('.'))
        };
        self.entries().map_or(0, |entries| entries.iter().filter(|entry| is_account(entry)).count() as u64)
    }

    pub(super) fn list(&self) -> Result<Listing, PartnersError> {
        let mut listing = Listing { accounts: Vec::new(), faults: Vec::new() };
        for entry in self.entries()? {
            let name = entry.file_name();
            let Some(folded) = name.to_str().and_then(|name| name.strip_suffix(".json")) else { continue };
            if folded.starts_with('.') {
                continue;
            }
            match self.load(&entry.path(), folded) {
                Ok((_, account)) => listing.accounts.push(account),
                // Removed since the directory was read.
                Err(PartnersError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(fault) => listing.faults.push(fault),
            }
        }
        listing.accounts.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(listing)
    }

    /// Adds an account; an existing file of that name is never touched, whatever it holds.
    pub(super) fn add(&self, account: &Account) -> Result<(), PartnersError> {
        let _lock = self.lock()?;
        let path = self.path(&account.name.folded());
        // Never over a file that is there, not even one that cannot be read.
        durable_file::create(&path, &json_of(account, &path)?).map_err(|error| match error.source.kind() {
            io::ErrorKind::AlreadyExists => PartnersError::Exists(account.name.clone()),
            _ => error.into(),
        })
    }

    /// Changes an account in place of the old one, and gives it as it is now.
    pub(super) fn change(
        &self,
        name: &PartnerName,
        change: impl FnOnce(&mut Account) -> Result<(), PartnersError>,
    ) -> Result<Account, PartnersError> {
        let _lock = self.lock()?;
        let folded = name.folded();
        let path = self.path(&folded);
        // Read under the lock: what another process has changed since is not lost.
        let (_, mut account) = self.load(&path, &folded).map_err(|error| unknown(error, name))?;
        change(&mut account)?;
        durable_file::replace(&path, &json_of(&account, &path)?)?;
        // The stamp would tell as well; two changes within one tick of the clock might not.
        self.read.lock().remove(&folded);
        Ok(account)
    }

    /// Removes an account, also one that cannot be read. Its name rests.
    pub(super) fn remove(&self, name: &PartnerName, now: DateTime<Utc>) -> Result<(), PartnersError> {
        let _lock = self.lock()?;
        let folded = name.folded();
        let path = self.path(&folded);
        if !path.symlink_metadata().is_ok_and(|meta| !meta.is_dir()) {
            return Err(PartnersError::Unknown(name.clone()));
        }
        // Before the account goes: no crash leaves its name free.
        self.write_former(name, now)?;
        std::fs::remove_file(&path).map_err(|error| unknown(failed("remove", &path)(error), name))?;
        Ok(durable_file::sync_directory(&self.directory)?)
    }

    /// A removed partner is gone only now.
    pub(super) fn note_removed(&self, name: &PartnerName, now: DateTime<Utc>) -> Result<(), PartnersError> {
        let _lock = self.lock()?;
        self.write_former(name, now)
    }

    fn write_former(&self, name: &PartnerName, now: DateTime<Utc>) -> Result<(), PartnersError> {
        let folded = name.folded();
        let path = former::path(&self.directory, &folded);
        let json = former::json(name, now).map_err(|error| failed("write", &path)(error.into()))?;
        Ok(durable_file::replace(&path, &json)?)
    }

    /// When the last partner of this name was removed, if there was one.
    pub(super) fn removed_at(&self, name: &PartnerName) -> Option<DateTime<Utc>> {
        former::removed_at(&self.directory, &name.folded())
    }

    /// One change at a time, over all processes. Given back when the file is closed.
    fn lock(&self) -> Result<File, PartnersError> {
        let directory = File::open(&self.directory).map_err(failed("open", &self.directory))?;
        rustix::fs::flock(&directory, FlockOperation::LockExclusive)
            .map_err(|error| failed("lock", &self.directory)(error.into()))?;
        Ok(directory)
    }
}

fn json_of(account: &Account, path: &Path) -> Result<Vec<u8>, PartnersError> {
    account.to_json().map_err(|error| failed("write", path)(error.into()))
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> PartnersError + 'a {
    move |source| PartnersError::Io { what, path: path.to_owned(), source }
}

fn unknown(error: PartnersError, name: &PartnerName) -> PartnersError {
    match error {
        PartnersError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            PartnersError::Unknown(name.clone())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::credentials::Hash;

    const AT: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn account(name: &str) -> Account {
        let hash = Hash::of("secret").unwrap();
        Account {
            name: name.parse().unwrap(),
            enabled: true,
            created_at: AT,
            changed_at: AT,
            note: String::new(),
            keys: Vec::new(),
            tokens: Vec::new(),
            data_habit: None,
            hash,
        }
    }

    fn opened() -> (tempfile::TempDir, Accounts) {
        let root = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(&root.path().join("partners"), AT).unwrap();
        (root, accounts)
    }

    fn fault(accounts: &Accounts, name: &str) -> String {
        accounts.get(&name.parse().unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn names_that_differ_in_case_alone_are_one() {
        let (_root, accounts) = opened();
        accounts.add(&account("Demo")).unwrap();
        assert!(matches!(accounts.add(&account("dEMO")), Err(PartnersError::Exists(_))));
        assert_eq!(accounts.get(&"DEMO".parse().unwrap()).unwrap().unwrap().name.as_str(), "Demo");
        accounts.remove(&"demo".parse().unwrap(), AT).unwrap();
        assert!(accounts.get(&"Demo".parse().unwrap()).unwrap().is_none());
        assert!(matches!(accounts.remove(&"demo".parse().unwrap(), AT), Err(PartnersError::Unknown(_))));
    }

    #[test]
    fn another_process_s_change_is_seen_at_once() {
        let (root, accounts) = opened();
        let other = Accounts::open(&root.path().join("partners"), AT).unwrap();
        let name: PartnerName = "demo".parse().unwrap();
        assert!(accounts.get(&name).unwrap().is_none());
        other.add(&account("demo")).unwrap();
        assert!(accounts.get(&name).unwrap().unwrap().enabled);
        for enabled in [false, true, false] {
            other
                .change(&name, |account| {
                    account.enabled = enabled;
                    Ok(())
                })
                .unwrap();
            assert_eq!(accounts.get(&name).unwrap().unwrap().enabled, enabled);
        }
        other.remove(&name, AT).unwrap();
        assert!(accounts.get(&name).unwrap().is_none());
    }

    #[test]
    fn changes_at_the_same_time_do_not_lose_each_other() {
        let (root, accounts) = opened();
        accounts.add(&account("demo")).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let own = Accounts::open(&root.path().join("partners"), AT).unwrap();
                    for _ in 0..10 {
                        own.change(&"demo".parse().unwrap(), |account| {
                            account.note.push('x');
                            Ok(())
                        })
                        .unwrap();
                    }
                });
            }
        });
        assert_eq!(accounts.get(&"demo".parse().unwrap()).unwrap().unwrap().note.len(), 40);
    }

    #[test]
    fn a_crash_before_the_rename_leaves_the_old_account() {
        let (root, accounts) = opened();
        let directory = root.path().join("partners");
        accounts.add(&account("demo")).unwrap();
        let mut changed = account("demo");
        changed.enabled = false;
        // What a crash leaves: the new form aside, whole or torn, and no rename.
        let aside = directory.join(".demo.json.tmp");
        std::fs::write(&aside, changed.to_json().unwrap()).unwrap();
        let torn = directory.join(".demo.torn.tmp");
        std::fs::write(&torn, "{\"vers").unwrap();

        let after = Accounts::open(&directory, AT).unwrap();
        assert!(after.get(&"demo".parse().unwrap()).unwrap().unwrap().enabled);
        let listing = after.list().unwrap();
        assert_eq!((listing.accounts.len(), listing.faults.len()), (1, 0));
        after
            .change(&"demo".parse().unwrap(), |account| {
                account.enabled = false;
                Ok(())
            })
            .unwrap();

        assert!(!aside.exists() && torn.exists(), "that of another may be a change in progress");
        std::fs::write(&aside, "{").unwrap();
        let written = chrono::DateTime::<Utc>::from(std::fs::metadata(&aside).unwrap().modified().unwrap());
        Accounts::open(&directory, written + KEEP_ASIDE + Duration::from_secs(5)).unwrap();
        assert!(!aside.exists() && !torn.exists());
        assert!(!after.get(&"demo".parse().unwrap()).unwrap().unwrap().enabled);
    }

    #[test]
    fn nobody_else_may_read_them() {
        let (root, accounts) = opened();
        accounts.add(&account("demo")).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&root.path().join("partners")), 0o700);
        assert_eq!(mode(&accounts.path("demo")), 0o600);
    }

    #[test]
    fn hostile_files_get_clear_errors() {
        let (root, accounts) = opened();
        accounts.add(&account("real")).unwrap();
        let real = std::fs::read_to_string(accounts.path("real")).unwrap();
        std::fs::write(accounts.path("empty"), "").unwrap();
        std::fs::write(accounts.path("words"), "password = \"secret\"").unwrap();
        std::fs::write(accounts.path("huge"), vec![b' '; 70_000]).unwrap();
        File::create(accounts.path("sparse")).unwrap().set_len(1 << 40).unwrap();
        std::fs::write(accounts.path("newer"), real.replace("\"version\": 1", "\"version\": 9")).unwrap();
        std::fs::write(accounts.path("keys"), real.replace("\"note\"", "\"nota\"")).unwrap();
        std::fs::write(accounts.path("hash"), real.replace("argon2id", "argon2i")).unwrap();
        std::fs::write(accounts.path("another"), &real).unwrap();
        std::fs::create_dir(accounts.path("folder")).unwrap();
        symlink(accounts.path("real"), accounts.path("link")).unwrap();
        symlink("/nowhere", accounts.path("dangling")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, accounts.path("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        for (name, why) in [
            ("empty", "is no account"),
            ("words", "is no account"),
            ("huge", "too large"),
            ("sparse", "too large"),
            ("newer", "has version 9"),
            ("keys", "is no account"),
            ("hash", "not argon2id"),
            ("another", "of another name"),
            ("folder", "is no regular file"),
            ("link", "is a symbolic link"),
            ("dangling", "is a symbolic link"),
            ("pipe", "is no regular file"),
        ] {
            let told = fault(&accounts, name);
            assert!(told.contains(why), "{name}: {told}");
            assert!(told.contains(&format!("{name}.json")) && !told.contains("secret"), "{told}");
        }
        let listing = accounts.list().unwrap();
        assert_eq!((listing.accounts.len(), listing.faults.len()), (1, 12));
        assert!(matches!(accounts.add(&account("huge")), Err(PartnersError::Exists(_))), "nothing is overwritten");
        accounts.remove(&"huge".parse().unwrap(), AT).unwrap();
        accounts.add(&account("huge")).unwrap();
        drop(root);
    }
}
