//! A listing: of a folder, of a file by itself, or of the names in a folder that a glob matches.
//!
//! The catalogue gives it by pages, and each is formatted and sent before the next is read.

use tokio::io::AsyncWriteExt;

use crate::{
    doors::core::PartnerSession,
    ingest::{Listed, Listing, Refusal},
    units::glob::Glob,
};

use super::{download::Sending, listing::Format, paths::looked_at, reply::Reply, wire::Wire};

/// A listing that has begun: its first names are known.
pub(super) struct Listable {
    listing: Listing,
    format: Format,
    first: Vec<Listed>,
    /// Only these names are told.
    glob: Option<Glob>,
    /// Stands before each name that NLST tells, so that the client can ask for it from where it is.
    folder: String,
}

impl Listable {
    /// Begins a listing: what can be refused is refused here, before 150.
    ///
    /// A name that exists is meant before a glob that reads the same. Options of `ls` were taken
    /// out by `Command::parse`.
    ///
    /// # Errors
    /// The reply: 550 for a missing path, 501 for MLSD of a file.
    pub(super) async fn begin(
        partner: &PartnerSession,
        directory: &str,
        given: &str,
        format: Format,
    ) -> Result<Self, Reply> {
        let path = looked_at(directory, given);
        match partner.files.stat(&path).await {
            // RFC 3659, 7.1: a file is for MLST.
            Ok(stat) if stat.is_file() && format == Format::Mlsd => Err(Reply::new(501, "MLSD lists directories")),
            Ok(stat) if stat.is_file() => Self::of(partner, &path, format, None, folder_of(given)).await,
            Ok(_) => Self::of(partner, &path, format, None, "").await,
            // Only where no name reads so: a file that is called "a[1].txt" is that file.
            Err(Refusal::NotFound) => match glob_of(given).filter(|_| format != Format::Mlsd) {
                Some(glob) => Self::matching(partner, directory, given, format, glob).await,
                None => Err(Reply::from(&Refusal::NotFound)),
            },
            Err(refusal) => Err(Reply::from(&refusal)),
        }
    }

    /// The names that match, where there is none that reads like the glob itself. RFC 3659, 7 keeps globs from MLSD
    /// alone; clients that leave `mget` to the server send them with NLST.
    async fn matching(
        partner: &PartnerSession,
        directory: &str,
        given: &str,
        format: Format,
        glob: Glob,
    ) -> Result<Self, Reply> {
        let folder = folder_of(given);
        let path = looked_at(directory, folder);
        match partner.files.stat(&path).await {
            Ok(stat) if stat.is_folder() => Self::of(partner, &path, format, Some(glob), folder).await,
            Ok(_) => Err(Reply::from(&Refusal::NotFound)),
            Err(refusal) => Err(Reply::from(&refusal)),
        }
    }

    async fn of(
        partner: &PartnerSession,
        path: &str,
        format: Format,
        glob: Option<Glob>,
        folder: &str,
    ) -> Result<Self, Reply> {
        let begun = async {
            let mut listing = partner.files.list(path).await?;
            // Read before 150: what fails here is refused, and not cut.
            let first = listing.next().await?.unwrap_or_default();
            Ok(Self { listing, format, first, glob, folder: folder.to_owned() })
        };
        begun.await.map_err(|refusal: Refusal| Reply::from(&refusal))
    }

    /// Sends it page by page: what is in memory does not grow with the folder.
    pub(super) async fn send(mut self, partner: &PartnerSession, wire: &mut Wire) -> Result<u64, Refusal> {
        let mut sending = Sending::new(partner);
        let mut page = Some(std::mem::take(&mut self.first));
        while let Some(names) = page {
            let names = self.told(names);
            if !names.is_empty() {
                sending.send(&self.format.lines(&names, partner.clock.now()), wire).await?;
                // A page at a time reaches the client: a listing of a hundred thousand names shows
                // signs of life.
                sending.step(wire.flush()).await?;
            }
            page = self.listing.next().await?;
        }
        Ok(sending.sent)
    }

    /// The names of a page that are told, as they are told.
    fn told(&self, mut names: Vec<Listed>) -> Vec<Listed> {
        if let Some(glob) = &self.glob {
            names.retain(|one| glob.matches(&one.name));
        }
        if self.format == Format::Nlst && !self.folder.is_empty() {
            names.iter_mut().for_each(|one| one.name.insert_str(0, &self.folder));
        }
        names
    }
}

/// The path up to its last component, with the slash.
fn folder_of(given: &str) -> &str {
    &given[..given.rfind('/').map_or(0, |slash| slash + 1)]
}

/// The last component as a glob, if it is one.
fn glob_of(given: &str) -> Option<Glob> {
    Glob::of_client(&given[folder_of(given).len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_component_is_a_glob() {
        assert_eq!(folder_of("out/*.json"), "out/");
        assert_eq!(folder_of("*.json"), "");
        assert!(glob_of("out/*.json").unwrap().matches("A.JSON"));
        assert!(glob_of("*/a.json").is_none() && glob_of("out/").is_none());
    }
}
