//! The whole path under pgbench: triggers, queue, relay, stream, worker, target.

use tests::harness::{Database, Running, World};

const TABLES: [&str; 3] = ["public.pgbench_accounts", "public.pgbench_branches", "public.pgbench_tellers"];

/// A set of pgbench's tables, created; the target has the tables, empty.
struct Story {
    world: World,
    source: Database,
    target: Database,
}

impl Story {
    /// `stream` is the YAML below `stream:`.
    async fn begin(world: World, stream: &str) -> Self {
        let (source, target) = (world.source("bench").await, world.target("bench").await);
        source.run("pgbench", &["-i", "-q"]).await;
        target.run("pgbench", &["-i", "-q", "-I", "dtp"]).await;
        let tables = [("accounts", "aid"), ("branches", "bid"), ("tellers", "tid")]
            .map(|(table, key)| format!("tables {{ name: \"pgbench_{table}\" primary_keys: \"{key}\" }}\n"));
        world.write("set.pgshovel", &format!("database {{ dsn: \"{}\" }}\n{}", source.dsn(), tables.concat()));
        let rest = format!(
            "loader: {{ path: postgresql.wasm }}\ntarget: {{ path: postgresql.wasm, grants: {{ postgres: \"{}\" }} }}\n",
            target.uri()
        );
        world.write("all.yaml", &format!("stream: {stream}\n{rest}"));
        world.pgshovel(["cluster", "initialize"]).succeeds().await;
        world.pgshovel(["set", "create", "bench", "set.pgshovel"]).succeeds().await;
        Self { world, source, target }
    }

    /// Starts a relay or a worker.
    async fn start(&self, role: &str) -> Running {
        self.world.pgshovel([role, "all.yaml", "bench"]).start().await
    }

    async fn write(&self, transactions: u32) {
        self.source.run("pgbench", &["-n", "-c", "4", "-t", &transactions.to_string()]).await;
    }

    async fn equal(&self) {
        for table in TABLES {
            self.target.equals(&self.source, table).await;
        }
        assert_eq!(self.target.count("pgbench_accounts").await, 100_000);
    }
}

async fn copied(stream: impl AsyncFnOnce(&World) -> String) {
    let world = World::start().await;
    let stream = stream(&world).await;
    let story = Story::begin(world, &stream).await;
    // Before the bootstrap, while it goes on, and after it.
    story.write(100).await;
    let (relay, worker) = (story.start("relay").await, story.start("replicate").await);
    story.write(500).await;
    story.equal().await;
    story.write(100).await;
    story.equal().await;
    assert_eq!((relay.terminate().await.code, worker.terminate().await.code), (Some(0), Some(0)));
}

fn folder(world: &World) -> String {
    std::fs::create_dir_all(world.folder().join("stream")).unwrap();
    "{ path: file.wasm, grants: { files: { path: ./stream, mode: read-write } } }".to_owned()
}

#[tokio::test]
async fn a_folder_carries_every_row() {
    copied(async |world| folder(world)).await;
}

#[tokio::test]
async fn kafka_carries_every_row() {
    copied(async |world| format!("{{ path: kafka.wasm, grants: {{ kafka: \"{}\" }} }}", world.kafka().await)).await;
}

#[tokio::test]
async fn killed_relays_and_workers_lose_and_repeat_nothing() {
    let world = World::start().await;
    let stream = folder(&world);
    let story = Story::begin(world, &stream).await;
    let (mut relay, mut worker) = (story.start("relay").await, story.start("replicate").await);
    for _ in 0..3 {
        story.write(100).await;
        relay.kill().await;
        relay = story.start("relay").await;
        // Of a message that the one before had half written.
        relay.allow("which were never flushed");
        story.write(100).await;
        worker.kill().await;
        worker = story.start("replicate").await;
    }
    story.equal().await;
    assert_eq!((relay.terminate().await.code, worker.terminate().await.code), (Some(0), Some(0)));
}
