//! Requests that open files and folders (draft-ietf-secsh-filexfer-02, 6.3 and 6.7).
//!
//! Each makes a handle with a task behind it. The task is spawned before the handle is answered, so
//! a client's next request finds it.

use crate::ingest::Refusal;

use super::{
    answer::Answer,
    download::Download,
    listing::{Listing, Names},
    packet::{Attributes, Code},
    refused::{self, Status},
    service::Service,
    upload_opening::Opening,
};

impl Service {
    /// Opens a file for writing.
    pub(super) async fn open_to_write(&self, path: String, flags: u32, attributes: &Attributes, answer: Answer) {
        let (is_emptied, room) = (self.handles.is_emptied(&path), self.rooms.early.clone());
        let opening = Opening { path: path.clone(), flags, attributes, is_emptied, room };
        let upload = match opening.begin(&self.session).await {
            Ok(upload) => upload,
            Err(refusal) => return answer.done(Err(self.not_opened(&path, &refusal).await)),
        };
        match self.handles.add(Some((upload.path.clone(), upload.size.clone()))) {
            Ok((handle, asked)) => {
                tokio::spawn(upload.run(asked));
                answer.handle(handle);
            }
            Err(why) => answer.status(Code::Failure, why),
        }
    }

    /// Opens a file for reading.
    pub(super) async fn open_to_read(&self, path: &str, answer: Answer) {
        let file = match self.session.files.open(path).await {
            Ok(file) => file,
            Err(refusal) => return answer.done(Err(self.not_opened(path, &refusal).await)),
        };
        match self.handles.add(None) {
            Ok((handle, asked)) => {
                self.session.ticket.doing(format!("get {}", path.trim_start_matches('/')));
                let (session, room) = (self.session.clone(), self.rooms.reading.clone());
                let time = session.transfers.begin();
                let download = Download { _busy: session.busy(), session, file, time, sent_bytes: 0, room };
                tokio::spawn(download.run(asked));
                answer.handle(handle);
            }
            Err(why) => answer.status(Code::Failure, why),
        }
    }

    /// The status when a name cannot be opened: of a folder it is FAILURE, as of OpenSSH's server.
    async fn not_opened(&self, path: &str, refusal: &Refusal) -> Status {
        match self.session.files.stat(path).await {
            Ok(stat) if stat.is_folder() => refused::wrong_kind(refusal),
            _ => refused::status(refusal),
        }
    }

    /// Opens a folder for listing.
    pub(super) async fn open_folder(&self, path: &str, answer: Answer) {
        let opened = match self.listing(path).await {
            Ok(listing) => self.handles.add(None).map(|(handle, asked)| (listing, handle, asked)),
            Err((code, text)) => return answer.status(code, &text),
        };
        match opened {
            Ok((listing, handle, asked)) => {
                tokio::spawn(listing.run(asked));
                answer.handle(handle);
            }
            Err(why) => answer.status(Code::Failure, why),
        }
    }

    /// Begins the listing of a folder, if the session may have one more.
    async fn listing(&self, path: &str) -> Result<Listing, Status> {
        let Ok(place) = self.session.folders.clone().try_acquire_owned() else {
            return Err((Code::Failure, "too many folders are listed on this connection".to_owned()));
        };
        let files = &self.session.files;
        let stat = files.stat(path).await.map_err(|refusal| refused::status(&refusal))?;
        if !stat.is_folder() {
            return Err((Code::NoSuchFile, "is not a directory".to_owned()));
        }
        let names = files.list(path).await.map_err(|refusal| refused::status(&refusal))?;
        let (session, room) = (self.session.clone(), self.rooms.reading.clone());
        Ok(Listing { session, stat, names: Names::new(names), room, _place: place })
    }
}
