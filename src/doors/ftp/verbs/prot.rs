//! TLS on data connections: PBSZ, PROT (RFC 4217).

use crate::doors::ftp::{
    client::Client,
    logged_in::LoggedIn,
    protection::DataProtection::{self, Clear, Private, Unsized},
    reply::Reply,
};

impl LoggedIn<'_> {
    /// PROT. TLS may have begun on a data port that was asked for before.
    pub(in crate::doors::ftp) fn prot(&mut self, level: &str) -> Reply {
        let reply = self.client.prot(level);
        if self.client.protection.data != Private {
            self.data_port.close_secure();
        }
        reply
    }
}

impl Client {
    /// PBSZ (RFC 4217, 8): over TLS the size is always 0, and PROT must not come before it.
    pub(in crate::doors::ftp) fn pbsz(&mut self, size: &str) -> Reply {
        if !self.control.is_secure() {
            return Reply::new(503, "Send AUTH TLS first");
        }
        if size.parse::<u32>().is_err() {
            return Reply::new(501, "PBSZ needs a number");
        }
        if self.protection.data == Unsized {
            self.protection.data = Clear;
        }
        Reply::new(200, "PBSZ=0")
    }

    /// PROT (RFC 4217, 9).
    pub(in crate::doors::ftp) fn prot(&mut self, level: &str) -> Reply {
        if !self.control.is_secure() || self.protection.data == Unsized {
            return Reply::new(503, "Send AUTH TLS and PBSZ first");
        }
        match level.to_ascii_uppercase().as_str() {
            "P" => self.protect_data(Private, "Data connections are protected"),
            "C" if self.context.tls_is_required() => Reply::new(534, "Data connections must be protected"),
            "C" => self.protect_data(Clear, "Data connections are clear"),
            "S" | "E" => Reply::new(536, "Only PROT P and C are served"),
            _ => Reply::new(504, "Only PROT P and C are served"),
        }
    }

    fn protect_data(&mut self, level: DataProtection, told: &str) -> Reply {
        self.protection.data = level;
        Reply::new(200, told)
    }

    /// Checks that the next data connection is as protected as it has to be.
    ///
    /// # Errors
    /// The reply, when it would be in the clear and must not.
    pub(in crate::doors::ftp) fn protected(&self) -> Result<(), Reply> {
        let is_private = self.protection.data == Private && self.control.is_secure();
        match self.context.tls_is_required() && !is_private {
            true => Err(Reply::new(522, "Data connections must be protected: send PBSZ 0 and PROT P first")),
            false => Ok(()),
        }
    }
}
