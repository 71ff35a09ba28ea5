//! Programs that reach nothing of the server, by Landlock: `confine = true` of a route.
//!
//! # Guarantees
//! A confined program, and whatever it starts, reads and writes nothing of the data directory but the attempt's own,
//! nor the keys that lie elsewhere, and sees no names there. Beside that it reads what it could read before. It writes
//! nothing but the attempt's directory, what `writable` names, and a few devices. It traces no process of the server,
//! and from Linux 6.12 on signals none. Where the kernel cannot do that, no program of the route is started.
//!
//! Landlock only allows, and what it allows on a directory holds for all that is in it. So it is allowed on all that
//! lies beside the way down to what is hidden, and the directories on that way cannot be listed themselves. Names that
//! come there after a program was started are not there for it.
//!
//! What Landlock does not know: rights and times of files (chmod, utime), which the server's own user may always change.
//! Programs that must not even do that run in a runner.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use rustix::fs::{Mode, OFlags};

/// The least that keeps kept bytes as they are: before Linux 6.2 a confined program could cut files by their name.
const LEAST: ABI = ABI::V3;

/// Devices that programs write to.
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty"];

/// What the programs of a route reach.
#[derive(Clone, Debug)]
pub struct Confinement {
    hidden: Vec<PathBuf>,
    writable: Vec<PathBuf>,
}

/// The confinement of one attempt, made and not yet in force.
pub(super) struct Cage(RulesetCreated);

impl Confinement {
    /// One that hides these directories and files, and lets programs write in those.
    #[must_use]
    pub fn new(hidden: &[PathBuf], writable: &[PathBuf]) -> Self {
        Self { hidden: hidden.to_vec(), writable: writable.to_vec() }
    }

    /// Why this kernel cannot confine programs, if it cannot, with what to do.
    #[must_use]
    pub fn missing() -> Option<String> {
        let error = strict().and_then(Ruleset::create).err()?;
        let next = "use a runner (`forebay runner`), or a kernel from Linux 6.2 on with \"landlock\" in its list of \
                    security modules (lsm=)";
        Some(format!("this kernel cannot confine programs ({error}): {next}"))
    }

    /// The cage of an attempt that has `own` for itself.
    pub(super) fn cage(&self, own: &Path) -> io::Result<Cage> {
        let ruleset = strict().and_then(soft).and_then(Ruleset::create);
        let mut ruleset = ruleset.map_err(io::Error::other)?;
        let mut visible = Vec::new();
        let hidden: Vec<_> = self.hidden.iter().filter_map(|path| real(path)).collect();
        beside(Path::new("/"), &hidden, &mut visible)?;
        for path in visible {
            ruleset = allow(ruleset, &path, read())?;
        }
        for path in DEVICES.iter().map(Path::new) {
            ruleset = allow(ruleset, path, read() | AccessFs::WriteFile)?;
        }
        for path in self.writable.iter().map(PathBuf::as_path).chain([own]) {
            // A path that leads elsewhere by a link is allowed where it leads.
            let path = fs::canonicalize(path).map_err(|error| named(path, &error))?;
            ruleset = allow(ruleset, &path, AccessFs::from_all(LEAST) | AccessFs::ResolveUnix)?;
        }
        Ok(Cage(ruleset))
    }
}

impl Cage {
    /// Starts a program that is confined. This thread stays as it is: what a thread may is inherited by what it starts,
    /// so one is made for that.
    pub(super) fn spawn(self, command: &mut Command) -> io::Result<Child> {
        thread::scope(|scope| {
            let started = scope.spawn(|| {
                let status = self.0.restrict_self().map_err(io::Error::other)?;
                if status.ruleset == RulesetStatus::NotEnforced || !status.no_new_privs {
                    return Err(io::Error::other("the kernel did not confine it"));
                }
                command.spawn()
            });
            started.join().unwrap_or_else(|_| Err(io::Error::other("the thread that starts it panicked")))
        })
    }
}

/// A ruleset with all that must be had.
fn strict() -> Result<Ruleset, RulesetError> {
    Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::from_all(LEAST))
}

/// The same with what newer kernels have.
fn soft(ruleset: Ruleset) -> Result<Ruleset, RulesetError> {
    ruleset.set_compatibility(CompatLevel::BestEffort).handle_access(AccessFs::ResolveUnix)?.scope(Scope::Signal)
}

fn read() -> BitFlags<AccessFs> {
    AccessFs::from_read(LEAST) | AccessFs::ResolveUnix
}

/// Allows access on a path, if it is there and no link. Blocks.
fn allow(ruleset: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> io::Result<RulesetCreated> {
    // Never by a link: it may lead to what is hidden.
    let place = match rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(place) => place,
        Err(rustix::io::Errno::NOENT) => return Ok(ruleset),
        Err(error) => return Err(named(path, &error.into())),
    };
    let place = File::from(place);
    let kind = place.metadata().map_err(|error| named(path, &error))?.file_type();
    let access = match kind {
        kind if kind.is_symlink() => return Ok(ruleset),
        kind if kind.is_dir() => access,
        // Landlock allows nothing else on them.
        _ => access & (AccessFs::from_file(LEAST) | AccessFs::ResolveUnix),
    };
    let rule = PathBeneath::new(place, access).set_compatibility(CompatLevel::BestEffort);
    ruleset.add_rule(rule).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}

/// Collects everything that lies beside the way from `dir` down to what is hidden.
fn beside(dir: &Path, hidden: &[PathBuf], visible: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir).map_err(|error| named(dir, &error))? {
        let path = entry.map_err(|error| named(dir, &error))?.path();
        if hidden.contains(&path) {
            continue;
        }
        match hidden.iter().any(|hidden| hidden.starts_with(&path)) {
            true => beside(&path, hidden, visible)?,
            false => visible.push(path),
        }
    }
    Ok(())
}

/// Where a path leads, as far as it is there.
fn real(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok()
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
