//! The `forebay` program.

use std::process::ExitCode;

/// Upload after upload asks for the same few sizes on many threads: the system's allocator takes a tenth of a small file's
/// time, and after a flood of sessions keeps what they had.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    forebay::cli::run()
}
