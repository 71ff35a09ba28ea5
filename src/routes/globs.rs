//! Globs of file paths.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

pub(super) fn compile_one(glob: &str) -> Result<globset::Glob, String> {
    if glob.is_empty() {
        return Err("is empty".to_owned());
    }
    GlobBuilder::new(glob.trim_start_matches('/'))
        .case_insensitive(true)
        .literal_separator(true)
        .build()
        .map_err(|error| format!("\"{glob}\" is no glob: {}", error.kind()))
}

/// Globs of file paths: those without `/` match the last component alone.
#[derive(Clone, Debug)]
pub struct PathGlobs {
    whole: GlobSet,
    last: GlobSet,
}

impl PathGlobs {
    /// Compiles them.
    ///
    /// # Errors
    /// With the index of the first that is no glob, and why.
    pub fn new(globs: &[String]) -> Result<Self, (usize, String)> {
        let (mut whole, mut last) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for (index, glob) in globs.iter().enumerate() {
            let compiled = compile_one(glob).map_err(|what| (index, what))?;
            if glob.contains('/') {
                whole.add(compiled)
            } else {
                last.add(compiled)
            };
        }
        let build = |set: GlobSetBuilder| set.build().map_err(|error| (0, error.to_string()));
        Ok(Self { whole: build(whole)?, last: build(last)? })
    }

    /// Returns true if one of them matches this path.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let path = path.trim_start_matches('/');
        let last = path.rsplit('/').next().unwrap_or(path);
        self.last.is_match(last) || self.whole.is_match(path)
    }
}
