//! The next data connection, which we open: EPRT, PORT.

use std::net::SocketAddr;

use crate::doors::ftp::{
    data::{self, Offer},
    logged_in::LoggedIn,
    reply::Reply,
};

/// Ports below are those of services: nobody is connected to them.
const LEAST_ACTIVE_PORT: u16 = 1024;

impl LoggedIn<'_> {
    /// PORT (RFC 959, 4.1.2).
    pub(in crate::doors::ftp) fn port(&mut self, argument: &str) -> Reply {
        self.active(data::parse_port(argument))
    }

    /// EPRT (RFC 2428, 2).
    pub(in crate::doors::ftp) fn eprt(&mut self, argument: &str) -> Reply {
        self.active(data::parse_eprt(argument))
    }

    fn active(&mut self, to: Option<SocketAddr>) -> Reply {
        match self.may_connect(to) {
            Ok(to) => {
                self.data_port.offer(Offer::Active { from: self.client.local, to });
                Reply::new(200, "Noted")
            }
            Err(reply) => reply,
        }
    }

    /// The address that is connected to: never another than the client's own (RFC 2577, 3).
    fn may_connect(&mut self, to: Option<SocketAddr>) -> Result<SocketAddr, Reply> {
        self.may_offer()?;
        if !self.client.context.options.active {
            return Err(Reply::new(502, "Active mode is off: use EPSV or PASV"));
        }
        if self.data_port.only_epsv {
            return Err(Reply::new(503, "EPSV ALL was sent"));
        }
        let peer = self.client.control.link.peer.ip().to_canonical();
        match to.ok_or_else(|| Reply::new(501, "That is no address"))? {
            to if to.ip().to_canonical() != peer => Err(Reply::new(501, "Only your own address is connected to")),
            to if to.port() < LEAST_ACTIVE_PORT => Err(Reply::new(501, "Ports below 1024 are not connected to")),
            to => Ok(to),
        }
    }
}
