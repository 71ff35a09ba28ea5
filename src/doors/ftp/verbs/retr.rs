//! Downloads: RETR.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::doors::ftp::{
    data::Offer, data_port::no_data_port, data_transfer::Download, logged_in::LoggedIn, paths::looked_at, reply::Reply,
    session::Flow, transfer::Transfer, transferring::Transferring,
};

impl LoggedIn<'_> {
    /// RETR (RFC 959, 4.1.3). 150 comes when libunftp has opened the file.
    pub(in crate::doors::ftp) async fn retrieve(&mut self, given: &str, start: u64) -> Flow {
        let offer = match self.offer() {
            Ok(offer) => offer,
            Err(reply) => return self.client.say(reply).await,
        };
        let (path, inner) = (looked_at(&self.directory, given), self.inner.take().await);
        self.partner.ticket.doing(format!("RETR {path}"));
        let transfer = Arc::new(Transfer::default());
        let channel = self.client.data_channel(offer, &transfer);
        let ((tell, outcome), (opened, open)) = (oneshot::channel(), oneshot::channel());
        let download = Download { partner: self.partner.clone(), channel, path, start, opened };
        self.inner.lend(tokio::spawn(download.run(inner, tell)));
        Transferring::new(self.client, &self.partner, transfer, outcome).opening(open).run().await
    }

    /// Takes the data port that was asked for.
    pub(super) fn offer(&mut self) -> Result<Offer, Reply> {
        let offer = self.data_port.take();
        self.client.protected()?;
        offer.ok_or_else(no_data_port)
    }
}
