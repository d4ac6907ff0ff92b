//! Parse, run, exit code. All else is the library's.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgshovel::cli::main()
}
