//! The host against components: hand-written ones that it has to refuse, and
//! `tests/fixtures/probe`, which does what it is told. `make plugins` builds that.

mod asking;
mod crossing;
mod refusals;
mod running;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use proto::batch::Batch;
use proto::row::{Change, Column, Mutation, Relation, Value};

use super::{Context, Engine, Options};
use crate::capabilities::Grants;
use crate::capabilities::grants::{Resources, Secret};
use crate::config::{Limits, Section};

/// The folder that `make plugins` fills, found from where this program lies:
/// `FOLDER/PROFILE/deps/program`.
fn built() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let target = program.ancestors().nth(3).expect("cargo puts tests three folders deep");
    let folder = target.join("plugins");
    assert!(folder.join("probe.wasm").is_file(), "{} has no probe.wasm; run `make plugins`", folder.display());
    folder
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(Options { search: vec![built()], cache: None }).unwrap())
}

fn context() -> Context {
    Context { cluster: "default".into(), set: "app".into() }
}

/// A section that runs the probe with these orders, and grants it a database that is not there.
fn probe(name: &str, orders: &serde_json::Value) -> Section {
    let dsn = Secret::new("host=/nowhere dbname=app".into());
    let grants = Grants { postgres: Resources::One(dsn), ..Grants::default() };
    Section { configuration: orders.clone(), grants, ..section(name, "probe.wasm", Path::new("conf")) }
}

fn section(name: &str, path: &str, folder: &Path) -> Section {
    Section {
        name: name.into(),
        file: folder.join("app.yaml"),
        path: path.into(),
        configuration: serde_json::json!({}),
        grants: Grants::default(),
        limits: Limits::default(),
        sha256: None,
    }
}

/// A folder of this test's own, gone when it ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pgshovel-plugins-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn batch() -> Batch {
    let tick = |id| proto::interfaces::common::Tick { id, ..Default::default() };
    Batch { id: 1, node: [0x11; 16], start: tick(5), end: tick(6), source: None }
}

fn accounts() -> Arc<Relation> {
    let columns = [("aid", "integer", 23), ("bid", "integer", 23), ("abalance", "bigint", 20), ("rate", "double precision", 701)];
    let texts =
        [("name", "text", 25), ("filler", "character(84)", 1042), ("changed", "timestamp with time zone", 1184), ("note", "text", 25)];
    let column = |(name, type_name, type_oid): (&str, &str, u32)| Column { name: name.into(), type_name: type_name.into(), type_oid };
    Arc::new(Relation {
        schema: "public".into(),
        table: "accounts".into(),
        columns: columns.into_iter().chain(texts).map(column).collect(),
        identity: vec![0],
        version: "v1".into(),
    })
}

/// Inserts of eight columns.
fn mutations(count: u32) -> Vec<Mutation> {
    let relation = accounts();
    let row = |id: u32| {
        vec![
            Value::Integer(id.into()),
            Value::Integer(1),
            Value::Integer(-7),
            Value::Float(0.25),
            Value::Text(format!("account {id}")),
            Value::Text(" ".repeat(84)),
            Value::Text("2026-01-02 03:04:05.678901+00".into()),
            Value::Null,
        ]
    };
    let mutation = |id: u32| Mutation {
        id: id.into(),
        relation: Arc::clone(&relation),
        change: Change::Insert(row(id)),
        transaction: 9,
        timestamp_us: 1_700_000_000_000_000,
        version: 1_700_000_000_000_001 + u64::from(id),
    };
    (1..=count).map(mutation).collect()
}
