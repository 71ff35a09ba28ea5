//! Globs of file paths.

use crate::units::{glob::Glob, text::folded};

pub(super) fn compile_one(glob: &str) -> Result<Glob, String> {
    // Paths have no slash at the front; who writes one means the login directory.
    Glob::new(glob.trim_start_matches('/')).map_err(|error| match glob.is_empty() {
        true => error.to_string(),
        false => format!("\"{glob}\" is no glob: it {error}"),
    })
}

/// Globs of file paths: those without `/` match the last component alone.
#[derive(Clone, Debug)]
pub struct PathGlobs {
    whole: Vec<Glob>,
    last: Vec<Glob>,
}

impl PathGlobs {
    /// Compiles them.
    ///
    /// # Errors
    /// With the index of the first that is no glob, and why.
    pub fn new(globs: &[String]) -> Result<Self, (usize, String)> {
        let (mut whole, mut last) = (Vec::new(), Vec::new());
        for (index, glob) in globs.iter().enumerate() {
            let compiled = compile_one(glob).map_err(|what| (index, what))?;
            let place = if glob.contains('/') { &mut whole } else { &mut last };
            place.push(compiled);
        }
        Ok(Self { whole, last })
    }

    /// Returns true if one of them matches this path.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let path = folded(path.trim_start_matches('/'));
        let last = path.rsplit('/').next().unwrap_or(&path);
        let matches = |globs: &[Glob], text: &str| globs.iter().any(|glob| glob.matches_folded(text));
        matches(&self.last, last) || matches(&self.whole, &path)
    }
}
