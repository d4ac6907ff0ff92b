//! PgQ's own daemon, from Debian's package.

use std::sync::Arc;

use pgshovel::error::Result;

use super::command::write;
use super::fleet::Fleet;
use super::postgres::unprivileged;
use super::process::{Process, await_ready};

/// A running daemon, that ticks the queues of one database and maintains them, as
/// often as it can. It ends with this.
#[derive(Debug)]
pub struct Pgqd {
    _process: Process,
}

impl Pgqd {
    /// Returns when it has looked at the database.
    pub fn start(fleet: &Arc<Fleet>, port: u16, database: &str) -> Result<Self> {
        let file = fleet.folder().join(format!("pgqd-{database}.ini"));
        let text = format!(
            "[pgqd]\nbase_connstr = host=127.0.0.1 port={port} user=postgres\ninitial_database = {database}\ndatabase_list = {database}\n\
             syslog = 0\ncheck_period = 1\nmaint_period = 0.3\nretry_period = 1\nticker_period = 0.05\n"
        );
        write(&file, &text)?;
        let log = fleet.folder().join(format!("pgqd-{database}.log"));
        let mut command = unprivileged("pgqd")?;
        command.arg(&file).current_dir("/");
        let mut process = Process::start(fleet, "pgqd", &mut command, &log, "KILL")?;
        await_ready(&mut process, || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("pgq version ok")))?;
        Ok(Self { _process: process })
    }
}
