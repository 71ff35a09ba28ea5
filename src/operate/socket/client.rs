//! The end of the socket that asks.
//!
//! A [`Conversation`] hides whether a server answers or this process: the command line reads both
//! alike.

use std::{io, path::Path};

use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};

use super::{
    place::Place,
    secret::{self, Asked},
    wire,
};
use crate::operate::{
    problem::{Problem, Result},
    reply::{Piece, Reply},
    request::Request,
};

/// A connection to the running server.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    secret: String,
}

impl Client {
    /// Connects to the server of this data directory; nothing when none runs.
    /// No server is no error: then the command works on the data itself, where it can. A socket
    /// without a listener is a dead server's.
    ///
    /// # Errors
    /// When a server may run but cannot be reached, such as without permission.
    pub async fn connect(data: &Path) -> io::Result<Option<Self>> {
        let place = match Place::new(data) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            place => place?,
        };
        match UnixStream::connect(place.path()).await {
            // Read afterwards: the server makes it before it listens.
            Ok(stream) => Ok(Some(Self { stream, secret: secret::read(data)? })),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks.
    /// One request a connection: this takes the client.
    ///
    /// # Errors
    /// When the server goes away.
    pub async fn ask(self, request: &Request) -> io::Result<Conversation> {
        let (reader, mut writer) = self.stream.into_split();
        wire::line(&mut writer, &Asked { secret: self.secret, request }).await?;
        writer.flush().await?;
        Ok(Conversation::Socket { reader: BufReader::new(reader), _writer: writer })
    }
}

/// An answer as it comes in, from the server or from an operator in this process.
#[derive(Debug)]
pub enum Conversation {
    /// From the server.
    Socket {
        /// The line the answer comes on.
        reader: BufReader<OwnedReadHalf>,
        /// Kept open: the server takes its end as a sign that the client has gone.
        _writer: OwnedWriteHalf,
    },
    /// From this process.
    Local(mpsc::Receiver<Piece>),
}

impl Conversation {
    /// The next piece; nothing after the answer's good end.
    /// Not cancel safe on the socket: a piece that was half read is lost.
    ///
    /// # Errors
    /// The problem with which the answer ends, or that the server went away in the middle.
    pub async fn next(&mut self) -> Result<Option<Piece>> {
        let piece = match self {
            Self::Socket { reader, .. } => wire::read(reader).await.map_err(|error| cut(&error.to_string()))?,
            Self::Local(receiver) => receiver.recv().await,
        };
        match piece {
            Some(Piece::Reply(Reply::Done)) => Ok(None),
            Some(Piece::Reply(Reply::Failed(problem))) => Err(problem),
            Some(piece) => Ok(Some(piece)),
            None => Err(cut("it closed the connection")),
        }
    }
}

fn cut(why: &str) -> Problem {
    Problem::failed(format!("the server went away before it had answered: {why}; see its log"))
}
