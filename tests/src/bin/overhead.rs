//! `make overhead`: what capture costs whoever writes, beside PgQ's own trigger in C and
//! beside no trigger, in one run: CPU time of the writing backend per row, of a client with
//! prepared statements. On a private server.
//!
//! usage: overhead [ROUNDS], default 15

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use pgshovel::error::{Code, Error, Result};
use pgshovel::postgres::connect::{connect, explain};
use tests::screen::Screen;
use tests::servers::Fleet;
use tests::stage::{Stage, Stream};
use tokio_postgres::Client;

/// Rows of a round that are written one by one, and those that one statement writes.
const SINGLE: i64 = 500;
const BULK: i64 = 10_000;
/// Ends a run that hangs.
const AT_MOST: Duration = Duration::from_secs(1200);

/// Without a trigger, with `pgq.jsontriga`, and with the set's triggers.
const TABLES: [&str; 3] = ["none", "jsontriga", "pgshovel"];
const COLUMNS: &str = "(id bigint PRIMARY KEY, a int, b bigint, c text, d numeric(20,6), e timestamptz, f boolean, g jsonb)";
const ROW: &str =
    "$1, $1 % 1000, $1 * 7, 'text of row ' || $1, $1 + 0.123456, '2026-01-01 12:00:00.123+02', $1 % 2 = 0, jsonb_build_object('k', $1)";
/// Not the zone that the triggers write times in.
const SESSION: &str = "SET TimeZone = 'Europe/Berlin'; SET synchronous_commit = off";

const WORK: [(&str, bool, &str); 6] = [
    ("row by row: INSERT", false, "INSERT INTO @ SELECT ROW FROM (SELECT $1::bigint) r"),
    ("row by row: UPDATE", false, "UPDATE @ SET a = a + 1, c = 'changed' WHERE id = $1"),
    ("row by row: DELETE", false, "DELETE FROM @ WHERE id = $1"),
    ("bulk: INSERT", true, "INSERT INTO @ SELECT ROW FROM generate_series(1, $1::bigint) AS i"),
    ("bulk: UPDATE", true, "UPDATE @ SET a = a + 1, c = 'changed' WHERE $1::bigint > 0"),
    ("bulk: DELETE", true, "DELETE FROM @ WHERE $1::bigint > 0"),
];

#[tokio::main]
async fn main() -> ExitCode {
    let mut screen = Screen::new();
    match guarded(&mut screen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.failed(&error.message);
            ExitCode::from(error.exit_code())
        }
    }
}

async fn guarded(screen: &mut Screen) -> Result<()> {
    let rounds = std::env::args().nth(1).map_or(Ok(15), |text| text.parse::<usize>());
    let rounds = rounds.map_err(|error| Error::usage(Code::ToolFailed, format!("usage: overhead [ROUNDS]: {error}")))?.max(1);
    let fleet = Arc::new(Fleet::new()?);
    match tokio::time::timeout(AT_MOST, bench(screen, &fleet, rounds)).await {
        Ok(result) => result,
        Err(_) => Err(Error::stop(Code::ToolFailed, format!("not done after {} s", AT_MOST.as_secs()))),
    }
}

async fn bench(screen: &mut Screen, fleet: &Arc<Fleet>, rounds: usize) -> Result<()> {
    screen.begin("starting private servers");
    let stage = Stage::set(fleet, Stream::File).await?;
    stage.administer(&["cluster", "initialize"]).await?;
    let client = connect(&stage.source.dsn("source"), "overhead").await?;
    for table in TABLES {
        run(&client, &format!("CREATE TABLE \"{table}\" {COLUMNS}")).await?;
    }
    run(&client, "SELECT pgq.create_queue('reference'); CREATE TRIGGER reference AFTER INSERT OR UPDATE OR DELETE ON jsontriga FOR EACH ROW EXECUTE FUNCTION pgq.jsontriga('reference', 'backup')").await?;
    let text = format!("database {{ dsn: {:?} }}\ntables {{ name: \"pgshovel\" primary_keys: \"id\" }}\n", stage.source.dsn("source"));
    stage.write("set.pgshovel", &text)?;
    stage.administer(&["set", "create", "overhead", "set.pgshovel"]).await?;
    run(&client, SESSION).await?;
    screen.done("PostgreSQL with PgQ started, and a set created");

    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.map_err(|error| explain(&error))?.get(0);
    let mut costs: [[Vec<f64>; TABLES.len()]; WORK.len()] = Default::default();
    screen.begin("writing");
    // The first round fills caches.
    for round in 0..=rounds {
        for (work, costs) in WORK.iter().zip(&mut costs) {
            for (table, costs) in TABLES.iter().zip(costs) {
                let cost = cost(&client, pid, work, table).await?;
                if round > 0 {
                    costs.push(cost);
                }
            }
        }
        run(&client, "TRUNCATE pgq.event_1, pgq.event_2; VACUUM").await?;
    }
    screen.done(&format!("{rounds} rounds written"));

    screen.say("");
    screen.say(&format!("{:<22}{:>10}{:>12}{:>12}{:>18}", "CPU per row, us", "none", "jsontriga", "pgshovel", "of jsontriga's"));
    for ((name, ..), costs) in WORK.iter().zip(&costs) {
        let [none, reference, ours] = costs;
        let ratios: Vec<f64> = ours.iter().zip(reference).map(|(ours, reference)| ours / reference).collect();
        screen.say(&format!("{name:<22}{:>10.1}{:>12.1}{:>12.1}{:>18.2}", median(none), median(reference), median(ours), median(&ratios)));
    }
    Ok(())
}

/// Microseconds of CPU of the backend per row.
async fn cost(client: &Client, pid: i32, (_, bulk, sql): &(&str, bool, &str), table: &str) -> Result<f64> {
    let row = if *bulk { ROW.replace("$1", "i") } else { ROW.replace("$1", "r.int8") };
    let sql =
        sql.replace("ROW", &row).replace("(SELECT $1::bigint) r", "(SELECT $1::bigint AS int8) r").replace('@', &format!("\"{table}\""));
    let statement = client.prepare(&sql).await.map_err(|error| explain(&error).context(sql.clone()))?;
    let before = cpu(pid)?;
    let rows = if *bulk {
        client.execute(&statement, &[&BULK]).await.map_err(|error| explain(&error).context(sql))?;
        BULK
    } else {
        for id in 1..=SINGLE {
            client.execute(&statement, &[&id]).await.map_err(|error| explain(&error).context(sql.clone()))?;
        }
        SINGLE
    };
    Ok((cpu(pid)? - before) / rows as f64)
}

/// Microseconds, by the kernel's scheduler.
fn cpu(pid: i32) -> Result<f64> {
    let path = format!("/proc/{pid}/schedstat");
    let text = std::fs::read_to_string(&path).map_err(|error| Error::stop(Code::ToolFailed, format!("cannot read {path}: {error}")))?;
    let nanoseconds = text.split(' ').next().and_then(|text| text.parse::<f64>().ok());
    Ok(nanoseconds.ok_or_else(|| Error::stop(Code::ToolFailed, format!("{path} holds no time")))? / 1000.0)
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

async fn run(client: &Client, sql: &str) -> Result<()> {
    for statement in sql.split("; ") {
        client.batch_execute(statement).await.map_err(|error| explain(&error).context(statement.to_owned()))?;
    }
    Ok(())
}
