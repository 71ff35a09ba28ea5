//! What is said of the next transfer alone: REST, ALLO.

use crate::doors::ftp::{logged_in::LoggedIn, reply::Reply};

impl LoggedIn<'_> {
    /// REST (RFC 3659, 5): a byte of the file, for the next transfer alone.
    pub(in crate::doors::ftp) fn rest(&mut self, argument: &str) -> Reply {
        match argument.parse::<u64>() {
            Ok(start) => {
                self.next.start = start;
                Reply::new(350, format!("The next transfer begins at byte {start}"))
            }
            Err(_) => {
                self.next.start = 0;
                Reply::new(501, "REST needs a number")
            }
        }
    }

    /// ALLO (RFC 959, 4.1.3): the size that an upload is held against.
    pub(in crate::doors::ftp) fn allo(&mut self, argument: &str) -> Reply {
        match argument.split(' ').next().and_then(|size| size.parse::<u64>().ok()) {
            Some(size) => {
                self.next.declared = Some(size);
                Reply::new(200, format!("{size} bytes are expected"))
            }
            None => Reply::new(501, "ALLO needs a number"),
        }
    }
}
