//! The machine's own disk.
/// The machine's own disk.
#[derive(Debug, Default)]
pub struct OsDisk;
