//! `forebay partner key`: public keys.
//!
//! A key is read from a file or from standard input, never from an argument: it is long, and
//! quoting breaks it. A private key is refused by what it looks like before it is sent anywhere.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use super::{
    args::KeyVerb,
    context::{Context, print, say},
    paint::{Tone, visible},
    table::{Side, Table},
};
use crate::{
    operate::{KeyView, Problem, Reply, Request},
    partners::one_key,
    units::text_file::decode,
};

/// No file with one key is this long.
/// A file that is longer is surely not meant, such as a device or a log.
const MOST_BYTES: u64 = 64 << 10;

/// Does what is asked with keys.
pub(super) async fn run(context: &Context, verb: KeyVerb) -> Result<(), Problem> {
    let request = match verb {
        KeyVerb::Add { name, file } => Request::PartnerKeyAdd { name, line: line(&file)? },
        KeyVerb::List { name } => Request::PartnerKeyList { name },
        KeyVerb::Remove { name, fingerprint } => Request::PartnerKeyRemove { name, fingerprint },
    };
    let listing = matches!(request, Request::PartnerKeyList { .. });
    let mut answered = context.ask(request).await?;
    let mut keys: Vec<KeyView> = Vec::new();
    while let Some(reply) = answered.reply().await? {
        match reply {
            Reply::Key(key) if context.json() => context.object(&key)?,
            Reply::Key(key) => keys.push(key),
            Reply::Said(text) if !context.json() => say(&visible(&text))?,
            _ => {}
        }
    }
    if context.json() || !listing {
        return Ok(());
    }
    if keys.is_empty() {
        return say("no keys; add one with `forebay partner key add NAME FILE`");
    }
    let columns = [("fingerprint", Side::Left), ("type", Side::Left), ("from", Side::Left), ("comment", Side::Left)];
    let mut table = Table::new(&columns);
    for key in &keys {
        table.row([
            (key.fingerprint.clone(), Tone::Strong),
            (key.algorithm.clone(), Tone::Plain),
            (key.from.clone().unwrap_or_else(|| "anywhere".to_owned()), Tone::Plain),
            (visible(&key.comment), Tone::Faint),
        ]);
    }
    print(&table.render(context.paint))
}

/// The one key of a file, as a line in OpenSSH's form.
fn line(file: &Path) -> Result<String, Problem> {
    let shown = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().take(MOST_BYTES).read_to_end(&mut bytes)
    } else {
        fs::File::open(file).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes))
    };
    read.map_err(|error| Problem::failed(format!("cannot read {shown}: {error}")))?;
    let text = decode(bytes).map_err(|error| Problem::usage(format!("cannot read {shown}: {error}")))?;
    one_key(&text).map_err(|error| Problem::usage(format!("{shown} {error}")))
}
