//! Downloads and listings: RETR, LIST, NLST, MLSD.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::doors::ftp::{
    data::Offer,
    data_port::no_data_port,
    data_transfer::{Download, Listable, send_listing},
    listing::Format,
    logged_in::LoggedIn,
    paths::looked_at,
    reply::Reply,
    session::Flow,
    transfer::Transfer,
    transferring::Transferring,
};

impl LoggedIn<'_> {
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

    pub(in crate::doors::ftp) async fn list(&mut self, format: Format, given: &str) -> Flow {
        let path = looked_at(&self.directory, given);
        match self.begin_list(format, &path).await {
            Ok((offer, listable)) => self.send_list(offer, listable).await,
            Err(reply) => self.client.say(reply).await,
        }
    }

    async fn begin_list(&mut self, format: Format, path: &str) -> Result<(Offer, Listable), Reply> {
        let offer = self.offer()?;
        let partner = self.partner.clone();
        partner.ticket.doing(format!("{} {path}", format.verb()));
        let begun = self.client.while_present(Listable::begin(&partner, path, format)).await;
        let begun = begun.unwrap_or_else(|| Err(Reply::interrupted()));
        begun.map(|listable| (offer, listable)).inspect_err(|_| partner.ticket.doing(""))
    }

    async fn send_list(&mut self, offer: Offer, listable: Listable) -> Flow {
        self.client.control.hear_what_is_here();
        if self.client.say(Reply::new(150, "The listing is coming")).await == Flow::End {
            return Flow::End;
        }
        let transfer = Arc::new(Transfer::default());
        let channel = self.client.data_channel(offer, &transfer);
        let (tell, outcome) = oneshot::channel();
        tokio::spawn(send_listing(self.partner.clone(), channel, listable, tell));
        Transferring::new(self.client, &self.partner, transfer, outcome).run().await
    }

    /// Takes the data port that was asked for.
    fn offer(&mut self) -> Result<Offer, Reply> {
        let offer = self.data_port.take();
        self.client.protected()?;
        offer.ok_or_else(no_data_port)
    }
}
