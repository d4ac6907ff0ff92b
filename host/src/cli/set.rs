//! `pgshovel set …`

use clap::Subcommand;

use super::Common;
use crate::error::{Error, Result};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the replication sets.
    List,
}

pub async fn run(_common: &Common, _command: &Command) -> Result<()> {
    Err(Error::stop("not built yet"))
}
