//! The example's files, as adapted to the demo's servers, and pgbench.

use std::path::Path;

use pgshovel::error::{Error, Result};
use tests::servers::{Kafka, Postgres, Process};
use tests::stage::{Stage, Stream, finish};

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
        let text = std::fs::read_to_string(&path).map_err(|error| Error::stop(format!("cannot read {}: {error}", path.display())))?;
        stage.write(name, &places.iter().fold(text, |text, (written, actual)| text.replace(written, actual)))?;
    }
    Ok(())
}

/// Runs pgbench's initialization, only `steps` of it.
pub async fn initialize(server: &Postgres, database: &str, steps: &str, scale: u64) -> Result<()> {
    let mut command = server.client("pgbench", database);
    command.args(["-i", "-q", "-I", steps, "-s", &scale.to_string()]);
    finish(&mut command, "pgbench -i").await
}

/// Starts the load.
pub fn load(stage: &Stage, clients: u64, seconds: u64) -> Result<Process> {
    let mut command = stage.source.client("pgbench", "source");
    command.args(["-n", "-P", "1", "-c", &clients.to_string(), "-T", &seconds.to_string()]);
    stage.process("pgbench", "pgbench", &mut command, "TERM")
}
