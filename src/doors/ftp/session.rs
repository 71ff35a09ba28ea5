//! One client's session, phase after phase: greeting, logged in, and in it one transfer after the other.
//!
//! What lasts from the first byte to the last is the [`Client`]; each phase is a type of its own that borrows it, and
//! has what only that phase needs: `greeting`, `logged_in`, `transferring`.

use std::sync::Arc;

use tracing::debug;

use crate::doors::core::Accepted;

use super::{
    client::Client,
    context::{Entrance, FtpContext},
    greeting::Greeting,
    logged_in::LoggedIn,
};

/// Whether the session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    End,
}

impl Flow {
    /// The end, whatever came before it.
    pub(super) fn and_end(self) -> Self {
        Self::End
    }
}

/// Serves a client until it or the server ends the session.
pub(super) async fn serve(context: Arc<FtpContext>, accepted: Accepted<Entrance>) {
    let (peer, entrance) = (accepted.link.peer, accepted.entrance);
    let mut client = match Client::new(context, accepted) {
        Ok(client) => client,
        Err(error) => return debug!(%peer, %error, "connection was gone at once"),
    };
    if let Some(partner) = Greeting::new(&mut client).run(entrance).await {
        LoggedIn::new(&mut client, partner).run().await;
    }
    client.finish().await;
    debug!(%peer, "session is over");
}
