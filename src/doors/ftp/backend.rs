//! The storage backend that libunftp serves: everything it does goes to `ingest`.
//!
//! It stands behind the guard of this door, and as well behind a stock `libunftp::Server` with
//! nothing between. There a file counts as whole when its data connection has ended, for a backend
//! sees no more; with `complete = "confirmed"` it waits for `confirm_after`.
//!
//! # Guarantees
//! - `put` returns Ok, for which libunftp replies 226, only after `ingest` has the file on stable
//!   storage and in the queue.
//! - It has no state. All state belongs to the [`FtpUser`] of the session, so one backend serves
//!   all.
//! - Paths are passed on as text, and `ingest` decides which are names; none reaches a file system.
//!
//! # Errors
//! Each is the refusal of `ingest`, which the user keeps for the guard in its own words
//! (`FtpUser::refused`) and which libunftp gets as the nearest of its own error kinds.

use std::{
    fmt::Debug,
    io::{self, Cursor},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use unftp_core::storage::{ErrorKind, FEATURE_RESTART, FEATURE_SITEMD5, Fileinfo, Result, StorageBackend};

use crate::{
    doors::core::{PartnerSession, words},
    ingest::{Kind, Listing, Refusal, Start, Stat},
};

use super::{
    data_ended::DataEnded,
    digest::{self, Algorithm},
    download::{self, FileReader},
    listing::{Format, FtpMetadata},
    receiving,
    transfer::{Rest, Transfer},
    upload::{self, JudgedUpload, PendingUpload},
    user::FtpUser,
};

/// Names that STAT lists at most: its reply is one piece, and goes over the control connection.
const MOST_IN_STAT: usize = 5_000;

/// A partner's files for libunftp. Has no state: everything belongs to the user.
#[derive(Clone, Copy, Debug, Default)]
pub struct FtpBackend;

type Reader = Box<dyn AsyncRead + Send + Sync + Unpin>;
type Infos = Vec<Fileinfo<PathBuf, FtpMetadata>>;

#[async_trait]
impl StorageBackend<FtpUser> for FtpBackend {
    type Metadata = FtpMetadata;

    fn supported_features(&self) -> u32 {
        FEATURE_RESTART | FEATURE_SITEMD5
    }

    /// For a stock server a name that has a partial is shown with the partial's size, so that a
    /// client's SIZE and APPE (RFC 3659, 4) continue an upload that was cut.
    async fn metadata<P: AsRef<Path> + Send + Debug>(&self, user: &FtpUser, path: P) -> Result<FtpMetadata> {
        let (session, path) = asked(user, path.as_ref())?;
        // A stock server asks here where an upload goes on (SIZE, APPE); the guard has asked `ingest`.
        if user.inner().is_none()
            && let Ok(Some(bytes)) = session.ingest.resumable(&session.info, &path).await
        {
            return Ok(FtpMetadata(Stat::file(bytes, session.clock.now())));
        }
        session.files.stat(&path).await.map(FtpMetadata).map_err(|refusal| user.refused(refusal))
    }

    /// In place of the default, which takes a failed read for the end of the file.
    async fn md5<P: AsRef<Path> + Send + Debug>(&self, user: &FtpUser, path: P) -> Result<String> {
        let (session, path) = asked(user, path.as_ref())?;
        let digest = digest::of(&session.files, &path, Algorithm::Md5).await;
        digest.map(|(hex, _)| hex).map_err(|refusal| user.refused(refusal))
    }

    /// The whole folder in memory, as libunftp wants it. The guard never comes here: it lists by
    /// pages.
    async fn list<P: AsRef<Path> + Send + Debug>(&self, user: &FtpUser, path: P) -> Result<Infos> {
        let (_, mut listing) = listing(user, path.as_ref()).await?;
        let mut infos = Infos::new();
        while let Some(page) = listing.next().await.map_err(|refusal| user.refused(refusal))? {
            // Names alone: libunftp joins nothing, and a client wants them relative.
            infos.extend(
                page.into_iter().map(|one| Fileinfo { path: one.name.into(), metadata: FtpMetadata(one.stat) }),
            );
        }
        Ok(infos)
    }

    async fn list_fmt<P>(&self, user: &FtpUser, path: P) -> Result<Cursor<Vec<u8>>>
    where
        P: AsRef<Path> + Send + Debug,
    {
        lines(user, path.as_ref(), Format::List).await.map(Cursor::new)
    }

    /// For STAT, whose first and last lines are no names (RFC 959, 4.2).
    async fn list_vec<P>(&self, user: &FtpUser, path: P) -> Result<Vec<String>>
    where
        P: AsRef<Path> + Send + Debug,
    {
        let path = path.as_ref();
        let (session, mut listing) = listing(user, path).await?;
        let mut lines = vec![format!("Status of {}:", path.display())];
        while let Some(page) = listing.next().await.map_err(|refusal| user.refused(refusal))? {
            let now = session.clock.now();
            lines.extend(page.iter().map(|one| Format::List.line(one, now)));
            if lines.len() > MOST_IN_STAT {
                return Err(user.refused(Refusal::Denied("too many names for STAT: use LIST".to_owned())));
            }
        }
        lines.push("End".to_owned());
        Ok(lines)
    }

    async fn nlst<P>(&self, user: &FtpUser, path: P) -> io::Result<Cursor<Vec<u8>>>
    where
        P: AsRef<Path> + Send + Debug,
    {
        lines(user, path.as_ref(), Format::Nlst).await.map(Cursor::new).map_err(io::Error::other)
    }

    async fn get<P: AsRef<Path> + Send + Debug>(&self, user: &FtpUser, path: P, start_pos: u64) -> Result<Reader> {
        let (session, path) = asked(user, path.as_ref())?;
        let file = download::open(&session, &path, start_pos).await.map_err(|refusal| user.refused(refusal))?;
        Ok(Box::new(FileReader::new(file, start_pos)))
    }

    /// Behind the guard `output` is an empty connection that only triggers: the client's own was handed over.
    async fn get_into<'a, P, W>(&self, user: &FtpUser, path: P, start_pos: u64, output: &'a mut W) -> Result<u64>
    where
        W: AsyncWrite + Unpin + Sync + Send + ?Sized,
        P: AsRef<Path> + Send + Debug,
    {
        let (session, path) = asked(user, path.as_ref())?;
        let sent = match user.inner().map(|inner| inner.take_handover()) {
            Some(Some(handover)) => handover.send(&session, &path).await,
            Some(None) => return Err(ErrorKind::PermissionDenied.into()),
            None => send(&session, &path, start_pos, output).await,
        };
        sent.map_err(|refusal| user.refused(refusal))
    }

    /// Only a stock server calls it; the guard goes to `upload` itself. Returns the bytes that
    /// came, not the size of the file.
    async fn put<P, R>(&self, user: &FtpUser, mut input: R, path: P, start_pos: u64) -> Result<u64>
    where
        P: AsRef<Path> + Send + Debug,
        R: AsyncRead + Send + Sync + Unpin + 'static,
    {
        let (session, path) = asked(user, path.as_ref())?;
        session.ticket.doing(format!("STOR {path}"));
        let put = put(&session, &mut input, &path, start_pos).await;
        session.ticket.doing("");
        // A stock server reads no further after an error: what the client still sends would turn
        // the reply into a reset.
        if matches!(&put, Err(refusal) if !matches!(refusal, Refusal::Cut(_))) {
            receiving::drain(&mut input).await;
        }
        put.map_err(|refusal| user.refused(refusal))
    }

    async fn del<P: AsRef<Path> + Send + Debug>(&self, user: &FtpUser, path: P) -> Result<()> {
        let (session, path) = asked(user, path.as_ref())?;
        session.files.remove(&path).await.map_err(|refusal| user.refused(refusal))
    }

    async fn mkd<P: AsRef<Path> + Send + Debug>(&self, user: &FtpUser, path: P) -> Result<()> {
        let (session, path) = asked(user, path.as_ref())?;
        session.files.make_folder(&path).await.map_err(|refusal| user.refused(refusal))
    }

    async fn rmd<P: AsRef<Path> + Send + Debug>(&self, user: &FtpUser, path: P) -> Result<()> {
        let (session, path) = asked(user, path.as_ref())?;
        session.files.remove_folder(&path).await.map_err(|refusal| user.refused(refusal))
    }

    /// A rename of a file that waits gives the waiting entry its new name
    /// (`ingest/catalogue/rename.rs`).
    async fn rename<P: AsRef<Path> + Send + Debug>(&self, user: &FtpUser, from: P, to: P) -> Result<()> {
        let (session, from) = asked(user, from.as_ref())?;
        let to = text(user, to.as_ref())?;
        session.files.rename(&from, &to).await.map(drop).map_err(|refusal| user.refused(refusal))
    }

    /// Refuses a file and a missing name alike: CWD into either is 550 (RFC 959, 5.4).
    async fn cwd<P: AsRef<Path> + Send + Debug>(&self, user: &FtpUser, path: P) -> Result<()> {
        let (session, path) = asked(user, path.as_ref())?;
        match session.files.stat(&path).await.map(|there| there.kind) {
            Ok(Kind::Folder) => Ok(()),
            Ok(Kind::File) | Err(Refusal::NotFound | Refusal::BadName(_)) => {
                Err(user.refused(Refusal::Denied("no such directory".to_owned())))
            }
            Err(refusal) => Err(user.refused(refusal)),
        }
    }
}

/// Returns the session of the user, and a path as `ingest` takes it: UTF-8 text (RFC 2640).
fn asked(user: &FtpUser, path: &Path) -> Result<(Arc<PartnerSession>, String)> {
    Ok((user.session()?, text(user, path)?))
}

fn text(user: &FtpUser, path: &Path) -> Result<String> {
    let path = path.to_str().ok_or_else(|| user.refused(Refusal::BadName("name is not valid UTF-8".to_owned())))?;
    Ok(path.to_owned())
}

async fn listing(user: &FtpUser, path: &Path) -> Result<(Arc<PartnerSession>, Listing)> {
    let (session, path) = asked(user, path)?;
    let listing = session.files.list(&path).await.map_err(|refusal| user.refused(refusal))?;
    Ok((session, listing))
}

/// A whole listing: libunftp takes it in one piece.
async fn lines(user: &FtpUser, path: &Path, format: Format) -> Result<Vec<u8>> {
    let (session, mut listing) = listing(user, path).await?;
    let mut bytes = Vec::new();
    while let Some(page) = listing.next().await.map_err(|refusal| user.refused(refusal))? {
        bytes.extend(format.lines(&page, session.clock.now()));
    }
    Ok(bytes)
}

/// A download for a stock server. An operator's kick ends it, because libunftp does not know of
/// one.
async fn send<W>(session: &PartnerSession, path: &str, start: u64, output: &mut W) -> std::result::Result<u64, Refusal>
where
    W: AsyncWrite + Unpin + Send + ?Sized,
{
    session.ticket.doing(format!("RETR {path}"));
    let sent = async {
        let file = download::open(session, path, start).await?;
        download::send(session, &file, start, output).await
    };
    let sent = tokio::select! {
        sent = sent => sent,
        () = session.ticket.kicked() => Err(ended_by_operator()),
    };
    session.ticket.doing("");
    sent
}

/// An upload for a stock server: no data port of ours, no control connection that could be looked
/// at.
async fn put<R>(session: &PartnerSession, input: &mut R, path: &str, start: u64) -> std::result::Result<u64, Refusal>
where
    R: AsyncRead + Send + Unpin,
{
    // Begun before anything is read: what is refused costs the client no transfer.
    let intake = upload::begin(session, path, Start::At(start), None).await?;
    let file = PendingUpload { start: intake.size_bytes(), declared: None, intake };
    let transfer = Arc::new(Transfer::default());
    let kicked = async {
        session.ticket.kicked().await;
        transfer.cancel(words::KICKED, Rest::Dropped);
        // Never done: the cancel is seen by `receive`, which keeps or drops the bytes in order. The
        // other branch of the select returns then.
        std::future::pending::<()>().await;
    };
    let taken = async {
        let received = upload::receive(session, file, input, &transfer).await?;
        let JudgedUpload { intake, verdict, .. } = received.judge().await?;
        intake.finish(Box::new(DataEnded { transfer: Arc::clone(&transfer), otherwise: verdict })).await
    };
    tokio::select! {
        accepted = taken => Ok(accepted?.size_bytes - start),
        () = kicked => Err(ended_by_operator()),
    }
}

fn ended_by_operator() -> Refusal {
    Refusal::Cut(words::KICKED.to_owned())
}
