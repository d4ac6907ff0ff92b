//! A set of two tables, its relay and its worker, made as a user makes them.

use std::time::Duration;

use tests::harness::{Database, Program, Running, World};

pub const SET: &str = "app";

/// Far longer than anything here takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(120);

const TABLES: &str = "CREATE TABLE accounts (id bigint PRIMARY KEY, name text, balance numeric(12, 2), active boolean);
     CREATE TABLE \"Line items\" (account bigint, number integer, \"what it was\" text, price float8, made timestamptz, PRIMARY KEY (account, number))";

pub const NAMES: [&str; 2] = ["public.accounts", "public.\"Line items\""];

pub struct App {
    pub world: World,
    pub source: Database,
    pub target: Database,
}

impl App {
    pub async fn new() -> Self {
        let world = World::start().await;
        let (source, target) = (world.source("source").await, world.target("target").await);
        let (from, to) = (source.dsn(), target.uri());
        Self::of(world, source, target, &from, &to).await
    }

    /// With these databases, which `from` and `to` lead to.
    pub async fn of(world: World, source: Database, target: Database, from: &str, to: &str) -> Self {
        source.execute(TABLES).await;
        target.execute(TABLES).await;
        let set = format!(
            "database {{ dsn: \"{from}\" }}\ntables {{ name: \"accounts\" primary_keys: \"id\" }}\n\
             tables {{ name: \"Line items\" primary_keys: \"account\" primary_keys: \"number\" }}\n"
        );
        world.write("set.pgshovel", &set);
        world.write("relay.yaml", "stream:\n  path: file.wasm\n  grants: { files: { path: ./stream, mode: read-write } }\n");
        world.write("replicate.yaml", &configuration(to, ""));
        std::fs::create_dir_all(world.folder().join("stream")).unwrap();
        world.pgshovel(["cluster", "initialize"]).succeeds().await;
        world.pgshovel(["set", "create", SET, "set.pgshovel"]).succeeds().await;
        Self { world, source, target }
    }

    pub async fn relay(&self) -> Running {
        self.world.pgshovel(["relay", "relay.yaml", SET]).start().await
    }

    pub fn worker(&self, arguments: &[&str]) -> Program {
        self.world.pgshovel([&["replicate", "replicate.yaml", SET], arguments].concat())
    }

    /// Waits until the target holds the source's rows.
    pub async fn equal(&self) {
        for name in NAMES {
            self.target.equals(&self.source, name).await;
        }
    }

    /// Rows that make the bootstrap take a while.
    pub async fn fill(&self, rows: u32) {
        self.source
            .execute(&format!(
                "INSERT INTO accounts SELECT i, 'account ' || i, i / 100.0, i % 3 = 0 FROM generate_series(1, {rows}) i;
                 INSERT INTO \"Line items\" SELECT i, n, repeat('x', 40), sqrt(i * n), '2024-01-01 00:00+00'::timestamptz + i * interval '1 min'
                 FROM generate_series(1, {rows} / 2) i, generate_series(1, 2) n"
            ))
            .await;
    }
}

/// The worker's file. `more` is at the end, for other sections.
pub fn configuration(target: &str, more: &str) -> String {
    format!(
        "stream:\n  path: file.wasm\n  grants: {{ files: {{ path: ./stream, mode: read-only }} }}\n\
         loader: {{ path: postgresql.wasm }}\n\
         target:\n  path: postgresql.wasm\n  grants: {{ postgres: \"{target}\" }}\n{more}"
    )
}
