//! Listings: LIST, NLST, MLSD.
//!
//! They go over a data connection as downloads do, but are no transfers of a file: the guard makes
//! them itself, page by page, and libunftp is not asked.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::doors::ftp::{
    data::Offer, data_transfer::send_listing, listable::Listable, listing::Format, logged_in::LoggedIn, reply::Reply,
    session::Flow, transfer::Transfer, transferring::Transferring,
};

impl LoggedIn<'_> {
    /// LIST and NLST (RFC 959, 4.1.3), MLSD (RFC 3659, 7). What can be refused is refused before 150.
    pub(in crate::doors::ftp) async fn list(&mut self, format: Format, given: &str) -> Flow {
        let offer = match self.offer() {
            Ok(offer) => offer,
            Err(reply) => return self.client.say(reply).await,
        };
        match self.begin_list(format, given).await {
            Ok(listable) => self.send_list(offer, listable).await,
            Err(reply) => {
                let said = self.client.say(reply).await;
                // Not before: a client that has begun TLS on its data connection would hear of a reset first.
                drop(offer);
                said
            }
        }
    }

    async fn begin_list(&mut self, format: Format, given: &str) -> Result<Listable, Reply> {
        let partner = self.partner.clone();
        partner.ticket.doing(format!("{} {given}", format.verb()));
        let begin = Listable::begin(&partner, &self.directory, given, format);
        let begun = self.client.while_present(begin).await;
        let begun = begun.unwrap_or_else(|| Err(Reply::interrupted()));
        begun.inspect_err(|_| partner.ticket.doing(""))
    }

    async fn send_list(&mut self, offer: Offer, listable: Listable) -> Flow {
        // An ABOR that came before 150 is for this listing.
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
}
