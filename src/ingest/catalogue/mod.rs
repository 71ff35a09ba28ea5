//! What a partner sees: names, folders and times from the catalogue, and `out/` with what it is told.
//!
//! [`Files`] is one partner's view for one session. A name leads to an accepted file or to a folder; no command reaches
//! kept bytes, for every write goes to a new file. `out/` is a folder that is not in the catalogue: its receipts and its
//! notice are rendered when they are read, and what else lies in it is the partner's outbox, a directory that other
//! programs fill.

mod change;
mod limits;
mod listing;
mod out;
mod outbox;
mod read;
mod rename;
mod stat;

use std::sync::Arc;

pub use listing::Listing;
pub use read::OpenFile;
pub use stat::{Kind, Listed, Stat};

pub(super) use limits::{KeptFiles, NameChanges};
pub(super) use out::HiddenNotices;

use super::{Ingest, Name, OUT, Refusal, SessionInfo};

/// A partner's files as a session sees them. Cheap to clone.
#[derive(Clone)]
pub struct Files {
    pub(super) ingest: Arc<Ingest>,
    pub(super) session: SessionInfo,
}

impl Ingest {
    /// The files of this session's partner.
    #[must_use]
    pub fn files(self: &Arc<Self>, session: &SessionInfo) -> Files {
        Files { ingest: Arc::clone(self), session: session.clone() }
    }
}

impl Files {
    fn partner(&self) -> &str {
        self.session.partner.as_str()
    }
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("partner", &self.session.partner).finish_non_exhaustive()
    }
}

/// The part of the view that a path lies in.
#[derive(Debug)]
enum Place {
    /// The login directory itself.
    Root,
    /// `out/` itself.
    Out,
    /// This path within `out/`.
    InOut(String),
    /// A name of the partner's own.
    Own(Name),
}

impl Place {
    /// Takes a path as doors have it: resolved, with or without a leading `/`.
    fn of(path: &str) -> Result<Self, Refusal> {
        if path.split('/').all(|part| part.is_empty() || part == ".") {
            return Ok(Self::Root);
        }
        let name = Name::parse(path)?;
        Ok(match name.as_str().strip_prefix(OUT).map(|rest| rest.strip_prefix('/').ok_or(rest)) {
            Some(Ok(below)) => Self::InOut(below.to_owned()),
            Some(Err("")) => Self::Out,
            _ => Self::Own(name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lie_where_they_look_to() {
        assert!(matches!(Place::of("/"), Ok(Place::Root)));
        assert!(matches!(Place::of(""), Ok(Place::Root)));
        assert!(matches!(Place::of("/out/"), Ok(Place::Out)));
        assert!(matches!(Place::of("/out/a"), Ok(Place::InOut(below)) if below == "a"));
        assert!(matches!(Place::of("/outer"), Ok(Place::Own(name)) if name.as_str() == "outer"));
        assert!(Place::of("/a/../b").is_err());
    }
}
