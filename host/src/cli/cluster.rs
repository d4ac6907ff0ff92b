//! `pgshovel cluster …`

use clap::Subcommand;

use super::Common;
use crate::error::{Error, Result};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create the cluster in ZooKeeper.
    Initialize,
}

pub async fn run(_common: &Common, _command: &Command) -> Result<()> {
    Err(Error::stop("not built yet"))
}
