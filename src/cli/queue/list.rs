//! `forebay queue list`.

use super::{remark, tone};
use crate::cli::{
    args::ListArgs,
    context::{Context, print, say},
    paint::Tone,
    table::{Side, Table},
};
use crate::{
    operate::{Problem, Reply, Request},
    units,
};

/// Rows that are lined up together; a longer listing is printed in pieces so that memory stays bounded.
/// Each piece has its own header and widths.
const PIECE: usize = 5_000;

fn table() -> Table {
    Table::new(&[
        ("id", Side::Left),
        ("partner", Side::Left),
        ("name", Side::Left),
        ("size", Side::Right),
        ("state", Side::Left),
        ("received", Side::Left),
        ("route", Side::Left),
        ("tries", Side::Right),
        ("", Side::Left),
    ])
}

/// `deferred` stands for the state where a closed gate is all that a file waits for.
pub(super) async fn run(context: &Context, args: ListArgs) -> Result<(), Problem> {
    let request = Request::QueueList { which: args.which.into(), since: args.since, limit: args.limit };
    let mut answered = context.ask(request).await?;
    let (mut rows, mut piece, mut shown) = (table(), 0, 0_u64);
    while let Some(reply) = answered.reply().await? {
        let Reply::File(file) = reply else { continue };
        shown += 1;
        if context.json() {
            context.object(&file)?;
            continue;
        }
        rows.row([
            (file.id.to_string(), Tone::Plain),
            (file.partner.clone(), Tone::Plain),
            (file.name.clone(), Tone::Strong),
            (units::format_bytes(file.size_bytes), Tone::Plain),
            if file.deferred {
                ("deferred".to_owned(), Tone::Warm)
            } else {
                (file.state.to_string(), tone(file.state))
            },
            (answered.at(file.received_at), Tone::Faint),
            (file.route.clone().unwrap_or_else(|| "-".to_owned()), Tone::Plain),
            (file.attempts.to_string(), Tone::Plain),
            (remark(&file, &answered), Tone::Faint),
        ]);
        piece += 1;
        if piece == PIECE {
            print(&std::mem::replace(&mut rows, table()).render(context.paint))?;
            piece = 0;
        }
    }
    match (context.json(), shown) {
        (true, _) => Ok(()),
        (false, 0) => say("no files"),
        (false, _) if rows.is_empty() => Ok(()),
        (false, _) => print(&rows.render(context.paint)),
    }
}
