//! `NOTICE.txt` in a partner's `out/`: what is closed now and what windows come.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

pub(super) const NOTICE: &str = "NOTICE.txt";

/// What each `out/` is known to hold.
#[derive(Debug, Default)]
pub(super) struct Notices {
    told: HashMap<PathBuf, Option<String>>,
}

impl Notices {
    /// Writes or removes the notice if it is not as it should be. Blocks.
    pub(super) fn tell(&mut self, out: &Path, text: Option<String>) -> io::Result<()> {
        if self.told.get(out) == Some(&text) {
            return Ok(());
        }
        let path = out.join(NOTICE);
        match &text {
            Some(text) => write_over(&path, text.as_bytes())?,
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            },
        }
        self.told.insert(out.to_owned(), text);
        Ok(())
    }
}

/// Readers find the old or the new contents, never a part.
pub(super) fn write_over(path: &Path, contents: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A name may have its full length already.
    let short = &name[name.ceil_char_boundary(name.len().saturating_sub(200))..];
    let temporary = path.with_file_name(format!(".{short}.tmp"));
    fs::write(&temporary, contents)?;
    fs::rename(&temporary, path)
}
