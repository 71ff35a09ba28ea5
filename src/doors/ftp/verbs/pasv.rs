//! The next data connection, which the client opens: EPSV (RFC 2428, 3), PASV (RFC 959, 4.1.2).

use std::{io, net::IpAddr};

use crate::doors::ftp::{
    data::{self, Awaited, Offer, Port},
    logged_in::LoggedIn,
    reply::Reply,
    session::Flow,
};

impl LoggedIn<'_> {
    /// PASV (RFC 959, 4.1.2). It has room for IPv4 addresses alone.
    pub(in crate::doors::ftp) async fn pasv(&mut self) -> Flow {
        match self.may_pasv().await {
            Ok([a, b, c, d]) => {
                self.passive(|port| {
                    let [high, low] = port.to_be_bytes();
                    Reply::new(227, format!("Entering passive mode ({a},{b},{c},{d},{high},{low})"))
                })
                .await
            }
            Err(reply) => self.client.say(reply).await,
        }
    }

    /// The address for PASV.
    async fn may_pasv(&mut self) -> Result<[u8; 4], Reply> {
        self.may_offer()?;
        if self.data_port.only_epsv {
            return Err(Reply::new(503, "EPSV ALL was sent"));
        }
        let address = self.client.context.advertised(self.client.reached).await;
        address.ok_or_else(|| Reply::new(425, "Use EPSV"))
    }

    /// EPSV (RFC 2428, 3).
    pub(in crate::doors::ftp) async fn epsv(&mut self, argument: &str) -> Flow {
        match self.may_epsv(argument) {
            Ok(()) => {
                self.passive(|port| Reply::new(229, format!("Entering extended passive mode (|||{port}|)"))).await
            }
            Err(reply) => self.client.say(reply).await,
        }
    }

    /// Checks the argument of EPSV. `ALL` refuses every other way from then on (RFC 2428, 4), so
    /// that a NAT helper between need not read commands.
    fn may_epsv(&mut self, argument: &str) -> Result<(), Reply> {
        match (argument.to_ascii_uppercase().as_str(), self.client.reached.to_canonical()) {
            ("", _) | ("1", IpAddr::V4(_)) | ("2", IpAddr::V6(_)) => self.may_offer(),
            ("ALL", _) => {
                self.data_port.only_epsv = true;
                Err(Reply::new(200, "Only EPSV from now on"))
            }
            ("1" | "2", _) => Err(Reply::new(522, "Network protocol is not that of this connection")),
            _ => Err(Reply::new(501, "EPSV takes 1, 2 or ALL")),
        }
    }

    /// Drops the data port that was asked for before, and checks that there may be another.
    pub(super) fn may_offer(&mut self) -> Result<(), Reply> {
        self.data_port.close();
        self.client.protected()
    }

    /// Listens on a data port, and tells the client which.
    async fn passive(&mut self, told: impl FnOnce(u16) -> Reply) -> Flow {
        let port = match self.listen().await {
            Ok(port) => port,
            Err(_) => return self.client.say(Reply::new(425, "No data port is free, try again")).await,
        };
        self.client.say(told(port)).await
    }

    async fn listen(&mut self) -> io::Result<u16> {
        let (client, options) = (&self.client, &self.client.context.options);
        let (listener, number) = data::listen(client.local, options.passive_ports).await?;
        let tls = client.data_tls();
        let proxies = options.proxy_protocol_from.clone();
        let port = Port { listener, peer: client.control.link.peer.ip(), proxies };
        self.data_port.offer(Offer::Passive(Awaited::new(port, tls)));
        Ok(number)
    }
}
