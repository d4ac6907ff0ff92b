//! Arguments, terminals, files and core dumps.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pgshovel::config;
use proto::row::{Change, Row, Value};
use tests::harness::{World, eventually};
use tests::paths;

use super::limits::{fails, run};
use crate::forge;

/// Before: SIGTERM made the handler panic, and the process lived on; `--wait` panicked itself.
#[tokio::test]
async fn times_have_ranges() {
    let world = World::without_servers();
    let most = u64::MAX.to_string();
    let too_long = "315360001";
    world.write("app.yaml", "stream: { path: file.wasm, grants: { files: { path: ./stream, mode: read-write } } }\n");
    for (command, option, value) in [
        ("relay app.yaml s", "--grace-period", most.as_str()),
        ("relay app.yaml s", "--rotation-period", too_long),
        ("replicate app.yaml s", "--grace-period", most.as_str()),
        ("set check s", "--lag-max", most.as_str()),
        ("stream lint app.yaml s", "--wait", most.as_str()),
        ("stream show app.yaml s", "--wait", "86401"),
        ("stream lint app.yaml s --strict", "--keys-max", "0"),
        ("stream lint app.yaml s --strict", "--keys-max", most.as_str()),
    ] {
        let arguments = command.split(' ').chain([option, value]);
        let said = world.pgshovel(arguments).fails(2).await;
        assert!(said.contains(option) && said.contains(value) && said.contains(" is not in "), "{said}");
    }
    // The greatest that is taken overflows nothing.
    world.pgshovel(["stream", "lint", "app.yaml", "s", "--wait", "0"]).fails(1).await;
    let relay = world.pgshovel(["relay", "app.yaml", "s", "--grace-period", "315360000", "--zookeeper-hosts", "127.0.0.1:1"]);
    let mut relay = relay.allow("").start().await;
    relay.logs("ZooKeeper").await;
    relay.signal("TERM");
    relay.logs("stopping").await;
    let ended = relay.kill().await;
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

/// Before: ESC and line feeds in names of tables and columns reached the terminal as they were.
#[tokio::test]
async fn names_in_a_stream_steer_no_terminal() {
    let world = World::without_servers();
    let file = world.write("stream.yaml", "stream: { path: file.wasm, grants: { files: { path: ./log, mode: read-write } } }\n");
    let section = config::relay(&file).unwrap().stream;
    let source = forge::source(&world.cluster(), "set");
    let row: Row = forge::item(1, "a\u{1b}[31m");
    let mut messages = forge::batch(&source, 1, 2, vec![Change::Insert(row.clone())], true);
    assert!(matches!(row[1], Value::Text(_)));
    // The name of the table, of the same length.
    messages = messages.iter().map(|message| replace(message, b"items", b"i\x1b[3\n").into()).collect();
    forge::write(&section, &world.cluster(), "set", messages).await;
    for arguments in
        [&["stream", "show", "stream.yaml", "set", "--wait", "1"][..], &["stream", "show", "stream.yaml", "set", "--wait", "1", "--rows"]]
    {
        let shown = world.pgshovel(arguments.iter().copied()).succeeds().await;
        assert!(shown.contains("i\\u{1b}[3\\n insert"), "{shown}");
        assert!(!shown.contains('\u{1b}') && shown.lines().count() == 3, "{shown}");
    }
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = bytes.to_vec();
    for at in 0..replaced.len().saturating_sub(from.len()) {
        if replaced[at..].starts_with(from) {
            replaced[at..at + to.len()].copy_from_slice(to);
        }
    }
    replaced
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

const NOWHERE: &str = "postgres: \"host=/nowhere\"";

/// Before: 0644 in folders of 0755, with all rows in them.
#[tokio::test]
async fn what_a_plugin_writes_is_for_its_user_alone() {
    let world = World::without_servers();
    let files = "files: { path: ./here, mode: read-write }";
    let section = format!("{{ path: probe.wasm, configuration: {{ next: open-files }}, grants: {{ {NOWHERE}, {files} }} }}");
    // As many as it may have handles.
    fails(&world, "files", &section, 1, &["stream: probe.wasm"]).await;
    assert_eq!(mode(&world.folder().join("here/one")), 0o600);
}

/// Before: a plugin could fill the disk.
#[tokio::test]
async fn a_granted_folder_has_a_quota() {
    let world = World::without_servers();
    let files = "files: { path: ./full, mode: read-write, size: 64MiB }";
    let section =
        format!("{{ path: probe.wasm, configuration: {{ next: fill }}, grants: {{ {NOWHERE}, {files} }}, limits: {{ call: 60s }} }}");
    let says = ["holds more than the 64MiB of grants.files.size", "raise grants.files.size in the section `stream`"];
    fails(&world, "full", &section, 1, &says).await;
    // It stays so until somebody makes room.
    let section = section.replace("fill", "nothing");
    fails(&world, "full", &section, 1, &says).await;
    fs::remove_dir_all(world.folder().join("full")).unwrap();
    let outcome = run(&world, "full", &section).await;
    assert!(!outcome.ended.stderr.contains("grants.files.size"), "{}", outcome.ended.stderr);
}

/// Before: a core dump held every connection string, and so did memory that other
/// processes of the user may read. The kernel gives such a process's files to root.
#[tokio::test]
async fn no_process_can_be_dumped() {
    let world = World::without_servers();
    // Where another user reaches it.
    let program = world.folder().join("pgshovel");
    fs::copy(paths::pgshovel().unwrap(), &program).unwrap();
    let is_root = fs::metadata("/proc/self/status").unwrap().uid() == 0;
    let mut command = if is_root { Command::new("setpriv") } else { Command::new("env") };
    if is_root {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    }
    // Nobody listens there, and it waits.
    command.arg(&program).args(["set", "list", "--zookeeper-hosts", "127.0.0.1:1"]).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let files = PathBuf::from(format!("/proc/{}", child.id()));
    let found = eventually("a process without dumps", Duration::from_secs(8), || {
        let name = fs::read_to_string(files.join("comm")).unwrap_or_default();
        let owner = fs::metadata(files.join("environ")).map(|found| found.uid()).ok();
        let text = format!("{name:?} {owner:?}");
        async move { if name.trim() == "pgshovel" && owner == Some(0) { Ok(text) } else { Err(text) } }
    })
    .await;
    println!("{found}");
    child.kill().unwrap();
    child.wait().unwrap();
}
