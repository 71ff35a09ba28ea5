//! Which file is behind a temporary name. Rebuilt from the queue at start.

use std::collections::HashMap;

use forebay_storage::FileId;
use parking_lot::Mutex;

use super::Name;

#[derive(Debug, Default)]
pub(super) struct Unfinished {
    by_name: Mutex<HashMap<String, HashMap<Name, FileId>>>,
}

impl Unfinished {
    /// The newest file of that name takes its place; an older one can no longer be renamed and becomes `held` in time.
    pub(super) fn put(&self, partner: &str, name: Name, id: FileId) {
        self.by_name.lock().entry(partner.to_owned()).or_default().insert(name, id);
    }

    pub(super) fn get(&self, partner: &str, name: &Name) -> Option<FileId> {
        self.by_name.lock().get(partner)?.get(name).copied()
    }

    /// Forgets the name if it still means this file.
    pub(super) fn forget(&self, partner: &str, name: &Name, id: FileId) {
        let mut all = self.by_name.lock();
        if let Some(names) = all.get_mut(partner) {
            if names.get(name) == Some(&id) {
                names.remove(name);
            }
            if names.is_empty() {
                all.remove(partner);
            }
        }
    }

    /// Every unfinished file in that directory, oldest first.
    pub(super) fn within(&self, partner: &str, directory: &Name) -> Vec<(Name, FileId)> {
        let prefix = format!("{directory}/");
        let all = self.by_name.lock();
        let names = all.get(partner).into_iter().flatten();
        let mut found: Vec<_> = names
            .filter(|(name, _)| name.as_str().starts_with(&prefix))
            .map(|(name, id)| (name.clone(), *id))
            .collect();
        found.sort_by_key(|(_, id)| *id);
        found
    }
}
