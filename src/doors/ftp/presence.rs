//! Whether the client is still there, while nobody reads its commands.

use std::{os::fd::AsFd, time::Duration};

use tokio::time::sleep;

use crate::doors::core::{Link, Shutdown};

use super::{client::Client, tcp_state::tcp_state};

/// The time between two looks.
const STEP: Duration = Duration::from_millis(250);

/// Waits until the client has gone; asked for while its commands are not read, behind which its end would be hidden.
pub(super) async fn gone(link: &Link) {
    while tcp_state(link.control.as_fd()).is_ok_and(|state| state.established) {
        sleep(STEP).await;
    }
}

impl Client {
    /// Does work that may take its time, as reading a whole file does, as long as the client is there and may stay.
    pub(super) async fn while_present<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        let link = self.control.link.clone();
        // Most of it is over before anyone has to be looked for.
        let gone = async {
            sleep(STEP).await;
            gone(&link).await;
        };
        tokio::pin!(gone);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = self.control.ends.changed() => {}
                () = &mut gone => return None,
            }
            if let Shutdown::Now(_) = self.control.ends.latest() {
                return None;
            }
        }
    }
}
