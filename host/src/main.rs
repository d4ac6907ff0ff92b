//! Parse, run, exit code. All else is the library's.

use std::process::ExitCode;

/// Rows are made on one thread and dropped on another, which the system's allocator
/// takes for contention.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pgshovel::cli::main()
}
