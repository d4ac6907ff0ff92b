//! What a test of the real program against real servers needs.
//!
//! ```no_run
//! # async fn test() {
//! use tests::harness::World;
//!
//! let world = World::start().await;
//! let source = world.source("app").await;
//! let target = world.target("app").await;
//! source.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
//! world.write("set.pgshovel", &format!("database {{ dsn: {:?} }}\ntables {{ name: \"t\" primary_keys: \"id\" }}", source.dsn()));
//! world.pgshovel(["cluster", "initialize"]).succeeds().await;
//! world.pgshovel(["set", "create", "app", "set.pgshovel"]).succeeds().await;
//! let relay = world.pgshovel(["relay", "relay.yaml", "app"]).start().await;
//! // …
//! target.equals(&source, "t").await;
//! assert_eq!(relay.terminate().await.code, Some(0));
//! # }
//! ```
//!
//! The servers start once per run, at the first test that needs them, and end
//! with it. A test gets databases, a ZooKeeper chroot, topics, a folder and a
//! cluster name of its own. Everything here panics with a full message: it is
//! for tests alone.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod database;
mod eventually;
mod program;
mod world;

pub use database::Database;
pub use eventually::eventually;
pub use program::{Ended, Program, Running};
pub use world::World;
