//! A PostgreSQL cluster of its own, with Debian's binaries.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use pgshovel::error::{Code, Error, Result};

use super::certificates::{Certificate, write_private};
use super::command::{create_folder, run, write};
use super::fleet::Fleet;
use super::port;
use super::process::{Process, await_ready};

/// The one role that has to give a password, if a test makes it.
pub const WITH_PASSWORD: &str = "with_password";

const BINARIES: &str = "/usr/lib/postgresql/15/bin";
/// The user that the servers run as when this program is root, which PostgreSQL refuses to be.
const USER: &str = "postgres";

/// A running cluster. Its superuser is `postgres`, without a password, from
/// 127.0.0.1 alone.
#[derive(Debug)]
pub struct Postgres {
    pub port: u16,
    name: String,
    folder: PathBuf,
    fleet: Arc<Fleet>,
    process: Option<Process>,
}

impl Postgres {
    /// Makes and starts a cluster. `settings` are lines of postgresql.conf.
    pub fn create(fleet: &Arc<Fleet>, name: &str, settings: &[&str]) -> Result<Self> {
        let mut server = Self::prepare(fleet, name)?;
        let data = server.data();
        run(unprivileged(&format!("{BINARIES}/initdb"))?
            .args(["--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust", "--no-sync", "--pgdata"])
            .arg(&data)
            .current_dir("/"))?;
        let access = data.join("pg_hba.conf");
        let trust = read(&access)?;
        write(&access, &format!("host all {WITH_PASSWORD} 127.0.0.1/32 scram-sha-256\n{trust}"))?;
        let text =
            format!("listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\n{}\n", server.port, settings.join("\n"));
        write(&server.configuration(), &text)?;
        server.start()?;
        Ok(server)
    }

    /// Makes and starts a physical replica of `primary`, with its settings, which follows it.
    pub fn replicate(primary: &Self, name: &str) -> Result<Self> {
        let mut server = Self::prepare(&primary.fleet, name)?;
        run(unprivileged(&format!("{BINARIES}/pg_basebackup"))?
            .args(["--host=127.0.0.1", "--username=postgres", "--checkpoint=fast", "--no-sync", "--write-recovery-conf"])
            .arg(format!("--port={}", primary.port))
            .arg("--pgdata")
            .arg(server.data())
            .current_dir("/"))?;
        let configuration = server.configuration();
        // The last of two lines counts.
        write(&configuration, &format!("{}port = {}\n", read(&configuration)?, server.port))?;
        server.start()?;
        Ok(server)
    }

    /// Starts it again, speaking TLS with this certificate. Of clients it knows certificates
    /// that `clients` signed. `access` are lines of pg_hba.conf that come first.
    pub fn secure(&mut self, certificate: &Certificate, clients: &Certificate, access: &str) -> Result<()> {
        self.stop()?;
        let data = self.data();
        let owner = std::fs::metadata(&data)
            .map_err(|error| Error::stop(Code::ToolFailed, format!("cannot look at {}: {error}", data.display())))?;
        for (name, pem) in [
            ("server.crt", certificate.certificate_pem()?),
            ("server.key", certificate.key_pem()?),
            ("clients.crt", clients.certificate_pem()?),
        ] {
            write_private(&data.join(name), &pem)?;
            std::os::unix::fs::chown(data.join(name), Some(owner.uid()), Some(owner.gid()))
                .map_err(|error| Error::stop(Code::ToolFailed, format!("cannot give {name} to the server's user: {error}")))?;
        }
        // The last of two lines counts.
        write(&self.configuration(), &format!("{}ssl = on\nssl_ca_file = 'clients.crt'\n", read(&self.configuration())?))?;
        self.admit(access)?;
        self.start()
    }

    /// Puts lines in front of pg_hba.conf, which count from the next start on.
    pub fn admit(&self, access: &str) -> Result<()> {
        let path = self.data().join("pg_hba.conf");
        write(&path, &format!("{access}\n{}", read(&path)?))
    }

    /// One without data, not running.
    fn prepare(fleet: &Arc<Fleet>, name: &str) -> Result<Self> {
        let folder = fleet.folder().join(name);
        create_folder(&folder)?;
        if root()? {
            run(Command::new("chown").arg(format!("{USER}:")).arg(&folder))?;
            run(unprivileged("test")?.arg("-x").arg(&folder)).map_err(|_| {
                let parent = fleet.folder().parent().unwrap_or(Path::new("/")).display();
                Error::stop(
                    Code::ToolFailed,
                    format!("the user {USER} cannot enter {parent}; set PGSHOVEL_SERVERS_DIR to a folder that everybody can enter"),
                )
            })?;
        }
        Ok(Self { port: port::free()?, name: name.to_owned(), folder, fleet: Arc::clone(fleet), process: None })
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn configuration(&self) -> PathBuf {
        self.data().join("postgresql.auto.conf")
    }

    /// Of its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Starts it where it stopped; returns when it takes connections.
    pub fn start(&mut self) -> Result<()> {
        let data = self.data();
        let log = self.fleet.folder().join(format!("{}.log", self.name));
        let mut command = unprivileged(&format!("{BINARIES}/postgres"))?;
        command.arg("-D").arg(&data).current_dir("/");
        // SIGQUIT is an immediate shutdown: the cluster is thrown away.
        let mut process = Process::start(&self.fleet, &format!("PostgreSQL ({})", self.name), &mut command, &log, "QUIT")?;
        // The last line that pg_ctl itself waits for; see "postmaster.pid" in PostgreSQL's "Database File Layout".
        let status = data.join("postmaster.pid");
        let own = process.pid().to_string();
        await_ready(&mut process, || {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            text.lines().next() == Some(&own) && text.lines().nth(7).is_some_and(|line| line.trim_end() == "ready")
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Stops it in PostgreSQL's immediate mode: as a crash, recovered from at the next start.
    pub fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.stop().map(drop),
            None => Ok(()),
        }
    }

    /// A connection string for one of its databases.
    #[must_use]
    pub fn dsn(&self, database: &str) -> String {
        format!("host=127.0.0.1 port={} user=postgres dbname={database}", self.port)
    }

    /// See [`client`].
    #[must_use]
    pub fn client(&self, program: &str, database: &str) -> Command {
        client(program, self.port, database)
    }
}

/// One of PostgreSQL's own client programs, told by its environment to connect to
/// `database` of the cluster that listens on `port`.
#[must_use]
pub fn client(program: &str, port: u16, database: &str) -> Command {
    let mut command = Command::new(format!("{BINARIES}/{program}"));
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", port.to_string())
        .env("PGUSER", "postgres")
        .env("PGDATABASE", database)
        .current_dir("/");
    command
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Error::stop(Code::ToolFailed, format!("cannot read {}: {error}", path.display())))
}

fn root() -> Result<bool> {
    let own = std::fs::metadata("/proc/self").map_err(|error| Error::stop(Code::ToolFailed, format!("cannot read /proc/self: {error}")))?;
    Ok(own.uid() == 0)
}

/// Runs `program` as the user `postgres` if this program is root. It takes the
/// place of the command that changes the user, so that signals reach it.
pub(super) fn unprivileged(program: &str) -> Result<Command> {
    if !root()? {
        return Ok(Command::new(program));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--init-groups", "--reset-env", "--", program]);
    Ok(command)
}
