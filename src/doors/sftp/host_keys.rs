//! The server's own keys, by which clients know it.
//!
//! # Guarantees
//! A key that was made is on stable storage before the first client sees it: after a crash the server is known by the
//! same keys (`durable_file`). Nobody else can read them.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use russh::keys::{
    Algorithm, EcdsaCurve, HashAlg, PrivateKey,
    ssh_key::{LineEnding, private::RsaKeypair},
};
use tracing::{info, warn};

use super::{Options, authorities::Authorities};
use crate::{
    durable_file::{self, WriteError},
    units::text_file::decode,
};

/// The keys that are made, and the names of their files.
const MADE: [(&str, Kind); 3] =
    [("ssh_host_ed25519_key", Kind::Ed25519), ("ssh_host_ecdsa_key", Kind::Ecdsa), ("ssh_host_rsa_key", Kind::Rsa)];
const RSA_BITS: usize = 3072;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Ed25519,
    Ecdsa,
    Rsa,
}

/// The reason why there is no host key.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// A file or directory cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// The step that failed.
        doing: &'static str,
        /// Its file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is no private key without a passphrase.
    #[error("{} is no private host key that can be used: {what}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Its fault.
        what: String,
    },
    /// None of the keys is of a kind that is offered.
    #[error("no host key is of a kind that [sftp] host_key_algorithms offers")]
    None,
}

/// A host key as it is shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKeyInfo {
    /// Its kind, such as `ssh-ed25519`.
    pub algorithm: String,
    /// Its fingerprint, `SHA256:…`, as OpenSSH shows it.
    pub fingerprint: String,
}

impl HostKeyInfo {
    fn of(key: &PrivateKey) -> Self {
        let algorithm = match key.algorithm() {
            Algorithm::Rsa { .. } => "ssh-rsa".to_owned(),
            other => other.as_str().to_owned(),
        };
        Self { algorithm, fingerprint: key.fingerprint(HashAlg::Sha256).to_string() }
    }
}

/// Loads the configured keys, or those of `directory`, which are made when they are missing. Those that are offered, in
/// the order of the algorithms.
pub(super) fn load(options: &Options, directory: &Path) -> Result<Vec<PrivateKey>, HostKeyError> {
    let all = match options.host_keys.is_empty() {
        true => own(directory, options.host_key_algorithms.iter().any(|name| name.starts_with("rsa-")))?,
        false => options.host_keys.iter().map(|path| read(path)).collect::<Result<_, _>>()?,
    };
    let mut offered: Vec<PrivateKey> = Vec::new();
    for name in &options.host_key_algorithms {
        for key in all.iter().filter(|key| signs(&key.algorithm(), name)) {
            // An RSA key signs in two ways and is offered once.
            if !offered.iter().any(|there| there.public_key() == key.public_key()) {
                offered.push(key.clone());
            }
        }
    }
    if offered.is_empty() { Err(HostKeyError::None) } else { Ok(offered) }
}

/// Every fault of the files that the door reads at its start, each with its key. Nothing is made: what is missing of the
/// door's own keys is made at the start.
#[must_use]
pub fn look(options: &Options, directory: &Path) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut kinds = Vec::new();
    let mut say = |key: String, read: Result<PrivateKey, HostKeyError>| match read {
        Ok(key) => kinds.push(key.algorithm()),
        Err(error) => faults.push((key, error.to_string())),
    };
    for (at, path) in options.host_keys.iter().enumerate() {
        say(format!("host_keys[{at}]"), read(path));
    }
    // Those that are there; what is missing is made at the start.
    let own = MADE.iter().map(|(name, _)| directory.join(name)).filter(|path| path.exists());
    own.filter(|_| options.host_keys.is_empty()).for_each(|path| say("host_keys".to_owned(), read(&path)));
    let offers = |kind: &Algorithm| options.host_key_algorithms.iter().any(|name| signs(kind, name));
    if faults.is_empty() && !options.host_keys.is_empty() && !kinds.iter().any(offers) {
        faults.push(("host_keys".to_owned(), HostKeyError::None.to_string()));
    }
    if let Some(Err(error)) = options.trusted_ca.as_deref().map(Authorities::read) {
        faults.push(("trusted_ca".to_owned(), error.to_string()));
    }
    faults
}

/// Returns true if a key of this kind signs with the algorithm of this name.
fn signs(kind: &Algorithm, name: &str) -> bool {
    match kind {
        Algorithm::Rsa { .. } => name.starts_with("rsa-"),
        other => other.as_str() == name,
    }
}

/// The keys in the forms in which people compare them.
pub(super) fn shown(keys: &[PrivateKey]) -> Vec<HostKeyInfo> {
    keys.iter().map(HostKeyInfo::of).collect()
}

/// Loads the door's own keys, and makes those that are missing. An RSA key takes a second to make:
/// only where it is offered.
fn own(directory: &Path, with_rsa: bool) -> Result<Vec<PrivateKey>, HostKeyError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(io_error("create", directory))?;
    let mut keys = Vec::new();
    for (name, kind) in MADE {
        // Before it is made: a second of a processor for a key that nobody is offered.
        if matches!(kind, Kind::Rsa) && !with_rsa {
            continue;
        }
        let path = directory.join(name);
        match read(&path) {
            Err(HostKeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                keys.push(make(&path, kind)?);
            }
            // One that is there and cannot be read is an error: a new one in its place would look
            // like another server to every client.
            found => keys.push(found?),
        }
    }
    Ok(keys)
}

fn read(path: &Path) -> Result<PrivateKey, HostKeyError> {
    let text = fs::read(path).and_then(|bytes| decode(bytes).map_err(io::Error::other));
    let text = text.map_err(io_error("read", path))?;
    let mode = fs::metadata(path).map_err(io_error("look at", path))?.permissions().mode();
    // A warning and no refusal: keys that are configured are the operator's.
    if mode & 0o077 != 0 {
        warn!(path = %path.display(), "others may read this private host key: chmod 600 is what it wants");
    }
    let key = russh::keys::decode_secret_key(&text, None).map_err(|error| match error {
        russh::keys::Error::KeyIsEncrypted => {
            "it is encrypted, and nobody is there to give its passphrase: `ssh-keygen -p -N \"\" -f FILE` takes it off"
                .to_owned()
        }
        other => other.to_string(),
    });
    key.map_err(|what| HostKeyError::Key { path: path.to_owned(), what })
}

/// Makes a key and writes it durably.
fn make(path: &Path, kind: Kind) -> Result<PrivateKey, HostKeyError> {
    let wrong = |what: String| HostKeyError::Key { path: path.to_owned(), what };
    let mut random = rand::rng();
    let key = match kind {
        Kind::Ed25519 => PrivateKey::random(&mut random, Algorithm::Ed25519),
        Kind::Ecdsa => PrivateKey::random(&mut random, Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }),
        Kind::Rsa => RsaKeypair::random(&mut random, RSA_BITS).map(PrivateKey::from),
    };
    let key = key.map_err(|error| wrong(error.to_string()))?;
    let text = key.to_openssh(LineEnding::LF).map_err(|error| wrong(error.to_string()))?;
    // On disk before it is used: a key that a crash takes back would make clients warn of another
    // server.
    let written = durable_file::replace(path, text.as_bytes());
    written.map_err(|WriteError { doing, path, source }| HostKeyError::Io { doing, path, source })?;
    info!(path = %path.display(), fingerprint = %key.fingerprint(HashAlg::Sha256), "made a host key");
    Ok(key)
}

fn io_error<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> HostKeyError + 'a {
    move |source| HostKeyError::Io { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let ssh = dir.path().join("ssh");
        let first = load(&Options::default(), &ssh).unwrap();
        let kinds: Vec<_> = shown(&first).into_iter().map(|key| key.algorithm).collect();
        assert_eq!(kinds, ["ssh-ed25519", "ssh-rsa"], "the NIST curve is there and not offered by default");
        for (name, _) in MADE {
            assert_eq!(fs::metadata(ssh.join(name)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(shown(&load(&Options::default(), &ssh).unwrap()), shown(&first));
        let ecdsa = Options { host_key_algorithms: vec!["ecdsa-sha2-nistp256".to_owned()], ..Options::default() };
        assert_eq!(load(&ecdsa, &ssh).unwrap().len(), 1);
        fs::write(ssh.join("ssh_host_rsa_key"), "torn").unwrap();
        assert!(matches!(load(&Options::default(), &ssh), Err(HostKeyError::Key { .. })), "never made anew in silence");
    }
}
