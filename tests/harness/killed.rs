//! Clients that are killed with SIGKILL in the middle of an upload.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use forebay::partners::AuthorizedKey;
use forebay_queue::{ClaimRequest, Order, RouteRequest, State};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::{Door, House, PARTNER, PASSWORD, files_below, wait_until};

pub const CLIENTS: usize = 200;
const AT_ONCE: usize = 4;

/// Kills 200 uploading clients, each after a time of its own, and looks at what the house made of it.
pub fn killed_clients_commit_nothing(house: &House, door: Door) {
    let seed = kill(CLIENTS, house, door.address(house.addresses()), door);
    let held = held_and_not_committed(house, seed);
    if door == Door::Sftp {
        // Nothing but CLOSE ends a file there, so nothing depends on when the end of a client is seen.
        assert_eq!(held, 0, "seed {seed}: killed clients left files");
        let partials = files_below(&house.path("partials")).len();
        assert_eq!(partials, CLIENTS, "seed {seed}: not all that came is kept for the clients to go on");
    }
    // A client dies by and by: its data ends, and its control connection somewhat later, on a busy machine more so. No reply
    // waits for that, and one that reaches the client's system in between may have been read for all that can be told from
    // here: the file is held for an operator. That stays the smaller part; over TLS without close_notify it is rarer.
    let most = CLIENTS / 4;
    assert!(held <= most, "seed {seed}: {held} of {CLIENTS} killed clients were seen late");
    println!("{held} of {CLIENTS} were seen late and are held");
}

/// Kills so many clients that upload to `at`; the seed of when.
pub fn kill(clients: usize, house: &House, at: SocketAddr, door: Door) -> u64 {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    if door == Door::Sftp {
        sftp_prepare(house);
    }
    thread::scope(|scope| {
        for lane in 0..AT_ONCE {
            let mut random = StdRng::seed_from_u64(seed ^ lane as u64);
            scope.spawn(move || {
                for number in 0..clients / AT_ONCE {
                    let (after, how) =
                        (Duration::from_micros(random.random_range(0..30_000)), random.random_range(0..3));
                    match door {
                        Door::Ftp => kill_ftp(at, "plain", after),
                        Door::Ftps => kill_ftp(at, "tls", after),
                        Door::Sftp => kill_sftp(house, at, &format!("{lane}-{number}.hl7"), after, how),
                    }
                }
            });
        }
    });
    wait_until("all sessions end", || house.partners.sessions().is_empty());
    house.block_on(house.ingest.idle());
    let begun = files_below(&house.path("partials")).len() + house.entries().len();
    assert!(begun > clients / 2, "seed {seed}: only {begun} were begun: were the clients killed in mid-file?");
    seed
}

/// Nothing of what killed clients sent is given to a processor; gives how many are held for an operator or a name.
/// What was accepted and taken back, since nobody read the reply, is a partial like any other.
pub fn held_and_not_committed(house: &House, seed: u64) -> usize {
    let routes = vec![RouteRequest { name: "all".into(), slots: 1_000, order: Order::None, per_partner: 0 }];
    let request = ClaimRequest { routes, limit: 1_000, lease_ms: 60_000, ..ClaimRequest::default() };
    wait_until("what was accepted is decided", || {
        let claims = house.block_on(house.queue.claim(request.clone(), chrono::Utc::now())).unwrap();
        assert!(claims.is_empty(), "seed {seed}: a processor gets what killed clients sent: {claims:#?}");
        house.entries().iter().all(|entry| entry.state != State::Ready)
    });
    let entries = house.entries();
    let entries: Vec<_> = entries.into_iter().filter(|entry| entry.state != State::Withdrawn).collect();
    let waits = |state| matches!(state, State::Held | State::Unfinished);
    let committed: Vec<_> = entries.iter().filter(|entry| !waits(entry.state)).collect();
    assert!(committed.is_empty(), "seed {seed}: killed clients committed {committed:#?}");
    let kept: Vec<_> = entries.iter().filter(|entry| entry.content.is_none()).map(|entry| entry.id).collect();
    let mut spooled = house.block_on(house.spool.ids()).unwrap();
    spooled.retain(|id| !kept.contains(id));
    assert_eq!(spooled, [], "seed {seed}: files in the spool that no entry is of");
    entries.len()
}

fn kill_ftp(at: SocketAddr, how: &str, after: Duration) {
    let (host, port) = (at.ip().to_string(), at.port().to_string());
    let mut client = Command::new("python3")
        .args(["-c", include_str!("endless_upload.py"), &host, &port, PARTNER, PASSWORD, how])
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let out = BufReader::new(client.stdout.take().expect("piped"));
    assert!(out.lines().any(|line| line.is_ok_and(|line| line == "sending")), "the client never sent");
    // The moment of the kill is what is random here; nothing is waited for.
    thread::sleep(after);
    client.kill().unwrap();
    client.wait().unwrap();
}

/// A key that lets OpenSSH's client in, and a file that takes it a minute to send.
fn sftp_prepare(house: &House) {
    let key = house.path("id");
    let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(&key).output();
    assert!(made.expect("tests/run installs ssh-keygen").status.success());
    let line = fs::read_to_string(key.with_extension("pub")).unwrap();
    house.partners.add_key(&PARTNER.parse().unwrap(), AuthorizedKey::parse(line.trim()).unwrap()).unwrap();
    fs::File::create(house.path("endless")).unwrap().set_len(1 << 30).unwrap();
}

/// OpenSSH's client is two processes: sftp, and the ssh that it speaks through. Any of them may die first.
fn kill_sftp(house: &House, at: SocketAddr, name: &str, after: Duration, how: u32) {
    let batch = house.path(&format!("batch-{name}"));
    fs::write(&batch, format!("put {} {name}\n", house.path("endless").display())).unwrap();
    let mut client = sftp_client(house, at, batch);
    let doing = format!("put {name}");
    wait_until("bytes of it have come", || {
        assert!(client.try_wait().unwrap().is_none(), "the client never sent");
        house.partners.sessions().iter().any(|session| session.doing == doing && session.bytes > 0)
    });
    thread::sleep(after);
    let sftp = Pid::from_child(&client);
    match how {
        0 => kill_process(sftp, Signal::KILL).unwrap(),
        1 => kill_process(child_of(sftp), Signal::KILL).unwrap(),
        _ => kill_process_group(sftp, Signal::KILL).unwrap(),
    }
    client.wait().unwrap();
}

fn sftp_client(house: &House, at: SocketAddr, batch: PathBuf) -> Child {
    Command::new("sftp")
        .args(["-q", "-F", "none", "-l", "80000", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i"])
        .arg(house.path("id"))
        .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"])
        .args(["-P", &at.port().to_string(), "-b"])
        .arg(batch)
        .arg(format!("{PARTNER}@{}", at.ip()))
        .env_remove("SSH_AUTH_SOCK")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("tests/run installs sftp")
}

fn child_of(parent: Pid) -> Pid {
    let id = parent.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let child = children.split_whitespace().next().expect("sftp has started ssh");
    Pid::from_raw(child.parse().unwrap()).unwrap()
}
