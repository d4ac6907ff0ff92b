//! A standby that cannot lead says so when it starts, and a worker that waits for a person is
//! seen by `set check`.

use std::time::Duration;

use tests::harness::eventually;

use super::setup::{App, SET, SOON, configuration};

/// Each beside processes that work, which nothing happens to.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_could_not_lead_ends_at_once() {
    let app = App::new().await;
    app.fill(10).await;
    let mut relay = app.world.pgshovel(["relay", "relay.yaml", SET, "--listen", "127.0.0.1:0"]).start().await;
    let mut worker = app.worker(&["--listen", "127.0.0.1:0"]).start().await;
    relay.answers(200, &["\"state\":\"leading\""]).await;
    worker.answers(200, &["\"phase\":\"catching-up\""]).await;

    let target = app.target.uri();
    let (server, name) = target.split_at(target.rfind('/').unwrap());
    let nowhere = format!("{server}/nowhere{}", name.split_once('?').map_or(String::new(), |(_, rest)| format!("?{rest}")));
    let wrong = [
        // What the target's own server says.
        ("replicate", configuration(&nowhere, ""), 3, "nowhere"),
        (
            "replicate",
            configuration(&target, "").replace("./stream", "./straem"),
            3,
            "./straem: it does not exist; if the name is right, make it",
        ),
        ("replicate", configuration(&target, "  configuration: { types: wrong }\n"), 3, "types"),
        ("replicate", configuration(&target, "transforms: [ { path: nothing.wasm } ]\n"), 3, "nothing.wasm"),
        (
            "relay",
            "stream: { path: file.wasm, grants: { files: { path: ./straem, mode: read-write} } }\n".to_owned(),
            3,
            "straem: it does not exist",
        ),
        (
            "relay",
            "stream: { path: file.wasm, configuration: { segment: 1 }, grants: { files: { path: ./stream, mode: read-write } } }\n"
                .to_owned(),
            3,
            "segment",
        ),
    ];
    for (command, text, code, said) in wrong {
        // As a user does: the kit would make the folders.
        std::fs::write(app.world.folder().join("wrong.yaml"), &text).unwrap();
        let ended = tokio::time::timeout(SOON, app.world.pgshovel([command, "wrong.yaml", SET]).run()).await.unwrap();
        assert_eq!((ended.code, ended.stderr.contains(said)), (Some(code), true), "{text}: {}", ended.stderr);
    }
    assert!(!app.world.folder().join("straem").exists());

    // One that can lead goes on standing by.
    for words in [["relay", "relay.yaml", SET], ["replicate", "replicate.yaml", SET]] {
        let mut standby = app.world.pgshovel(words).start().await;
        standby.logs("this process could lead").await;
        assert_eq!(standby.terminate().await.code, Some(0));
    }
    app.source.execute("UPDATE accounts SET name = 'changed'").await;
    app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
    // With nobody else there: the same.
    app.world.write("wrong.yaml", &configuration(&nowhere, ""));
    let ended = app.world.pgshovel(["replicate", "wrong.yaml", SET]).fails(3).await;
    assert!(ended.contains("nowhere"), "{ended}");
}

/// What is shown in ZooKeeper, which others may read, is no more than that.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_waits_for_a_person_is_seen_by_set_check() {
    let app = App::new().await;
    app.fill(10).await;
    let relay = app.relay().await;
    let worker = app.worker(&[]).allow("secret_check").start().await;
    app.equal().await;
    let check = || app.world.pgshovel(["set", "check", SET, "--format", "json"]);
    let state = async |wanted: &str| {
        eventually(wanted, SOON, || async {
            let ended = check().run().await;
            let found: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
            if found[0]["worker"]["state"] == wanted { Ok((ended.code, found)) } else { Err(found.to_string()) }
        })
        .await
    };
    assert_eq!(state("working").await.0, Some(0));
    app.target.execute("ALTER TABLE accounts ADD CONSTRAINT secret_check CHECK (name <> 'hunter2')").await;
    app.source.execute("UPDATE accounts SET name = 'hunter2' WHERE id = 1").await;
    let (code, found) = state("blocked").await;
    assert_eq!(code, Some(1), "{found}");
    let text = found.to_string();
    assert!(text.contains("for what a person has to mend") && !text.contains("hunter2") && !text.contains("secret_check"), "{text}");
    let table = app.world.pgshovel(["set", "check", SET]).run().await.stdout;
    assert!(table.contains("WORKER") && table.contains("blocked for "), "{table}");
    app.target.execute("ALTER TABLE accounts DROP CONSTRAINT secret_check").await;
    assert_eq!(state("working").await.0, Some(0));
    app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let found: serde_json::Value = serde_json::from_str(&check().succeeds().await).unwrap();
    assert!(found[0]["worker"].is_null(), "{found}");
    assert_eq!(relay.terminate().await.code, Some(0));
}
