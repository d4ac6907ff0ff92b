//! What writes into the source while everything around it breaks.

use std::time::Duration;

use pgshovel::error::Result;
use pgshovel::postgres::connect::connect;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::servers::Process;
use crate::stage::Stage;

/// Transactions of pgbench a second, all of its clients together: the stream is
/// read from its start after every round.
const RATE: &str = "100";

/// A table of nasty types, for both databases.
pub const THINGS: &str = "CREATE TABLE things (id bigint PRIMARY KEY, number numeric, float double precision, name text, \"at\" timestamptz, \
     \"day\" date, lasts interval, doc jsonb, json json, bytes bytea, list int[], uuid uuid, range int4range, bits bit varying, net inet)";

/// pgbench, and a session that writes `things`. Dropping it ends both.
#[derive(Debug)]
pub struct Load {
    pgbench: Process,
    _writer: JoinSet<()>,
}

impl Load {
    pub fn start(stage: &Stage, seed: u64) -> Result<Self> {
        let mut writer = JoinSet::new();
        writer.spawn(write_things(stage.source.dsn("source"), StdRng::seed_from_u64(seed)));
        Ok(Self { pgbench: pgbench(stage)?, _writer: writer })
    }

    /// pgbench ends when its server does.
    pub fn revive(&mut self, stage: &Stage) -> Result<()> {
        if self.pgbench.exited()?.is_some() {
            self.pgbench = pgbench(stage)?;
        }
        Ok(())
    }
}

fn pgbench(stage: &Stage) -> Result<Process> {
    let mut command = stage.source.client("pgbench", "source");
    command.args(["-n", "-c", "4", "-R", RATE, "-T", "86400"]);
    stage.process("pgbench", "pgbench", &mut command, "TERM")
}

/// One transaction after the other; what fails is not worth a word.
async fn write_things(dsn: String, mut random: StdRng) {
    loop {
        if let Ok(client) = connect(&dsn, "things").await {
            while client.batch_execute(&statement(&mut random)).await.is_ok() || !client.is_closed() {
                sleep(Duration::from_millis(random.random_range(0..40))).await;
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Settings that a trigger must not see, and a change of some rows.
fn statement(random: &mut StdRng) -> String {
    let settings = [
        "SET DateStyle = 'German'; SET IntervalStyle = 'sql_standard'; SET extra_float_digits = -15; SET bytea_output = 'escape'",
        "SET search_path = ''; SET TimeZone = 'Asia/Kathmandu'; SET row_security = off",
        "SET session_replication_role = 'origin'; SET default_transaction_isolation = 'repeatable read'",
        "SET default_transaction_isolation = 'serializable'; SET statement_timeout = '5s'",
        "RESET ALL",
    ];
    let setting = settings[random.random_range(0..settings.len())];
    let (count, part) = (random.random_range(1..60), random.random_range(0..13));
    let change = match random.random_range(0..100) {
        0 => "TRUNCATE public.things".to_owned(),
        1..40 => insert(random, count),
        40..60 => format!(
            "UPDATE public.things SET number = -number, name = name || E'\\u00e4\\n\\\\\"', \"at\" = \"at\" + interval '1 microsecond' WHERE id % 13 = {part}"
        ),
        60..70 => format!("UPDATE public.things SET id = -id WHERE id % 13 = {part}"),
        70..85 => format!("DELETE FROM public.things WHERE abs(id) % 13 = {part}"),
        85..92 => format!("BEGIN; {}; ROLLBACK", insert(random, count)),
        _ => format!(
            "BEGIN; {}; SAVEPOINT inner_one; DELETE FROM public.things; ROLLBACK TO inner_one; UPDATE public.things SET list = NULL WHERE id % 13 = {part}; COMMIT",
            insert(random, count)
        ),
    };
    // What failed before may have left a transaction open.
    format!("ROLLBACK; {setting}; {change}")
}

fn insert(random: &mut StdRng, count: u32) -> String {
    let number = ["NaN", "Infinity", "-0.00", "1e100", "0.000000000000000000000000000001"][random.random_range(0..5)];
    let float = ["NaN", "-Infinity", "-0", "5e-324", "0.1"][random.random_range(0..5)];
    let instant =
        ["infinity", "4713-01-02 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00", "2026-03-29 02:30:00+00"][random.random_range(0..4)];
    let start: u32 = random.random_range(0..4000);
    format!(
        "INSERT INTO public.things SELECT id, '{number}', '{float}', repeat(chr(1 + id::int % 2000), id::int % 50), '{instant}', \
         '0044-03-15 BC', '-1 year 2 mons -3 days 04:05:06.789', '{{\"a\": [1, 1.0, null, \"\\\\u00e4\"]}}', '{{\"a\":1, \"a\" : 2}}', \
         decode(repeat('00ff5c', id::int % 5), 'hex'), '[0:1][2:3]={{{{1,NULL}},{{3,4}}}}', pg_catalog.md5(id::text)::uuid, '(,5]', B'0101', '::ffff:1.2.3.4/96' \
         FROM pg_catalog.generate_series({start}, {start} + {count}) AS id ON CONFLICT DO NOTHING"
    )
}
