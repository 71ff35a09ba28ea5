//! The next data connection, as the client asks for it: EPSV, PASV, EPRT, PORT.

use std::net::{IpAddr, SocketAddr};

use tokio::time::Instant;

use crate::doors::ftp::{
    data::{self, Awaited, Offer},
    reply::Reply,
    session::{Flow, Session},
};

/// Ports below are those of services: nobody is connected to them.
const LEAST_ACTIVE_PORT: u16 = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passive {
    Pasv,
    Epsv,
}

impl Session {
    pub(in crate::doors::ftp) async fn pasv(&mut self) -> Flow {
        self.passive(Passive::Pasv).await
    }

    pub(in crate::doors::ftp) fn port(&mut self, argument: &str) -> Reply {
        self.active(data::parse_port(argument))
    }

    pub(in crate::doors::ftp) fn eprt(&mut self, argument: &str) -> Reply {
        self.active(data::parse_eprt(argument))
    }

    pub(in crate::doors::ftp) async fn epsv(&mut self, argument: &str) -> Flow {
        let reply = match (argument.to_ascii_uppercase().as_str(), self.reached.to_canonical()) {
            ("", _) | ("1", IpAddr::V4(_)) | ("2", IpAddr::V6(_)) => return self.passive(Passive::Epsv).await,
            ("ALL", _) => {
                self.only_epsv = true;
                Reply::new(200, "Only EPSV from now on")
            }
            ("1" | "2", _) => Reply::new(522, "Network protocol is not that of this connection"),
            _ => Reply::new(501, "EPSV takes 1, 2 or ALL"),
        };
        self.say(reply).await
    }

    async fn passive(&mut self, how: Passive) -> Flow {
        self.offer = None;
        if let Some(reply) = self.unprotected() {
            return self.say(reply).await;
        }
        if how == Passive::Pasv && self.only_epsv {
            return self.say(Reply::new(503, "EPSV ALL was sent")).await;
        }
        let address = match how {
            Passive::Pasv => self.context.advertised(self.reached).await,
            Passive::Epsv => Some([0; 4]),
        };
        let Some([a, b, c, d]) = address else {
            return self.say(Reply::new(425, "Use EPSV")).await;
        };
        let listener = match data::listen(self.local, self.context.options.passive_ports).await {
            Ok(listener) => listener,
            Err(_) => return self.say(Reply::new(425, "No data port is free, try again")).await,
        };
        let Ok(at) = listener.local_addr() else {
            return self.say(Reply::new(425, "No data port is free, try again")).await;
        };
        let options = &self.context.options;
        let tls = self.data_tls().map(|tls| (tls, options.handshake));
        let proxies = options.proxy_protocol_from.clone();
        let offer = Offer::Passive(Awaited::new(listener, self.link.peer.ip(), proxies, tls));
        (self.offer, self.offered) = (Some(offer), Instant::now());
        let port = at.port();
        let reply = match how {
            Passive::Epsv => Reply::new(229, format!("Entering extended passive mode (|||{port}|)")),
            Passive::Pasv => {
                let [high, low] = port.to_be_bytes();
                Reply::new(227, format!("Entering passive mode ({a},{b},{c},{d},{high},{low})"))
            }
        };
        self.say(reply).await
    }

    fn active(&mut self, to: Option<SocketAddr>) -> Reply {
        self.offer = None;
        if let Some(reply) = self.unprotected() {
            return reply;
        }
        if !self.context.options.active {
            return Reply::new(502, "Active mode is off: use EPSV or PASV");
        }
        if self.only_epsv {
            return Reply::new(503, "EPSV ALL was sent");
        }
        match to {
            None => Reply::new(501, "That is no address"),
            Some(to) if to.ip().to_canonical() != self.link.peer.ip().to_canonical() => {
                Reply::new(501, "Only your own address is connected to")
            }
            Some(to) if to.port() < LEAST_ACTIVE_PORT => Reply::new(501, "Ports below 1024 are not connected to"),
            Some(to) => {
                (self.offer, self.offered) = (Some(Offer::Active { from: self.local, to }), Instant::now());
                Reply::new(200, "Noted")
            }
        }
    }
}
