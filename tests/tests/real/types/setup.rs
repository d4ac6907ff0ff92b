//! A set, its relay and its worker, over any stream.

use std::time::Duration;

use tests::harness::{Database, Running, World};

/// Far longer than anything here takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(180);

/// What a plugin may have if nothing is said.
pub const MEMORY: &str = "256MiB";

pub enum Stream {
    File,
    Kafka,
}

/// One set from a source into a target of its own.
pub struct Pipeline {
    pub name: &'static str,
    pub target: Database,
    pub relay: Running,
    pub worker: Running,
}

/// `tables` in the text of a set's configuration; `more` is inside of the table.
pub fn table(name: &str, key: &[&str], more: &str) -> String {
    let keys: String = key.iter().map(|key| format!(" primary_keys: {}", text(key))).collect();
    format!("tables {{ name: {}{keys} {more} }}\n", text(name))
}

fn text(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

pub async fn create_set(world: &World, source: &Database, name: &str, tables: &str) {
    let file = format!("{name}.pgshovel");
    world.write(&file, &format!("database {{ dsn: {:?} }}\n{tables}", source.dsn()));
    world.pgshovel(["set", "create", name, &file]).succeeds().await;
}

impl Pipeline {
    /// Starts relay and worker of the set `name`, which exists. `memory` is what each plugin
    /// may have.
    pub async fn start(world: &World, name: &'static str, stream: Stream, target: Database, memory: &str) -> Self {
        let limits = format!("limits: {{ memory: {memory} }}");
        let stream = match stream {
            Stream::File => {
                std::fs::create_dir_all(world.folder().join(name)).unwrap();
                format!("path: file.wasm, grants: {{ files: {{ path: ./{name}, mode: read-write }} }}")
            }
            Stream::Kafka => format!("path: kafka.wasm, grants: {{ kafka: \"{}\" }}", world.kafka().await),
        };
        world.write(
            &format!("{name}.yaml"),
            &format!(
                "stream: {{ {stream}, {limits} }}\nloader: {{ path: postgresql.wasm, {limits} }}\n\
                 target: {{ path: postgresql.wasm, grants: {{ postgres: \"{}\" }}, {limits} }}\n",
                target.uri()
            ),
        );
        let relay = world.pgshovel(["relay", &format!("{name}.yaml"), name]).start().await;
        let worker = world.pgshovel(["replicate", &format!("{name}.yaml"), name]).start().await;
        Self { name, target, relay, worker }
    }

    pub async fn end(self) {
        assert_eq!(self.worker.terminate().await.code, Some(0));
        assert_eq!(self.relay.terminate().await.code, Some(0));
    }
}
