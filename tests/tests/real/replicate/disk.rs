//! A folder of the file stream that cannot be written to.

use std::process::Command;

use super::setup::{App, SET, configuration};

/// Before the program, in a mount namespace of its own, where its user is root: a disk
/// of 3 MiB where the stream's folder is.
const SMALL_DISK: [&str; 6] =
    ["unshare", "--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs -o size=3m tmpfs ./stream && exec \"$0\" \"$@\""];

/// Root without the right to ignore permissions.
const AS_ANYBODY: [&str; 3] = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"];

#[tokio::test]
async fn a_full_disk_is_waited_out() {
    let app = App::new().await;
    let mut relay = app.world.pgshovel(["relay", "relay.yaml", SET]).under(&SMALL_DISK).start().await;
    relay.logs("\"leading\"").await;
    let disk = format!("/proc/{}/root{}/stream", relay.pid(), app.world.folder().display());
    app.world.write("replicate.yaml", &configuration(&app.target.uri(), "").replace("./stream", &disk));
    let mut worker = app.worker(&[]).start().await;
    worker.logs("\"phase\":\"catching-up\"").await;
    app.source.execute("INSERT INTO accounts (id, name) VALUES (1, 'fits')").await;
    app.equal().await;
    relay.allow("waiting to try again");
    relay.allow("which were never flushed");
    let wide = "INSERT INTO accounts (id, name) SELECT i, repeat(md5(i::text), 4096) FROM generate_series(10, 70) i";
    app.source.execute(wide).await;
    let waits = relay.logs("waiting to try again").await;
    assert!(waits.contains("make room on the disk"), "{waits}");
    assert_eq!(app.target.count("accounts").await, 1);
    let pid = relay.pid().to_string();
    let folder = app.world.folder().join("stream");
    let remounted = Command::new("nsenter")
        .args(["--target", &pid, "--user", "--mount", "--preserve-credentials", "mount", "-o", "remount,size=64m"])
        .arg(&folder)
        .status();
    assert!(remounted.unwrap().success());
    app.equal().await;
    // Of what the full disk cut off nothing is left that a reader minds.
    app.world.write("lint.yaml", &format!("stream: {{ path: file.wasm, grants: {{ files: {{ path: {disk}, mode: read-only }} }} }}\n"));
    app.world.pgshovel(["stream", "lint", "lint.yaml", SET, "--wait", "0"]).succeeds().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}

#[tokio::test]
async fn a_folder_without_the_right_to_write_is_named() {
    let app = App::new().await;
    let folder = app.world.folder().join("stream");
    let chmod = |mode: &str| assert!(Command::new("chmod").arg(mode).arg(&folder).status().unwrap().success());
    chmod("555");
    app.source.execute("INSERT INTO accounts (id) VALUES (1)").await;
    let refused = app.world.pgshovel(["relay", "relay.yaml", SET]).under(&AS_ANYBODY).fails(1).await;
    assert!(refused.contains("let the user of this process write to it"), "{refused}");
    chmod("755");
    let relay = app.relay().await;
    let mut worker = app.worker(&[]).start().await;
    worker.logs("\"phase\":\"catching-up\"").await;
    app.source.execute("INSERT INTO accounts (id) VALUES (2)").await;
    app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}
