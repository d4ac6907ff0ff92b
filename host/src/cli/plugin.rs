//! `pgshovel plugin …`

use clap::Subcommand;

use super::Common;
use crate::error::{Error, Result};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print what a component is and what it asks for, without running it.
    Inspect,
}

pub async fn run(_common: &Common, _command: &Command) -> Result<()> {
    Err(Error::stop("not built yet"))
}
