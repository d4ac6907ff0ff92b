//! A pool of sessions, from Debian's package.

use std::sync::Arc;

use pgshovel::error::Result;

use super::command::write;
use super::fleet::Fleet;
use super::port;
use super::postgres::unprivileged;
use super::process::{Process, await_ready};

/// A running pool before one server. It ends with this.
#[derive(Debug)]
pub struct Pgbouncer {
    pub port: u16,
    process: Process,
}

impl Pgbouncer {
    /// `settings` are lines of its file: `pool_mode = transaction`. Everybody is let in
    /// as the superuser.
    pub fn start(fleet: &Arc<Fleet>, server: u16, settings: &[&str]) -> Result<Self> {
        Self::start_at(port::free()?, fleet, server, settings)
    }

    /// Another one in its place.
    pub fn restart(mut self, fleet: &Arc<Fleet>, server: u16, settings: &[&str]) -> Result<Self> {
        self.process.kill()?;
        Self::start_at(self.port, fleet, server, settings)
    }

    fn start_at(port: u16, fleet: &Arc<Fleet>, server: u16, settings: &[&str]) -> Result<Self> {
        let file = fleet.folder().join(format!("pgbouncer-{port}.ini"));
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={server} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\n{}\n",
            settings.join("\n")
        );
        write(&file, &text)?;
        let log = fleet.folder().join(format!("pgbouncer-{port}.log"));
        // What one before it said is not this one's word.
        write(&log, "")?;
        let mut command = unprivileged("/usr/sbin/pgbouncer")?;
        command.arg(&file).current_dir("/");
        let mut process = Process::start(fleet, "pgbouncer", &mut command, &log, "KILL")?;
        await_ready(&mut process, || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("process up")))?;
        Ok(Self { port, process })
    }
}
