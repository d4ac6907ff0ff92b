//! What has to hold after every fault, without anybody having done anything.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pgshovel::error::{Code, Error, Result};
use pgshovel::postgres::connect::{connect, explain};
use tokio::time::sleep;

use super::cast::{Cast, TABLES, in_flight};
use super::task::SET;
use crate::compare::compare;
use crate::stage::output;

/// How long after a fault's end source and target may differ, the load being over.
const RECOVERS_WITHIN: Duration = Duration::from_secs(240);
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How long no message may come until `stream lint` takes that for the end.
const LINT_WAIT_S: &str = "3";
/// Reading the whole stream may take up to this part of the time.
const LINT_SHARE: u32 = 5;

/// What is remembered from check to check.
#[derive(Debug)]
pub struct Checker {
    /// How far each log was read.
    read: BTreeMap<PathBuf, u64>,
    linted: Instant,
    lint_took: Duration,
}

impl Checker {
    #[must_use]
    pub fn new() -> Self {
        Self { read: BTreeMap::new(), linted: Instant::now(), lint_took: Duration::ZERO }
    }

    /// All but the rows, which [`equal_soon`] compares; the stream, if it was not read
    /// a short while ago.
    pub async fn check(&mut self, cast: &mut Cast) -> Result<()> {
        once(cast).await?;
        cast.all_run()?;
        self.logs(cast)?;
        settled(cast).await?;
        cast.admin.check(&cast.stage).await?;
        if self.linted.elapsed() >= self.lint_took * LINT_SHARE {
            self.lint(cast).await?;
        }
        Ok(())
    }

    /// Reads the whole stream; it has to be sound, and to hold what was relayed.
    pub async fn lint(&mut self, cast: &Cast) -> Result<()> {
        let started = Instant::now();
        let client = connect(&cast.stage.source.dsn("source"), "chaos").await?;
        let sql = format!(
            "SELECT sub_last_tick FROM pgq.subscription JOIN pgq.queue ON queue_id = sub_queue WHERE queue_name = 'pgshovel:default:{SET}'"
        );
        let relayed: i64 = client.query_one(&sql, &[]).await.map_err(|error| explain(&error).context(sql))?.get(0);
        let mut command = cast.stage.command(&["stream", "lint", "all.yaml", SET, "--wait", LINT_WAIT_S])?;
        let said = output(&mut command, "pgshovel stream lint").await?;
        let last = said.lines().find_map(|line| line.strip_prefix("committed ")?.split(' ').next_back()?.parse::<i64>().ok());
        if last.is_none_or(|last| last < relayed) {
            return Err(Error::stop(Code::ToolFailed, format!("tick {relayed} was relayed, and the stream does not have it:\n{said}")));
        }
        self.linted = Instant::now();
        self.lint_took = started.elapsed();
        Ok(())
    }

    /// No panic, and nothing that a log calls an error.
    fn logs(&mut self, cast: &Cast) -> Result<()> {
        let names = cast.members.iter().map(|member| member.process.log().to_owned());
        for log in names.chain([cast.stage.folder.join("admin.log"), cast.stage.folder.join("admin-2.log")]) {
            let seen = self.read.entry(log.clone()).or_default();
            let Ok(mut file) = std::fs::File::open(&log) else { continue };
            let mut text = Vec::new();
            let read = file.seek(SeekFrom::Start(*seen)).and_then(|_| file.read_to_end(&mut text));
            *seen += read.map_err(|error| Error::stop(Code::ToolFailed, format!("cannot read {}: {error}", log.display())))? as u64;
            let text = String::from_utf8_lossy(&text);
            if let Some(line) = text.lines().find(|line| line.contains("panicked at") || line.contains("\"level\":\"ERROR\"")) {
                return Err(Error::stop(Code::ToolFailed, format!("{} says: {line}", log.display())));
            }
        }
        Ok(())
    }
}

/// Waits until source and target are equal; returns how many rows they have.
pub async fn equal_soon(cast: &mut Cast) -> Result<u64> {
    let started = Instant::now();
    loop {
        cast.all_run()?;
        match equal(cast).await {
            Ok(rows) => return Ok(rows),
            Err(difference) if started.elapsed() > RECOVERS_WITHIN => {
                let logs: String = cast.members.iter().map(|member| format!("{}:\n{}", member.name, member.process.tail())).collect();
                return Err(difference.context(format!("after {} s; the logs end with\n{logs}", RECOVERS_WITHIN.as_secs())));
            }
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}

/// The small tables first, since one that differs is enough.
async fn equal(cast: &Cast) -> Result<u64> {
    let (source, target) = (cast.stage.source.dsn("source"), cast.stage.target.dsn("target"));
    let mut rows = 0;
    for (table, _) in TABLES.iter().rev() {
        let name = format!("public.\"{}\"", table.replace('"', "\"\""));
        let found = compare(&source, &target, &name, None).await?;
        if let Some(difference) = found.difference {
            return Err(Error::stop(
                Code::ToolFailed,
                format!("{table}: {} rows in the source, {} in the target: {difference}", found.source_rows, found.target_rows),
            ));
        }
        rows += found.target_rows;
    }
    Ok(rows)
}

/// Every row of the history was applied, and applied once.
async fn once(cast: &Cast) -> Result<()> {
    let client = connect(&cast.stage.target.dsn("target"), "chaos").await?;
    let sql = "SELECT (SELECT count(*) FROM pgbench_history), count(*), count(DISTINCT id) FROM ledger";
    let row = client.query_one(sql, &[]).await.map_err(|error| explain(&error).context(sql))?;
    let (rows, applied, distinct): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    if rows == applied && applied == distinct {
        return Ok(());
    }
    Err(Error::stop(
        Code::ToolFailed,
        format!("the history has {rows} rows, and {applied} inserts of {distinct} rows were applied to the target"),
    ))
}

/// Forgets what was applied: the source's history begins anew.
pub async fn clear_ledger(cast: &Cast) -> Result<()> {
    let client = connect(&cast.stage.target.dsn("target"), "chaos").await?;
    let sql = "TRUNCATE ledger";
    client.batch_execute(sql).await.map_err(|error| explain(&error).context(sql))
}

/// No prepared transaction is left, nor a change that is neither done nor undone.
pub async fn settled(cast: &Cast) -> Result<()> {
    for (server, name) in [(&cast.stage.source, "source"), (&cast.stage.target, "target")] {
        let client = connect(&server.dsn("postgres"), "chaos").await?;
        let sql = "SELECT coalesce(string_agg(gid, ', '), '') FROM pg_prepared_xacts";
        let gids: String = client.query_one(sql, &[]).await.map_err(|error| explain(&error).context(sql))?.get(0);
        if !gids.is_empty() {
            return Err(Error::stop(Code::ToolFailed, format!("prepared transactions are left in the {name} server: {gids}")));
        }
    }
    let changes = in_flight(&cast.stage).await?;
    if changes.is_empty() {
        Ok(())
    } else {
        Err(Error::stop(Code::ToolFailed, format!("changes are left in flight: {}", changes.join(", "))))
    }
}
