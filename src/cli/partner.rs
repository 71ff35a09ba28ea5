//! `forebay partner`: accounts.
//!
//! A password is read from standard input or generated, never taken from an argument, where every
//! user of the machine could read it (`ps`).

use std::io::{self, BufRead as _};

use super::{
    args::PartnerVerb,
    context::{Context, print, say},
    paint::{Tone, visible},
    table::{Side, Table},
};
use crate::{
    operate::{AccountView, Problem, Reply, Request},
    units,
};

/// Does what is asked with accounts.
pub(super) async fn run(context: &Context, verb: PartnerVerb) -> Result<(), Problem> {
    let request = match verb {
        PartnerVerb::Add { name, password_stdin, take_over } => {
            Request::PartnerAdd { name, password: password(password_stdin)?, take_over }
        }
        PartnerVerb::Passwd { name, password_stdin } => {
            Request::PartnerPasswd { name, password: password(password_stdin)? }
        }
        PartnerVerb::Disable { name } => Request::PartnerDisable { name },
        PartnerVerb::Enable { name } => Request::PartnerEnable { name },
        PartnerVerb::Remove { name } => Request::PartnerRemove { name },
        PartnerVerb::List => Request::PartnerList,
        PartnerVerb::Key { verb } => return super::key::run(context, verb).await,
        PartnerVerb::Token { verb } => return super::token::run(context, verb).await,
    };
    let listing = request == Request::PartnerList;
    let mut answered = context.ask(request).await?;
    let mut accounts: Vec<AccountView> = Vec::new();
    while let Some(reply) = answered.reply().await? {
        match reply {
            Reply::Account(account) if context.json() => context.object(&account)?,
            Reply::Account(account) => accounts.push(account),
            Reply::Password(password) if context.json() => context.object(&password)?,
            Reply::Password(password) => {
                say(&format!("password of {}: {}", password.partner, password.password))?;
                say("it is shown this once; `forebay partner passwd` makes a new one")?;
            }
            Reply::Said(text) if !context.json() => say(&visible(&text))?,
            _ => {}
        }
    }
    if context.json() || !listing {
        return Ok(());
    }
    if accounts.is_empty() {
        return say("no partners yet; add one with `forebay partner add NAME`");
    }
    let columns = [
        ("partner", Side::Left),
        ("logins", Side::Left),
        ("sessions", Side::Right),
        ("unprocessed", Side::Right),
        ("since", Side::Left),
    ];
    let mut table = Table::new(&columns);
    for account in &accounts {
        let logins = if account.enabled { ("allowed", Tone::Good) } else { ("refused", Tone::Bad) };
        table.row([
            (account.name.clone(), Tone::Strong),
            (logins.0.to_owned(), logins.1),
            (account.sessions.map_or("-".to_owned(), |count| count.to_string()), Tone::Plain),
            (units::format_bytes(account.unprocessed_bytes), Tone::Plain),
            (account.created_at.map_or("-".to_owned(), |at| answered.long(at)), Tone::Faint),
        ]);
    }
    print(&table.render(context.paint))
}

/// The first line alone, without its end.
///
/// # Errors
/// A usage problem when there is none.
fn password(from_stdin: bool) -> Result<Option<String>, Problem> {
    if !from_stdin {
        return Ok(None);
    }
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Problem::failed(format!("cannot read standard input: {error}")))?;
    // PowerShell puts a byte order mark in front of what it pipes.
    let password = line.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Problem::usage("standard input holds no password"));
    }
    Ok(Some(password.to_owned()))
}
