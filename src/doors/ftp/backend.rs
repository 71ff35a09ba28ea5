//! What libunftp's commands do: changes go through `ingest`, reading to the partner's view, and the bytes of a file go
//! where the errand on the desk says.

use std::{
    fmt::Debug,
    io::Cursor,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::io::{AsyncRead, AsyncWrite};
use unftp_core::storage::{Error, ErrorKind, Fileinfo, Metadata, Result, StorageBackend};
use unftp_sbe_fs::Meta;

use crate::ingest::Refusal;

use super::{inner::User, reply, shown::Shown};

/// Has no state: everything belongs to the login.
#[derive(Debug)]
pub(super) struct Backend;

type Reader = Box<dyn AsyncRead + Send + Sync + Unpin>;
type Listed = Vec<Fileinfo<PathBuf, Shown>>;

#[async_trait]
impl StorageBackend<User> for Backend {
    type Metadata = Shown;

    async fn metadata<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P) -> Result<Shown> {
        let login = user.0.login()?;
        let there: Meta = login.view.metadata(user, path.as_ref()).await?;
        Ok(Shown::new(there, path.as_ref(), &login))
    }

    /// For MLSD, which knows no other way.
    async fn list<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P) -> Result<Listed> {
        lay(user, &entries(user, path.as_ref()).await?, |one| {
            let kind = if one.metadata.is_dir() { "dir" } else { "file" };
            let modified = one.metadata.modified().map(DateTime::<Utc>::from);
            let modified = modified.map(|at| at.format("modify=%Y%m%d%H%M%S;").to_string()).unwrap_or_default();
            format!("type={kind};size={};{modified} {}", one.metadata.len(), one.path.display())
        });
        Ok(Vec::new())
    }

    async fn list_fmt<P>(&self, user: &User, path: P) -> Result<Cursor<Vec<u8>>>
    where
        P: AsRef<Path> + Send + Debug,
    {
        lay(user, &entries(user, path.as_ref()).await?, ToString::to_string);
        Ok(Cursor::default())
    }

    /// For STAT, whose reply goes over the control connection.
    async fn list_vec<P>(&self, user: &User, path: P) -> Result<Vec<String>>
    where
        P: AsRef<Path> + Send + Debug,
    {
        Ok(entries(user, path.as_ref()).await?.iter().map(ToString::to_string).collect())
    }

    async fn nlst<P>(&self, user: &User, path: P) -> std::io::Result<Cursor<Vec<u8>>>
    where
        P: AsRef<Path> + Send + Debug,
    {
        let listed = entries(user, path.as_ref()).await.map_err(std::io::Error::other)?;
        lay(user, &listed, |one| one.path.to_string_lossy().into_owned());
        Ok(Cursor::default())
    }

    /// Not used: files go out through `get_into`.
    async fn get<P: AsRef<Path> + Send + Debug>(&self, _user: &User, _path: P, _start_pos: u64) -> Result<Reader> {
        Err(ErrorKind::CommandNotImplemented.into())
    }

    async fn get_into<'a, P, W>(&self, user: &User, path: P, _start_pos: u64, _output: &'a mut W) -> Result<u64>
    where
        W: AsyncWrite + Unpin + Sync + Send + ?Sized,
        P: AsRef<Path> + Send + Debug,
    {
        match user.0.take() {
            Some(download) => download.run(user, path.as_ref()).await.map_err(reply::error),
            None => Err(unasked()),
        }
    }

    /// Not used: files come in without the inner server.
    async fn put<P, R>(&self, _user: &User, _input: R, _path: P, _start_pos: u64) -> Result<u64>
    where
        P: AsRef<Path> + Send + Debug,
        R: AsyncRead + Send + Sync + Unpin + 'static,
    {
        Err(ErrorKind::CommandNotImplemented.into())
    }

    async fn del<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P) -> Result<()> {
        let login = user.0.login()?;
        let path = text(user, path.as_ref())?;
        answer(user, login.ingest.delete(&login.session, &path).await)
    }

    async fn mkd<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P) -> Result<()> {
        let login = user.0.login()?;
        let path = text(user, path.as_ref())?;
        answer(user, login.ingest.make_dir(&login.session, &path).await)
    }

    async fn rmd<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P) -> Result<()> {
        let login = user.0.login()?;
        let path = text(user, path.as_ref())?;
        answer(user, login.ingest.remove_dir(&login.session, &path).await)
    }

    async fn rename<P: AsRef<Path> + Send + Debug>(&self, user: &User, from: P, to: P) -> Result<()> {
        let login = user.0.login()?;
        let (from, to) = (text(user, from.as_ref())?, text(user, to.as_ref())?);
        answer(user, login.ingest.rename(&login.session, &from, &to).await.map(drop))
    }

    async fn cwd<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P) -> Result<()> {
        let there: Result<Meta> = user.0.login()?.view.metadata(user, path.as_ref().to_owned()).await;
        match there {
            Ok(there) if there.is_dir() => Ok(()),
            _ => answer(user, Err(Refusal::Denied("no such directory".to_owned()))),
        }
    }
}

/// A directory's entries in the order of their names; a file is listed by itself.
async fn entries(user: &User, path: &Path) -> Result<Listed> {
    let login = user.0.login()?;
    let view = &login.view;
    let there: Meta = view.metadata(user, path).await.inspect_err(|_| user.0.refuse(Refusal::NotFound))?;
    if !there.is_dir() {
        let name = path.file_name().map_or_else(|| path.to_owned(), PathBuf::from);
        return Ok(vec![Fileinfo { path: name, metadata: Shown::new(there, path, &login) }]);
    }
    let below = text(user, path.strip_prefix("/").unwrap_or(path))?;
    let names = login.ingest.names(&login.session, &below).await.map_err(|refusal| told(user, refusal))?;
    let mut listed = Listed::with_capacity(names.len());
    for name in names {
        let path = path.join(&name);
        // One by one: what has gone meanwhile is left out, where the listing of the view would fail as a whole.
        if let Ok(there) = view.metadata(user, &path).await {
            listed.push(Fileinfo { metadata: Shown::new(there, &path, &login), path: name.into() });
        }
    }
    listed.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(listed)
}

/// Lays a listing on the desk.
fn lay(user: &User, listed: &Listed, line: impl Fn(&Fileinfo<PathBuf, Shown>) -> String) {
    let lines: Vec<String> = listed.iter().map(|one| line(one) + "\r\n").collect();
    user.0.list(lines.concat().into_bytes());
}

fn text(user: &User, path: &Path) -> Result<String> {
    match path.to_str() {
        Some(path) => Ok(path.to_owned()),
        None => answer(user, Err(Refusal::BadName("name is not valid UTF-8".to_owned()))).map(|()| String::new()),
    }
}

fn answer(user: &User, done: std::result::Result<(), Refusal>) -> Result<()> {
    done.map_err(|refusal| told(user, refusal))
}

fn told(user: &User, refusal: Refusal) -> Error {
    user.0.refuse(refusal.clone());
    reply::error(refusal)
}

fn unasked() -> Error {
    ErrorKind::PermissionDenied.into()
}
