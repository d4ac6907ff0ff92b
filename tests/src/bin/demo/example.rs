//! The example's files, as adapted to the demo's servers, and pgbench.

use std::path::Path;
use std::time::Duration;

use pgshovel::error::{Code, Error, Result};
use pgshovel::postgres::connect::explain;
use tests::servers::{Kafka, Postgres, Process};
use tests::stage::{Stage, Stream, finish};
use tokio_postgres::Client;

/// The application's role, which owns the tables.
const OWNER: &str = "bench";

/// What the files say where the servers are.
const ADDRESSES: [&str; 3] = ["localhost:5432/source", "localhost:5433/target", "localhost:9092"];

/// Writes the example's files with the addresses of the stage's servers.
pub fn copy(stage: &Stage, example: &Path, stream: Stream) -> Result<()> {
    let [source, target, broker] = ADDRESSES;
    let places = [
        (source, format!("127.0.0.1:{}/source", stage.source.port)),
        (target, format!("127.0.0.1:{}/target", stage.target.port)),
        (broker, stage.kafka.as_ref().map(Kafka::bootstrap).unwrap_or_default()),
    ];
    let of_stream = match stream {
        Stream::File => example.to_owned(),
        Stream::Kafka => example.join("kafka"),
    };
    for (folder, name) in [(example, "set.pgshovel"), (&of_stream, "relay.yaml"), (&of_stream, "replicate.yaml")] {
        let path = folder.join(name);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Error::stop(Code::ToolFailed, format!("cannot read {}: {error}", path.display())))?;
        stage.write(name, &places.iter().fold(text, |text, (written, actual)| text.replace(written, actual)))?;
    }
    Ok(())
}

/// Makes the roles of the example, as its files say.
pub async fn make_roles(stage: &Stage, example: &Path) -> Result<()> {
    for (server, database, name) in [(&stage.source, "source", "source.sql"), (&stage.target, "target", "target.sql")] {
        let mut command = server.client("psql", database);
        // The servers' user need not be able to enter the folder.
        let text = std::fs::read_to_string(example.join(name))
            .map_err(|error| Error::stop(Code::ToolFailed, format!("cannot read {name}: {error}")))?;
        command.args(["--quiet", "--set=ON_ERROR_STOP=1", "--command", &text]);
        finish(&mut command, &format!("psql -f {name}")).await?;
    }
    Ok(())
}

/// Runs pgbench's initialization, only `steps` of it.
pub async fn initialize(server: &Postgres, database: &str, steps: &str, scale: u64) -> Result<()> {
    let mut command = server.client("pgbench", database);
    command.args(["-U", OWNER, "-i", "-q", "-I", steps, "-s", &scale.to_string()]);
    finish(&mut command, "pgbench -i").await
}

/// Starts a load that ends when it is stopped, or else after `at_most`.
pub fn load(stage: &Stage, clients: u64, at_most: Duration) -> Result<Process> {
    let mut command = stage.source.client("pgbench", "source");
    command.args(["-U", OWNER, "-n", "-P", "1", "-c", &clients.to_string(), "-T", &at_most.as_secs().to_string()]);
    stage.process("pgbench", "pgbench", &mut command, "TERM")
}

/// How many transactions of the load were committed, once none is left that may
/// still be: each has written a row into `pgbench_history`, which is not replicated.
pub async fn transactions(source: &Client) -> Result<Option<u64>> {
    let sql = "SELECT (SELECT count(*) FROM pgbench_history), (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench')";
    let row = source.query_one(sql, &[]).await.map_err(|error| explain(&error).context("counting transactions"))?;
    let (done, open): (i64, i64) = (row.get(0), row.get(1));
    Ok((open == 0).then(|| u64::try_from(done).unwrap_or(0)))
}
