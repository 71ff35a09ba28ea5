//! What all connections of the door share, and the door as the accept loop knows it.

use std::{borrow::Cow, sync::Arc, time::Duration};

use russh::{SshId, keys::PrivateKey, server};

use crate::{
    doors::core::{Accepted, DoorContext, SessionDoor, words},
    partners::Denied,
};

use super::{
    Options, algorithms, authorities::Authorities, connection, handshake_threads::HandshakeThreads, shut_out::ShutOut,
};

const VERSION: &str = "SSH-2.0-Forebay";
/// The bytes that a client may send before it waits for us.
const WINDOW_BYTES: u32 = 2 << 20;
/// The longest SSH packet: the larger, the fewer.
const PACKET_BYTES: u32 = 65_535;
/// Packets of a channel that wait to be looked at.
const WAITING_PACKETS: usize = 16;
/// The time that russh waits for a client after the time that we give it: so the end of a session
/// is ours to say.
const BEHIND_IDLE: Duration = Duration::from_secs(2);

/// The context of the SFTP door.
pub(super) struct SftpContext {
    pub(super) common: DoorContext,
    pub(super) options: Options,
    pub(super) ssh: Arc<server::Config>,
    pub(super) authorities: Option<Authorities>,
    pub(super) handshakes: Arc<HandshakeThreads>,
    /// Addresses of clients that found no algorithm in common.
    pub(super) shut_out: ShutOut,
}

impl SessionDoor for SftpContext {
    type Entrance = ();

    fn common(&self) -> &DoorContext {
        &self.common
    }

    /// A line in front of the version is for people (RFC 4253, 4.2).
    fn turn_away((): (), denied: &Denied) -> Option<String> {
        Some(format!("{denied}\r\n"))
    }

    async fn serve(self: Arc<Self>, accepted: Accepted<()>) {
        connection::serve(self, accepted).await;
    }
}

impl SftpContext {
    /// The text that is shown before the login.
    pub(super) fn banner(&self) -> Option<String> {
        let welcome = self.common.welcome().map(|welcome| words::capitalised(&welcome));
        let texts: Vec<_> = welcome.into_iter().chain(self.options.banner.clone()).collect();
        (!texts.is_empty()).then(|| format!("{}\r\n", texts.join("\r\n").trim_end()))
    }
}

/// SSH as it is spoken here.
///
/// What is not set here is russh's default.
pub(super) fn ssh_config(options: &Options, keys: Vec<PrivateKey>, idle: Duration) -> server::Config {
    let rekey = usize::try_from(options.rekey_after).unwrap_or(1 << 30);
    server::Config {
        server_id: SshId::Standard(Cow::Borrowed(VERSION)),
        methods: [russh::MethodKind::PublicKey, russh::MethodKind::Password].as_slice().into(),
        // A wrong password takes as long as a right one, and waits grow with failures; keys cannot be guessed.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys,
        limits: russh::Limits::new(rekey, rekey, options.rekey_every),
        window_size: WINDOW_BYTES,
        maximum_packet_size: PACKET_BYTES,
        channel_buffer_size: WAITING_PACKETS,
        event_buffer_size: WAITING_PACKETS,
        preferred: algorithms::preferred(&options.kex, &options.ciphers, &options.macs, &options.host_key_algorithms),
        max_auth_attempts: options.max_attempts as usize,
        inactivity_timeout: Some(idle + BEHIND_IDLE),
        nodelay: true,
        ..server::Config::default()
    }
}
