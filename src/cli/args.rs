//! The grammar of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use forebay_queue::{MessageResult, State};

use crate::units;

/// Takes files from partners at every hour, and hands them on while the maintenance gate is open.
#[derive(Debug, Parser)]
#[command(
    name = "forebay",
    version,
    max_term_width = 110,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 needs the running server.\n\
                  Configuration: --config, else $FOREBAY_CONFIG, ./forebay.toml, /etc/forebay/forebay.toml, else built-in defaults."
)]
pub(super) struct Cli {
    /// Options that every verb takes.
    #[command(flatten)]
    pub(super) global: Global,
    /// The verb.
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// Options that every verb takes, before or after it.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Global {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(super) config: Option<PathBuf>,
    /// The data directory; overrides the configuration
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub(super) data: Option<PathBuf>,
    /// One JSON object a line instead of text
    #[arg(long, global = true, help_heading = "Global options")]
    pub(super) json: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run the server
    Serve,
    /// Run the programs of routes for a server, as a user of their own
    Runner(RunnerArgs),
    /// See the whole story by itself in under a minute, on temporary data
    Demo(DemoArgs),
    /// Write a commented forebay.toml and maintenance.toml to start from
    Init(InitArgs),
    /// Report every fault of configuration and schedule; binds nothing
    Check,
    /// Doors, sessions, gate, queue, disk, and what needs an operator
    Status,
    /// Accounts of partners
    Partner {
        /// The action.
        #[command(subcommand)]
        verb: PartnerVerb,
    },
    /// Sessions of partners: who is there, from where, doing what
    Sessions {
        /// The action; lists the sessions if not given.
        #[command(subcommand)]
        verb: Option<SessionsVerb>,
    },
    /// Files: what is there, and what to do with it
    Queue {
        /// The action.
        #[command(subcommand)]
        verb: QueueVerb,
    },
    /// The messages of a file that is handed over message by message
    Message {
        /// The action.
        #[command(subcommand)]
        verb: MessageVerb,
    },
    /// The maintenance gate
    Gate {
        /// The action.
        #[command(subcommand)]
        verb: GateVerb,
    },
    /// Read an HL7 v2 file as Forebay does: messages, envelopes and every fault; needs no server and no configuration
    Inspect(InspectArgs),
    /// The journal, readable
    Audit(AuditArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Options of `runner`.
#[derive(Debug, Args)]
pub(super) struct RunnerArgs {
    /// Where to listen, as the route's `runner` says
    #[arg(long, value_name = "PATH", default_value = "/run/forebay-runner/socket")]
    pub(super) socket: PathBuf,
    /// Where files lie while programs work on them
    #[arg(long, value_name = "DIR", default_value = "/var/lib/forebay-runner")]
    pub(super) directory: PathBuf,
    /// The server's user, by name or number: nobody else is served
    #[arg(long, value_name = "USER", default_value = "forebay")]
    pub(super) server: String,
}

/// Options of `demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Keep the temporary data and say where it is
    #[arg(long)]
    pub(super) keep: bool,
}

/// Options of `inspect`.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The file, or - for standard input
    pub(super) file: PathBuf,
    /// The longest message that is no fault
    #[arg(long, value_name = "SIZE", default_value = "16 MiB", value_parser = units::parse_size)]
    pub(super) max_message: u64,
}

/// Options of `init`.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The directory to write to; the present one if not given
    #[arg(value_name = "DIR", default_value = ".")]
    pub(super) dir: PathBuf,
    /// Overwrite files that are there
    #[arg(long)]
    pub(super) force: bool,
}

/// Verbs of `partner key`.
#[derive(Debug, Subcommand)]
pub(super) enum KeyVerb {
    /// Let the partner log in with the public key in a file, in OpenSSH's form
    Add {
        /// The partner
        name: String,
        /// The file, or - for standard input
        file: PathBuf,
    },
    /// The partner's keys
    List {
        /// The partner
        name: String,
    },
    /// No longer let the partner log in with a key
    Remove {
        /// The partner
        name: String,
        /// The key's fingerprint, SHA256:…
        fingerprint: String,
    },
}

/// Verbs of `partner token`.
#[derive(Debug, Subcommand)]
pub(super) enum TokenVerb {
    /// Make a token that the partner logs in with over web services; it is shown this once
    Add {
        /// The partner
        name: String,
        /// When it ends: a duration such as 90d, or a time; never if not given
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        /// What you call it, such as the system that uses it
        #[arg(long, value_name = "TEXT")]
        label: Option<String>,
    },
    /// The partner's tokens; never their text
    List {
        /// The partner
        name: String,
    },
    /// No longer let the partner log in with a token
    Remove {
        /// The partner
        name: String,
        /// The token's id, twelve digits
        id: String,
    },
}

/// Verbs of `partner`.
#[derive(Debug, Subcommand)]
pub(super) enum PartnerVerb {
    /// Open an account; prints a generated password once if none is given
    Add {
        /// Letters, digits, dots, dashes and underscores; 1 to 64 of them
        name: String,
        /// Also if the name was another partner's until lately
        #[arg(long)]
        take_over: bool,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// All accounts
    List,
    /// Refuse the partner's logins from now on
    Disable {
        /// The partner
        name: String,
    },
    /// Allow the partner's logins again
    Enable {
        /// The partner
        name: String,
    },
    /// Set a new password; prints a generated one once if none is given
    Passwd {
        /// The partner
        name: String,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Public keys that the partner logs in with over SFTP
    Key {
        /// The action
        #[command(subcommand)]
        verb: KeyVerb,
    },
    /// Bearer tokens that the partner's programs log in with over web services
    Token {
        /// The action
        #[command(subcommand)]
        verb: TokenVerb,
    },
    /// Close the account and end its sessions; files and their history stay, its names go
    Remove {
        /// The partner
        name: String,
    },
}

/// Verbs of `sessions`.
#[derive(Debug, Subcommand)]
pub(super) enum SessionsVerb {
    /// End sessions; an upload that is cut can be resumed. Partners may log in again, unless they are disabled
    Kick(KickArgs),
}

/// Options of `sessions kick`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("whom").required(true).args(["ids", "partner", "all"]))]
pub(super) struct KickArgs {
    /// Ids or unique beginnings of them, as `forebay sessions` shows them
    #[arg(value_name = "ID")]
    pub(super) ids: Vec<String>,
    /// All sessions of this partner
    #[arg(long, value_name = "NAME")]
    pub(super) partner: Option<String>,
    /// All sessions
    #[arg(long)]
    pub(super) all: bool,
    /// The reason; kept in the audit trail and not shown to the partner
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: String,
}

/// The selection of files.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Which {
    /// In this state; may be given several times or with commas
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub(super) state: Vec<State>,
    /// Of this partner
    #[arg(long, value_name = "NAME")]
    pub(super) partner: Option<String>,
    /// Of this route
    #[arg(long, value_name = "NAME")]
    pub(super) route: Option<String>,
}

/// Options of `queue list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The selection of files.
    #[command(flatten)]
    pub(super) which: Which,
    /// Received at or after: RFC 3339, "YYYY-MM-DD [HH:MM]" in the schedule's zone, or how long ago ("2h")
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// No more than this many, from the newest back
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<usize>,
}

/// Options of `queue hold`, `release`, `requeue` and `cancel`.
#[derive(Debug, Args)]
pub(super) struct ActArgs {
    /// Ids or unique beginnings of them; `-` reads ids from standard input
    #[arg(value_name = "ID", required_unless_present_any = ["state", "partner", "route"], conflicts_with_all = ["state", "partner", "route"])]
    pub(super) ids: Vec<String>,
    /// The selection of files, instead of ids.
    #[command(flatten)]
    pub(super) which: Which,
    /// The reason; shown with the file and in the audit trail
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
}

/// Verbs of `message`.
#[derive(Debug, Subcommand)]
pub(super) enum MessageVerb {
    /// What became of each message, in runs of the same result
    List(MessageListArgs),
}

/// Options of `message list`.
#[derive(Debug, Args)]
pub(super) struct MessageListArgs {
    /// The file's id or the beginning of it
    pub(super) id: String,
    /// Only messages with this result; may be given more than once
    #[arg(long, value_name = "RESULT")]
    pub(super) result: Vec<MessageResult>,
    /// From this message on
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) from: u64,
    /// No more runs than this
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<usize>,
}

/// Verbs of `queue`.
#[derive(Debug, Subcommand)]
pub(super) enum QueueVerb {
    /// List files, oldest first
    List(ListArgs),
    /// One file: facts, state, full history, each attempt's output
    Show {
        /// An id or the beginning of one
        id: String,
    },
    /// Keep files from being processed
    Hold(ActArgs),
    /// Let held files go, at their old turn
    Release(ActArgs),
    /// Process files again
    Requeue(ActArgs),
    /// Call files off
    Cancel(ActArgs),
    /// Counts and bytes, oldest age, blocked lanes, paused routes
    Stats,
    /// Live: what arrives, waits, runs and ends, and a countdown while the gate is closed
    Watch,
    /// Write a file's bytes, checked, to a file or standard output
    Export {
        /// An id or the beginning of one
        id: String,
        /// The file to write to; standard output if not given or `-`
        file: Option<PathBuf>,
    },
    /// Check every hash and record
    Verify,
    /// Rebuild the index from the journal
    Rebuild,
}

/// Verbs of `gate`.
#[derive(Debug, Subcommand)]
pub(super) enum GateVerb {
    /// Open or closed now, and why
    Status,
    /// List coming windows, in local time and UTC
    List {
        /// The end of the period
        #[arg(long, value_name = "TIME", default_value = "90d")]
        to: String,
    },
    /// Show what would be closed when
    Simulate {
        /// The start of the period
        #[arg(long, value_name = "TIME")]
        from: String,
        /// The end of the period
        #[arg(long, value_name = "TIME")]
        to: String,
    },
    /// Close the gate now; uploads go on
    Close {
        /// For how long, such as 3h
        #[arg(long = "for", value_name = "DURATION", conflicts_with = "until")]
        duration: Option<String>,
        /// The end of the closure; without one it stays closed until it is opened
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// The reason
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// The message for web users
        #[arg(long, value_name = "TEXT")]
        message: Option<String>,
        /// Only this route (or `web`); may be given several times
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        route: Vec<String>,
        /// Wait until what still runs has ended
        #[arg(long)]
        wait: bool,
    },
    /// Open it before the present closure ends; the next window closes it again
    Open {
        /// The reason
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Only this route (or `web`); may be given several times
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        route: Vec<String>,
    },
    /// Put the end of the present closure off
    Extend {
        /// By how much, such as 30m
        #[arg(long, value_name = "DURATION", conflicts_with = "until", required_unless_present = "until")]
        by: Option<String>,
        /// The new end
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// The reason
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Take back overrides: one, or all of them
    Clear {
        /// The override's id as `gate status` shows it; all if not given
        id: Option<String>,
        /// The reason
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Confirm that this machine's clock is right although it is behind the journal or has jumped
    ConfirmClock,
}

/// Options of `audit`.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// At or after: RFC 3339, "YYYY-MM-DD [HH:MM]" in the schedule's zone, or how long ago ("2h")
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// Go on with what happens from now on
    #[arg(long, short)]
    pub(super) follow: bool,
}
