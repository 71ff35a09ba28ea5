//! What libunftp's commands do: writing goes through `ingest`, reading to the partner's view.

use std::{
    fmt::Debug,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use unftp_core::storage::{Error, ErrorKind, Fileinfo, Result, StorageBackend};
use unftp_sbe_fs::{Filesystem, Meta};

use crate::ingest::Refusal;

use super::{login::User, reply, transfer};

/// Has no state: everything belongs to the login.
#[derive(Debug)]
pub(super) struct Backend;

type Reader = Box<dyn AsyncRead + Send + Sync + Unpin>;

#[async_trait]
impl StorageBackend<User> for Backend {
    type Metadata = Meta;

    /// No REST, so that a start position cannot be left over from an earlier command, and no MD5.
    fn supported_features(&self) -> u32 {
        0
    }

    async fn metadata<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P) -> Result<Meta> {
        user.0.ticket.touch();
        user.0.view.metadata(user, path).await
    }

    async fn list<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P) -> Result<Vec<Fileinfo<PathBuf, Meta>>> {
        user.0.ticket.touch();
        user.0.view.list(user, path).await
    }

    async fn get<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P, start_pos: u64) -> Result<Reader> {
        StorageBackend::get(&user.0.view, user, path, start_pos).await
    }

    async fn get_into<'a, P, W>(&self, user: &User, path: P, start_pos: u64, output: &'a mut W) -> Result<u64>
    where
        W: AsyncWrite + Unpin + Sync + Send + ?Sized,
        P: AsRef<Path> + Send + Debug,
    {
        let login = &user.0;
        let _under_way = login.line.transfer();
        login.ticket.doing(format!("RETR {}", path.as_ref().display()));
        let sent = send(self.get(user, path, start_pos).await?, output, login.stalled).await;
        login.ticket.doing("");
        login.ticket.add_bytes(*sent.as_ref().unwrap_or(&0));
        sent
    }

    async fn put<P, R>(&self, user: &User, input: R, path: P, start_pos: u64) -> Result<u64>
    where
        P: AsRef<Path> + Send + Debug,
        R: AsyncRead + Send + Sync + Unpin + 'static,
    {
        transfer::receive(&user.0, input, path.as_ref(), start_pos).await.map_err(reply::error)
    }

    async fn del<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P) -> Result<()> {
        let login = &user.0;
        let path = login.resolve(path.as_ref()).map_err(reply::error)?;
        answer(login.ingest.delete(&login.session, &path).await)
    }

    async fn mkd<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P) -> Result<()> {
        let login = &user.0;
        let path = login.resolve(path.as_ref()).map_err(reply::error)?;
        answer(login.ingest.make_dir(&login.session, &path).await)
    }

    async fn rmd<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P) -> Result<()> {
        let login = &user.0;
        let path = login.resolve(path.as_ref()).map_err(reply::error)?;
        answer(login.ingest.remove_dir(&login.session, &path).await)
    }

    async fn rename<P: AsRef<Path> + Send + Debug>(&self, user: &User, from: P, to: P) -> Result<()> {
        let login = &user.0;
        let _under_way = login.line.transfer();
        let from = login.resolve(from.as_ref()).map_err(reply::error)?;
        let to = login.resolve(to.as_ref()).map_err(reply::error)?;
        answer(login.ingest.rename(&login.session, &from, &to).await.map(drop))
    }

    async fn cwd<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P) -> Result<()> {
        user.0.ticket.touch();
        let directory = path.as_ref().to_owned();
        let there = <Filesystem as StorageBackend<User>>::metadata(&user.0.view, user, &directory).await?;
        if !unftp_core::storage::Metadata::is_dir(&there) {
            return Err(ErrorKind::PermanentDirectoryNotAvailable.into());
        }
        user.0.entered(&directory);
        Ok(())
    }
}

fn answer(done: std::result::Result<(), Refusal>) -> Result<()> {
    done.map_err(reply::error)
}

async fn send<W>(mut file: Reader, output: &mut W, stalled: std::time::Duration) -> Result<u64>
where
    W: AsyncWrite + Unpin + Send + ?Sized,
{
    let mut buffer = vec![0; 64 << 10];
    let mut sent = 0;
    loop {
        let count = file.read(&mut buffer).await?;
        if count == 0 {
            output.flush().await?;
            return Ok(sent);
        }
        match tokio::time::timeout(stalled, output.write_all(&buffer[..count])).await {
            Ok(written) => written?,
            Err(_) => return Err(Error::new(ErrorKind::ConnectionClosed, "the client takes no data")),
        }
        sent += count as u64;
    }
}
