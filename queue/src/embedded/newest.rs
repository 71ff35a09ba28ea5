//! Listings from the newest entry back, which read what they give and little more.
//!
//! Cursors have a letter of their own (`n`, `p`), so that one of another listing is refused and not
//! misread.

use std::collections::HashSet;

use forebay_storage::FileId;

use super::{
    entry_codec::Stored,
    index::{Fault, Index},
    keys,
    read::{MOST_PASSED_OVER, at, find, passes, states_of},
};
use crate::{Cursor, Filter, Page, QueueError, State};

/// Entries that pass, newest first: the partner's, or the listings of all states, merged.
pub(super) fn newest(index: &Index, filter: &Filter, before: Option<&Cursor>, limit: usize) -> Result<Page, Fault> {
    match &filter.partner {
        // The partner's own entries in any state are found without those of others.
        Some(partner) if filter.states.is_empty() => of_partner(index, partner, filter, before, limit),
        _ => by_turn(index, filter, before, limit),
    }
}

fn by_turn(index: &Index, filter: &Filter, before: Option<&Cursor>, limit: usize) -> Result<Page, Fault> {
    let end = before.map(|cursor| behind(cursor).ok_or_else(|| bad(cursor))).transpose()?.unwrap_or(u64::MAX);
    let mut heads = Vec::new();
    for state in states_of(filter) {
        heads.push((state, last_listed(index, state, end)?));
    }
    let (mut page, mut given, mut passed_over) = (Page::default(), HashSet::new(), 0);
    while let Some((state, head)) = heads.iter_mut().filter(|(_, head)| head.is_some()).max_by_key(|(_, head)| *head) {
        let Some(turn) = *head else { break };
        if page.entries.len() >= limit || passed_over >= MOST_PASSED_OVER {
            page.next = Some(Cursor::new(format!("n{}", turn.saturating_add(1))));
            break;
        }
        *head = last_listed(index, *state, turn)?;
        // Gone since it was listed, or at another turn.
        match at(index, turn)? {
            Some(Stored { entry, .. }) if passes(&entry, filter) && given.insert(entry.id) => page.entries.push(entry),
            _ => passed_over += 1,
        }
    }
    Ok(page)
}

/// The last entry of this state whose turn is before `end`.
fn last_listed(index: &Index, state: State, end: u64) -> Result<Option<u64>, Fault> {
    let last = index.last(&keys::by_state(state, 0), &keys::by_state(state, end))?;
    Ok(last.and_then(|(key, _)| keys::last_number(&key)))
}

/// In order of ids, which begin with the time at which an upload began.
fn of_partner(
    index: &Index,
    partner: &str,
    filter: &Filter,
    before: Option<&Cursor>,
    limit: usize,
) -> Result<Page, Fault> {
    let first = keys::partner_prefix(partner);
    let mut end = first.clone();
    match before {
        Some(cursor) => end = keys::of_partner(partner, id(cursor).ok_or_else(|| bad(cursor))?).to_vec(),
        // The byte behind the name ends it: the next one is behind all of its ids.
        None => end.iter_mut().last().into_iter().for_each(|last| *last = 1),
    }
    let (mut page, mut passed_over) = (Page::default(), 0);
    while let Some((key, _)) = index.last(&first, &end)? {
        let id = key.last_chunk::<16>().map(|bytes| FileId::from_bytes(*bytes));
        let id = id.ok_or_else(|| Fault::Index("a partner's entry has no id".into()))?;
        match find(index, id)? {
            Some(Stored { entry, .. }) if passes(&entry, filter) => page.entries.push(entry),
            _ => passed_over += 1,
        }
        if page.entries.len() >= limit || passed_over >= MOST_PASSED_OVER {
            page.next = Some(Cursor::new(format!("p{:032x}", u128::from_be_bytes(*id.as_bytes()))));
            break;
        }
        end = key.to_vec();
    }
    Ok(page)
}

fn behind(cursor: &Cursor) -> Option<u64> {
    cursor.as_str().strip_prefix('n').and_then(|digits| digits.parse().ok())
}

fn id(cursor: &Cursor) -> Option<FileId> {
    let number = cursor.as_str().strip_prefix('p').and_then(|digits| u128::from_str_radix(digits, 16).ok())?;
    Some(FileId::from_bytes(number.to_be_bytes()))
}

fn bad(cursor: &Cursor) -> Fault {
    QueueError::BadCursor(cursor.clone()).into()
}
