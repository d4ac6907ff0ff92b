//! `pgshovel relay CONFIG SET`

use std::path::PathBuf;

use super::Common;
use crate::error::{Error, Result};

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The YAML file with the section `stream`.
    pub configuration: PathBuf,
    /// The replication set.
    pub set: String,
    /// The name of the consumer in PgQ.
    #[arg(long, env = "PGSHOVEL_CONSUMER_ID", default_value = "default", value_name = "NAME")]
    pub consumer_id: String,
}

pub async fn run(_common: &Common, _arguments: &Arguments) -> Result<()> {
    Err(Error::stop("not built yet"))
}
