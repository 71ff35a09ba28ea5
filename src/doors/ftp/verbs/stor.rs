//! Uploads: STOR, APPE, STOU (RFC 959, 4.1.3), at a position that REST has set (RFC 3659, 5).
//!
//! `ingest` is asked before 150: a name, a quota or a full disk refuses the upload before the
//! client sends a byte. From 150 on the transfer is a task of its own (`data_transfer`), and the
//! session is in its third phase (`transferring`).

use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::info;
use uuid::Uuid;

use crate::{
    doors::ftp::{
        data::Offer,
        data_port::no_data_port,
        data_transfer::receive_file,
        logged_in::{LoggedIn, NextTransfer},
        paths::changed,
        reply::Reply,
        session::Flow,
        transfer::Transfer,
        transferring::Transferring,
        upload::{self, PendingUpload},
    },
    ingest::{Intake, Start},
};

/// The name and the beginning of an upload, as the client asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::doors::ftp) enum Store<'a> {
    /// STOR, at the byte of REST.
    At(&'a str),
    /// APPE.
    Append(&'a str),
    /// STOU: a name of ours.
    Unique,
}

impl LoggedIn<'_> {
    /// STOR, APPE, STOU (RFC 959, 4.1.3). `ingest` is asked before 150; 226 comes when it has the file.
    pub(in crate::doors::ftp) async fn store(&mut self, asked: Store<'_>, next: NextTransfer) -> Flow {
        let (offer, path) = match self.may_store(asked) {
            Ok(offered) => offered,
            Err(reply) => return self.client.say(reply).await,
        };
        // Before `ingest` is asked: the upload before may hold the same name, and its task ends it.
        self.last_upload_is_over().await;
        let start = match asked {
            Store::At(_) => Start::At(next.start),
            Store::Append(_) => Start::End,
            Store::Unique => Start::At(0),
        };
        let intake = match self.begin(&path, start, next.declared).await {
            Ok(intake) => intake,
            Err(reply) => return self.client.say(reply).await,
        };
        let told = match asked {
            // The name that leads there from where the client is: RFC 1123, 4.1.2.9.
            Store::Unique => format!("FILE: {}", path.rsplit('/').next().unwrap_or(&path)),
            Store::At(_) | Store::Append(_) => "Ready for the file".to_owned(),
        };
        let file = PendingUpload { start: intake.size_bytes(), declared: next.declared, intake };
        self.begin_transfer(offer, file, Reply::new(150, told)).await
    }

    /// Returns the data connection and the path. The data port is used up, whatever comes of it: a
    /// client that was refused asks for a new one.
    fn may_store(&mut self, asked: Store<'_>) -> Result<(Offer, String), Reply> {
        let offer = self.data_port.take();
        self.client.protected()?;
        let path = match asked {
            Store::At(name) | Store::Append(name) => changed(&self.directory, name)?,
            Store::Unique => changed(&self.directory, &Uuid::new_v4().simple().to_string())?,
        };
        Ok((offer.ok_or_else(no_data_port)?, path))
    }

    /// Asks `ingest` before the client sends a byte.
    async fn begin(&mut self, path: &str, start: Start, declared: Option<u64>) -> Result<Intake, Reply> {
        let partner = self.partner.clone();
        partner.ticket.doing(format!("STOR {path}"));
        let begun = self.client.while_present(upload::begin(&partner, path, start, declared)).await;
        let begun = begun.ok_or_else(Reply::interrupted);
        begun.and_then(|begun| begun.map_err(|refusal| Reply::from(&refusal))).inspect_err(|reply| {
            partner.ticket.doing("");
            info!(partner = %partner.info.partner, ?path, reply = reply.text, "upload refused");
        })
    }

    /// Writes 150, starts the transfer's task, and hears the client until it is over.
    async fn begin_transfer(&mut self, offer: Offer, file: PendingUpload, ready: Reply) -> Flow {
        // Lines that came before 150 wait for the end of the transfer.
        self.client.control.hear_what_is_here();
        if self.client.say(ready).await == Flow::End {
            self.partner.ticket.doing("");
            file.intake.cut("the client went away").await;
            return Flow::End;
        }
        let transfer = Arc::new(Transfer::default());
        let channel = self.client.data_channel(offer, &transfer);
        let (tell, outcome) = oneshot::channel();
        let upload = tokio::spawn(receive_file(self.partner.clone(), channel, file, tell));
        self.last_upload = Some((transfer.clone(), upload));
        Transferring::new(self.client, &self.partner, transfer, outcome).run().await
    }
}
