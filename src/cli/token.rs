//! `forebay partner token`: bearer tokens.

use super::{
    args::TokenVerb,
    context::{Context, print, say},
    paint::{Tone, visible},
    table::{Side, Table},
};
use crate::operate::{Problem, Reply, Request, TokenView};

/// Does what is asked with tokens.
pub(super) async fn run(context: &Context, verb: TokenVerb) -> Result<(), Problem> {
    let request = match verb {
        TokenVerb::Add { name, expires, label } => {
            Request::PartnerTokenAdd { name, expires, label: label.unwrap_or_default() }
        }
        TokenVerb::List { name } => Request::PartnerTokenList { name },
        TokenVerb::Remove { name, id } => Request::PartnerTokenRemove { name, id },
    };
    let listing = matches!(request, Request::PartnerTokenList { .. });
    let mut answered = context.ask(request).await?;
    let mut tokens: Vec<TokenView> = Vec::new();
    while let Some(reply) = answered.reply().await? {
        match reply {
            Reply::Token(token) if context.json() => context.object(&token)?,
            Reply::Token(token) => tokens.push(token),
            Reply::NewToken(new) if context.json() => context.object(&new)?,
            Reply::NewToken(new) => {
                say(&format!("token of {}: {}", new.partner, new.token))?;
                say("it is shown this once; `forebay partner token remove` takes it back")?;
            }
            Reply::Said(text) if !context.json() => say(&visible(&text))?,
            _ => {}
        }
    }
    if context.json() || !listing {
        return Ok(());
    }
    if tokens.is_empty() {
        return say("no tokens; make one with `forebay partner token add NAME`");
    }
    let columns = [("token", Side::Left), ("made", Side::Left), ("ends", Side::Left), ("label", Side::Left)];
    let mut table = Table::new(&columns);
    for token in &tokens {
        let ends = token.expires_at.map_or("never".to_owned(), |end| answered.long(end));
        let ends = match token.expired {
            true => (format!("{ends} (over)"), Tone::Bad),
            false => (ends, Tone::Plain),
        };
        table.row([
            (token.id.clone(), Tone::Strong),
            (answered.long(token.created_at), Tone::Plain),
            ends,
            (visible(&token.label), Tone::Faint),
        ]);
    }
    print(&table.render(context.paint))
}
