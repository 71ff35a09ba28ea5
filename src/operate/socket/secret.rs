//! The secret that shows that whoever asks can read the data directory.
//!
//! The uid alone is not enough: programs of routes may run as the server's own user, and must not
//! command it. One that is confined (`confine = true`) sees no data directory and thus no secret.
//! 256 random bits, as 64 hexadecimal digits and a newline, mode 0600; made once and kept over
//! restarts.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{durable_file, operate::request::Request};

/// The file's name in the data directory.
const NAME: &str = "admin.secret";

/// A request as it stands on the socket.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Asked<R = Request> {
    pub(super) secret: String,
    pub(super) request: R,
}

/// The secret of this data directory, made when there is none. A full disk is no reason not to start: without room for
/// a first one nobody but this process knows it, and operators are served after a restart with room.
pub(super) fn find_or_make(data: &Path) -> io::Result<String> {
    if let Ok(known) = read(data)
        && known.len() == 64
    {
        return Ok(known);
    }
    let secret = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
    // In place of a file that is there: never into one that somebody may have open.
    match durable_file::replace(&data.join(NAME), format!("{secret}\n").as_bytes()) {
        Err(error) if matches!(error.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            tracing::error!(%error, "no room for {NAME}: commands cannot reach this server; make room and restart it");
        }
        written => written?,
    }
    Ok(secret)
}

/// The secret of the server that runs on this directory.
pub(super) fn read(data: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(data.join(NAME))?.trim_end().to_owned())
}
