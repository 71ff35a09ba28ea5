//! `forebay demo`: the announcement's story by itself, in under a minute, each claim checked as it
//! goes.
//!
//! It plays with a real server process, real sockets and a real `kill -9`, on temporary data that
//! goes afterwards. A line with a tick is printed only when what it says was looked at and found to
//! be so; the first that is not ends the demo with exit code 1. What the processor did is read from
//! what it wrote itself, and not from the queue.

mod client;
mod server;
mod sftp;

use std::{fs, path::Path, time::Duration};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use chrono_tz::America::Chicago;
use forebay_queue::State;

use self::{
    client::{Client, get},
    server::{Server, ask, failed},
    sftp::Sftp,
};
use super::{
    args::DemoArgs,
    context::{Context, complain, say},
    paint::Tone,
};
use crate::{
    operate::{FileView, Problem, Reply, Request, time_input},
    server::private_dir,
};

/// The time from the demo's start to the end of its window.
/// Long enough for two starts and five uploads on a slow machine, and still no bore. When it is too
/// short, the demo says so and fails.
const WINDOW: TimeDelta = TimeDelta::seconds(18);
/// The files that the partner uploads, in this order.
const FILES: [&str; 5] = ["vaccines-1.hl7", "vaccines-2.hl7", "vaccines-3.hl7", "vaccines-4.hl7", "vaccines-5.hl7"];
const MESSAGE: &str = "The server is temporarily unable to service your request due to maintenance downtime or \
                       capacity problems. Please try again later.";

/// Plays the story.
/// # Errors
/// The first claim that did not hold, or the first thing that could not be done.
pub(super) async fn run(context: &Context, args: &DemoArgs) -> Result<(), Problem> {
    let dir = std::env::temp_dir().join(format!("forebay-demo-{}", uuid::Uuid::new_v4().simple()));
    // It will hold a password and files: nobody else may look in.
    private_dir(&dir).map_err(|error| failed("make the temporary directory", &error))?;
    // Interrupted or not, the temporary data goes below.
    let told = tokio::select! {
        told = Story { context, step: 0 }.play(&dir) => told,
        // The server is killed with the story, and the temporary data goes.
        _ = tokio::signal::ctrl_c() => Err(Problem::failed("it was interrupted")),
    };
    if args.keep {
        say(&format!("the data is kept in {}", dir.display()))?;
    } else if let Err(error) = fs::remove_dir_all(&dir) {
        complain(&format!("forebay: cannot remove {}: {error}", dir.display()));
    }
    told.map_err(|problem| Problem::failed(format!("the demo failed: {problem}")))
}

struct Story<'a> {
    context: &'a Context,
    step: usize,
}

impl Story<'_> {
    async fn play(mut self, dir: &Path) -> Result<(), Problem> {
        let began = self.context.clock.now();
        // The schedule knows whole seconds; the window began a minute ago and ends soon.
        let ends = (began + WINDOW).trunc_subsecs(0);
        write_files(dir, ends)?;
        let (server, password) = self.start_in_window(dir, began, ends).await?;
        self.refuse_web(&server).await?;
        self.upload_in_window(dir, &server, &password, ends).await?;
        let server = self.kill_and_restart(dir, server, &password, ends).await?;
        self.end_window(dir, &server, &password, ends).await?;
        server.stop().await?;

        let took = (self.context.clock.now() - began).num_seconds();
        let done = format!(
            "All of it was so, in {took} s: uploads at any time, nothing processed in the window, nothing lost, no one resent anything."
        );
        say("")?;
        say(&self.context.paint.tone(Tone::Good, &done))
    }

    async fn start_in_window(
        &mut self,
        dir: &Path,
        began: DateTime<Utc>,
        ends: DateTime<Utc>,
    ) -> Result<(Server, String), Problem> {
        self.step("A maintenance window is open. The server starts in it.")?;
        let server = Server::start(dir).await?;
        self.fact(&format!(
            "window \"Planned maintenance\" until {}; FTP on {}, SFTP on {}, web on {}",
            time_input::short(ends, Chicago, began),
            server.ftp,
            server.sftp,
            server.web
        ))?;
        let password = self.partner(dir).await?;
        Ok((server, password))
    }

    async fn refuse_web(&mut self, server: &Server) -> Result<(), Problem> {
        self.step("Web users and web services are told to come back.")?;
        let (code, answer) = get(server.web, "/").await.map_err(|error| failed("ask the web face", &error))?;
        // RFC 9110, 15.6.4: with Retry-After, so that programs come back by themselves.
        check(code == 503, &format!("the web answered {code}, not 503"))?;
        check(answer.contains("temporarily unable"), "the web did not show the window's message")?;
        let retry = answer.lines().find(|line| line.to_ascii_lowercase().starts_with("retry-after:"));
        let retry = retry.ok_or_else(|| Problem::failed("the web's answer has no Retry-After"))?;
        self.fact(&format!("GET / answers 503 Service Unavailable, {retry}"))
    }

    async fn upload_in_window(
        &mut self,
        dir: &Path,
        server: &Server,
        password: &str,
        ends: DateTime<Utc>,
    ) -> Result<(), Problem> {
        self.step("The partner uploads all the same.")?;
        let mut partner = login(server, password).await?;
        for name in &FILES[..2] {
            self.upload(&mut partner, name).await?;
        }
        self.upload_by_sftp(server, password, FILES[2]).await?;
        self.all_deferred(&server.files().await?, 3, ends)?;
        self.no_runs(dir)
    }

    async fn kill_and_restart(
        &mut self,
        dir: &Path,
        server: Server,
        password: &str,
        ends: DateTime<Utc>,
    ) -> Result<Server, Problem> {
        self.step("The server is killed with -9, and started again. The window is still open.")?;
        let pid = server.pid().unwrap_or_default();
        server.kill().await?;
        self.fact(&format!("kill -9 {pid}"))?;
        let server = Server::start(dir).await?;
        self.all_deferred(&server.files().await?, 3, ends)?;
        let mut partner = login(&server, password).await?;
        self.upload(&mut partner, FILES[3]).await?;
        self.upload_by_sftp(&server, password, FILES[4]).await?;
        self.all_deferred(&server.files().await?, FILES.len(), ends)?;
        // By FTP, as the partner sees them: after a crash too.
        let names = partner.names("").await.map_err(|error| failed("list the login directory", &error))?;
        check(FILES.iter().all(|name| names.iter().any(|found| found == name)), "the partner does not see all files")?;
        partner.quit().await.map_err(|error| failed("end the session", &error))?;
        self.no_runs(dir)?;
        check(self.context.clock.now() < ends, "this machine was too slow: the window ended before all was shown")?;
        Ok(server)
    }

    async fn end_window(
        &mut self,
        dir: &Path,
        server: &Server,
        password: &str,
        ends: DateTime<Utc>,
    ) -> Result<(), Problem> {
        self.step("The window ends. Nobody does anything.")?;
        let files = self.all_done(server).await?;
        self.in_order(dir, &files, ends)?;
        let late = self.context.clock.now() - ends;
        self.fact(&format!(
            "all {} files were processed, once each and in order, {} after the end",
            files.len(),
            time_input::span(late)
        ))?;
        let (code, _) = get(server.web, "/").await.map_err(|error| failed("ask the web face", &error))?;
        check(code == 200, &format!("the web answered {code} after the window, not 200"))?;
        self.fact("GET / answers 200 OK")?;
        self.receipts(server, password, &files).await
    }

    fn step(&mut self, text: &str) -> Result<(), Problem> {
        self.step += 1;
        let title = format!("{}. {text}", self.step);
        say(&format!("\n{}", self.context.paint.tone(Tone::Strong, &title)))
    }

    fn fact(&self, text: &str) -> Result<(), Problem> {
        say(&format!("   {} {text}", self.context.paint.tone(Tone::Good, "✓")))
    }

    async fn partner(&self, dir: &Path) -> Result<String, Problem> {
        let replies =
            ask(dir, Request::PartnerAdd { name: "clinic".to_owned(), password: None, take_over: false }).await?;
        let password = replies.into_iter().find_map(|reply| match reply {
            Reply::Password(password) => Some(password.password),
            _ => None,
        });
        self.fact("partner \"clinic\" has an account: forebay partner add clinic")?;
        password.ok_or_else(|| Problem::failed("no password was generated"))
    }

    async fn upload(&self, partner: &mut Client, name: &str) -> Result<(), Problem> {
        let reply =
            partner.store(name, &contents(name)).await.map_err(|error| failed(&format!("upload {name}"), &error))?;
        check(reply.starts_with("226") || reply.starts_with("250"), &format!("{name} got \"{reply}\""))?;
        self.fact(&format!("STOR {name}: {reply}"))
    }

    async fn upload_by_sftp(&self, server: &Server, password: &str, name: &str) -> Result<(), Problem> {
        let login = Sftp::login(server.sftp, &server.host_keys, "clinic", password).await;
        let mut partner = login.map_err(|error| failed("log in over SFTP", &error))?;
        let told = partner.store(name, &contents(name)).await;
        let told = told.map_err(|error| failed(&format!("upload {name}"), &error))?;
        check(told.starts_with("Received "), &format!("{name} got \"{told}\""))?;
        self.fact(&format!("SFTP {name}: {told}"))
    }

    /// All files of the queue, in the order of the uploads, none attempted.
    fn all_deferred(&self, files: &[FileView], count: usize, ends: DateTime<Utc>) -> Result<(), Problem> {
        check(files.len() == count, &format!("the queue has {} files, not {count}", files.len()))?;
        for (file, name) in files.iter().zip(FILES) {
            check(file.name == name, &format!("{} stands where {name} should", file.name))?;
            check(file.state == State::Ready && file.deferred, &format!("{name} is {} and not deferred", file.state))?;
            check(file.resumes_at == Some(ends), &format!("{name} resumes at {:?}, not {ends}", file.resumes_at))?;
            check(file.attempts == 0, &format!("{name} was attempted"))?;
        }
        let at = time_input::short(ends, Chicago, self.context.clock.now());
        self.fact(&format!("forebay queue list: {count} files, all deferred, resumes at {at}"))
    }

    fn no_runs(&self, dir: &Path) -> Result<(), Problem> {
        let runs = runs(dir);
        check(runs.is_empty(), &format!("the processor ran in the window: {runs:?}"))?;
        self.fact("the processor ran 0 times")
    }

    /// Waits until the server says that every file is done.
    ///
    /// # Errors
    /// When not all are done in forty seconds, with the state of each.
    async fn all_done(&self, server: &Server) -> Result<Vec<FileView>, Problem> {
        let patience = Duration::from_secs(40);
        let waiting = async {
            loop {
                let files = server.files().await?;
                if files.len() == FILES.len() && files.iter().all(|file| file.state == State::Done) {
                    return Ok(files);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        match tokio::time::timeout(patience, waiting).await {
            Ok(files) => files,
            Err(_) => {
                let files = server.files().await?;
                let states: Vec<_> = files.iter().map(|file| format!("{} {}", file.name, file.state)).collect();
                Err(Problem::failed(format!("not all was processed in 40 s: {}", states.join(", "))))
            }
        }
    }

    /// The processor, a program of the demo's, has noted its runs.
    fn in_order(&self, dir: &Path, files: &[FileView], ends: DateTime<Utc>) -> Result<(), Problem> {
        let runs = runs(dir);
        // In order and once each: the list of names is compared as a whole.
        let names: Vec<_> = runs.iter().map(|(name, _, _)| name.as_str()).collect();
        // The names as a whole: each once, and in the order of the uploads.
        check(names == FILES, &format!("processed in the order {names:?}"))?;
        for ((name, id, at), file) in runs.iter().zip(files) {
            check(*id == file.id.to_string(), &format!("{name} was processed under the id {id}"))?;
            check(
                *at >= ends.timestamp(),
                &format!("{name} was processed {} s before the end", ends.timestamp() - at),
            )?;
            let put =
                fs::read(dir.join("processed").join(name)).map_err(|error| failed(&format!("read {name}"), &error))?;
            check(put == contents(name), &format!("{name} came out with other bytes"))?;
        }
        Ok(())
    }

    async fn receipts(&self, server: &Server, password: &str, files: &[FileView]) -> Result<(), Problem> {
        let mut partner = login(server, password).await?;
        for file in files {
            let path = format!("out/{}.{}.receipt.json", file.name, file.id);
            let receipt = partner.fetch(&path).await.map_err(|error| failed("fetch a receipt", &error))?;
            let receipt: serde_json::Value = serde_json::from_slice(&receipt).unwrap_or_default();
            let state = receipt.get("state").and_then(serde_json::Value::as_str);
            check(state == Some("done"), &format!("the receipt of {} says {state:?}", file.name))?;
        }
        partner.quit().await.map_err(|error| failed("end the session", &error))?;
        self.fact("the partner finds a receipt for each file in out/")
    }
}

fn check(holds: bool, otherwise: &str) -> Result<(), Problem> {
    if holds { Ok(()) } else { Err(Problem::failed(otherwise)) }
}

async fn login(server: &Server, password: &str) -> Result<Client, Problem> {
    Client::login(server.ftp, "clinic", password).await.map_err(|error| failed("log in over FTP", &error))
}

fn contents(name: &str) -> Vec<u8> {
    format!("MSH|^~\\&|CLINIC|A|REGISTRY|TX|20260424190000||VXU^V04|{name}|P|2.5.1\r").repeat(200).into_bytes()
}

/// The window is written as whole local seconds, as an operator would.
fn write_files(dir: &Path, ends: DateTime<Utc>) -> Result<(), Problem> {
    let local = |at: DateTime<Utc>| at.with_timezone(&Chicago).format("%Y-%m-%d %H:%M:%S").to_string();
    let schedule = format!(
        "timezone = \"America/Chicago\"\n\n[[window]]\nname    = \"Planned maintenance\"\nstart   = \"{}\"\nend     = \"{}\"\n\
         reason  = \"System maintenance\"\nmessage = \"{MESSAGE}\"\n",
        local(ends - TimeDelta::minutes(1)),
        local(ends)
    );
    // The processor: copies its standard input and notes that it ran. `read` and `printf` are the shell's own.
    let script = "#!/bin/sh\nset -e\ncd \"${0%/*}\"\ncat > \"processed/$FOREBAY_NAME\"\n\
                  printf '%s %s %s\\n' \"$FOREBAY_NAME\" \"$FOREBAY_FILE_ID\" \"$(date +%s)\" >> runs\n";
    let config = "data = \"data\"\n[ftp]\nlisten = \"127.0.0.1:0\"\ntls = \"off\"\npassive_ports = \"20000-60000\"\n\
                  [sftp]\nlisten = \"127.0.0.1:0\"\nhost_key_algorithms = [\"ssh-ed25519\"]\n\
                  [web]\nlisten = \"127.0.0.1:0\"\n[schedule]\nfile = \"maintenance.toml\"\n\
                  [[route]]\nname = \"registry\"\nprocessor = \"exec\"\n";
    let command = format!("command = [{}]\n", toml_text(&dir.join("load").display().to_string()));
    let write = |name: &str, text: &str| {
        fs::write(dir.join(name), text).map_err(|error| failed(&format!("write {name}"), &error))
    };
    write("maintenance.toml", &schedule)?;
    write("forebay.toml", &format!("{config}{command}"))?;
    write("load", script)?;
    use std::os::unix::fs::PermissionsExt as _;
    // Only its owner may run it: the directory is private as well.
    let executable = fs::set_permissions(dir.join("load"), fs::Permissions::from_mode(0o700));
    executable
        .and_then(|()| fs::create_dir(dir.join("processed")))
        .map_err(|error| failed("prepare the processor", &error))
}

fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The runs that the processor has noted: name, id, and time in seconds of the epoch.
fn runs(dir: &Path) -> Vec<(String, String, i64)> {
    let text = fs::read_to_string(dir.join("runs")).unwrap_or_default();
    let parse = |line: &str| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    text.lines().filter_map(parse).collect()
}
