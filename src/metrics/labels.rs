//! The values of labels: all there are, so that their series are few and known.

/// One of the values of a label, by its place and its text.
pub(super) trait Label: Copy + 'static {
    /// All of them, in the order of their places.
    const ALL: &'static [Self];

    /// Its place in [`Label::ALL`].
    fn place(self) -> usize;

    /// Its text.
    fn text(self) -> &'static str;
}

/// Tells the texts of an enum whose variants are the values of a label.
macro_rules! label {
    ($name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn place(self) -> usize {
                self as usize
            }

            fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

/// The door that something came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// FTP and FTPS.
    Ftp,
    /// SFTP.
    Sftp,
    /// The web.
    Web,
    /// Folders.
    Drop,
    /// One that has no name here.
    Other,
}

label!(Door { Ftp = "ftp", Sftp = "sftp", Web = "web", Drop = "drop", Other = "other" });

impl Door {
    /// The door of this name, as sessions have it.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::ALL.iter().copied().find(|door| door.text() == name).unwrap_or(Self::Other)
    }
}

/// Why an upload was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its name cannot be taken, or is a folder's, or its folder is not there.
    Name,
    /// The partner's quota.
    Quota,
    /// It is too large.
    Size,
    /// The partner has too many names, or changes them too fast.
    Names,
    /// The disk is full but for its reserve.
    Full,
    /// The server takes nothing more.
    Stopped,
    /// Another upload of this name is under way.
    Busy,
    /// There is nothing to go on with where it wanted to.
    Resume,
    /// The partner's policy.
    Policy,
    /// Something failed in the server.
    Internal,
}

label!(Refused { Name = "name", Quota = "quota", Size = "size", Names = "names", Full = "full", Stopped = "stopped", Busy = "busy", Resume = "resume", Policy = "policy", Internal = "internal" });

/// Why a login failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginFailure {
    /// Name, password, key, token or certificate are wrong.
    Credentials,
    /// Too many failed before.
    Lockout,
    /// They are right, and the policy wants others, or another address; or they have expired.
    Policy,
    /// They are right, and there are too many sessions.
    Limit,
    /// The account cannot be read.
    Unavailable,
}

label!(LoginFailure { Credentials = "credentials", Lockout = "lockout", Policy = "policy", Limit = "limit", Unavailable = "unavailable" });

/// Where the bytes of a file became durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// In the journal, with its record.
    Inline,
    /// On their own, before its record.
    Kept,
}

label!(Content { Inline = "inline", Kept = "kept" });

/// What is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// The journal and the bytes of small files.
    Journal,
    /// Larger files.
    Files,
}

label!(Volume { Journal = "journal", Files = "files" });

/// What was synced of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncedFile {
    /// The bytes of a file.
    Data,
    /// A file with its attributes.
    File,
    /// A directory.
    Directory,
}

label!(SyncedFile { Data = "data", File = "file", Directory = "directory" });

#[cfg(test)]
mod tests {
    use super::*;

    fn all<L: Label>() -> Vec<&'static str> {
        L::ALL.iter().enumerate().for_each(|(place, one)| assert_eq!(one.place(), place));
        L::ALL.iter().map(|one| one.text()).collect()
    }

    #[test]
    fn each_value_has_a_place_and_a_text_of_its_own() {
        for mut texts in [all::<Door>(), all::<Refused>(), all::<LoginFailure>(), all::<Content>(), all::<Volume>()] {
            let count = texts.len();
            texts.sort_unstable();
            texts.dedup();
            assert_eq!(texts.len(), count, "{texts:?}");
        }
        assert_eq!(all::<SyncedFile>(), ["data", "file", "directory"]);
        assert_eq!((Door::named("sftp"), Door::named("ftps")), (Door::Sftp, Door::Other));
    }
}
