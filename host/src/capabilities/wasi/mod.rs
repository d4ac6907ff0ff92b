//! The capability `wasi`: what language runtimes need to start: clocks, random numbers,
//! polling, standard output and standard error, which go to the log. No environment, no
//! arguments, and nothing on standard input.

mod lines;
mod link;

pub use link::Wasi;
