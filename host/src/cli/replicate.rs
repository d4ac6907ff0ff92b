//! `pgshovel replicate CONFIG SET`

use std::path::PathBuf;

use super::Common;
use crate::error::{Error, Result};

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The YAML file with the sections `stream`, `loader`, `target` and, optionally, `transforms`.
    pub configuration: PathBuf,
    /// The replication set.
    pub set: String,
}

pub async fn run(_common: &Common, _arguments: &Arguments) -> Result<()> {
    Err(Error::stop("not built yet"))
}
