//! What becomes of a plugin that runs, well or badly.

use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use expect_test::{Expect, expect};
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use super::super::{stream, target, transform, writer};
use super::*;
use crate::capabilities::files::{self, Mode};
use crate::error::{Error, Next, Rejected, Rejection, Result};
use crate::ports::{Chunk, Entry, Guarantee, Messages, Stream as _, Target as _, Transform as _, Writer as _};

/// What a push to the probe with these orders fails with.
async fn pushed(section: &Section) -> Error {
    let mut writer = writer::open(engine(), section, &context()).await.unwrap();
    writer.push(&batch(), Messages::from_iter(["a message"; 3])).await.unwrap();
    writer.flush().await.unwrap_err()
}

fn ends(error: &Error, next: Next, expected: &Expect) {
    assert_eq!(error.next, next, "{error}");
    expected.assert_eq(&error.message);
}

#[tokio::test]
async fn a_writer_gets_the_batch_and_the_messages() {
    let error = pushed(&probe("stream", &json!({ "push": "report" }))).await;
    ends(&error, Next::Stop, &expect!["stream: probe.wasm: 11111111-1111-1111-1111-111111111111 5 6: 3 messages of 27 bytes"]);
    let mut writer = writer::open(engine(), &probe("stream", &json!({})), &context()).await.unwrap();
    for _ in 0..3 {
        writer.push(&batch(), Messages::from_iter(["a", ""])).await.unwrap();
        writer.flush().await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_resumes_after_a_position() {
    let mut stream = stream::open(engine(), &probe("stream", &json!({})), &context()).await.unwrap();
    stream.seek(None).await.unwrap();
    let all = stream.next(3, Duration::ZERO).await.unwrap();
    let entries: Vec<Entry<'_>> = all.iter().collect();
    stream.seek(Some(entries[0].position)).await.unwrap();
    assert_eq!(stream.next(2, Duration::ZERO).await.unwrap().iter().collect::<Vec<_>>(), entries[1..]);
    assert_eq!(entries[2], Entry { position: &2_u64.to_be_bytes(), message: &[b'm'; 300] });
    ends(&stream.seek(Some(b"odd")).await.unwrap_err(), Next::Stop, &expect!["stream: probe.wasm: no position of mine"]);
    // An error that it returned does not end it.
    stream.seek(None).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_returns_what_it_may_not() {
    for (order, expected) in [
        ("flood", expect!["stream: probe.wasm: `next` returned 4 messages where at most 3 were asked for; that is a fault of the plugin"]),
        ("position", expect!["stream: probe.wasm: `next` returned a position of 5000 bytes; that is a fault of the plugin"]),
        (
            "uncut",
            expect![
                "stream: probe.wasm: `next` returned messages of 900 bytes, whose lengths add up to 901; that is a fault of the plugin"
            ],
        ),
        ("unplaced", expect!["stream: probe.wasm: `next` returned 1 positions for 3 messages; that is a fault of the plugin"]),
    ] {
        let mut stream = stream::open(engine(), &probe("stream", &json!({ "next": order })), &context()).await.unwrap();
        ends(&stream.next(3, Duration::ZERO).await.unwrap_err(), Next::Stop, &expected);
    }
}

#[tokio::test]
async fn a_target_is_called_with_what_its_port_is_given() -> Result<()> {
    let mut target = target::open(engine(), &probe("target", &json!({ "commit": "report" })), &context()).await?;
    assert_eq!(target.guarantee().await?, Guarantee::Idempotent);
    assert_eq!(target.load_state().await?, Some(vec![1, 2, 3]));
    let relation = accounts();
    target.load(Chunk { relation, rows: vec![], estimated_rows: None }, 7).await?;
    target.begin(&batch()).await?;
    target.apply(mutations(5)).await?;
    target.rollback().await?;
    ends(&target.commit(None, &[4]).await.unwrap_err(), Next::Stop, &expect!["target: probe.wasm: None [4]"]);
    ends(&target.commit(Some(&[4]), &[5]).await.unwrap_err(), Next::Stop, &expect!["target: probe.wasm: Some([4]) [5]"]);
    Ok(())
}

#[tokio::test]
async fn a_transform_is_held_to_its_contract() -> Result<()> {
    let mut transform = transform::open(engine(), &probe("transforms[1]", &json!({})), &context()).await?;
    assert_eq!(transform.transform(mutations(5)).await?, mutations(5));
    assert_eq!(transform.transform(vec![]).await?, vec![]);
    for (order, expected) in [
        (
            "reorder",
            expect![
                "transforms[1]: probe.wasm: `transform` returned the mutation 4 out of its order, or without having got it; that is a fault of the plugin"
            ],
        ),
        (
            "version",
            expect![
                "transforms[1]: probe.wasm: `transform` returned the mutation 1 with another version than it had; that is a fault of the plugin"
            ],
        ),
        (
            "unknown",
            expect![
                "transforms[1]: probe.wasm: `transform` returned the mutation 1 of the relation 100, which is not among those it returned; that is a fault of the plugin"
            ],
        ),
        (
            "short",
            expect![
                "transforms[1]: probe.wasm: `transform` returned a row of the mutation 1 (public.accounts) with 0 values for 8 columns; that is a fault of the plugin"
            ],
        ),
    ] {
        let section = probe("transforms[1]", &json!({ "transform": order }));
        let mut transform = transform::open(engine(), &section, &context()).await?;
        ends(&transform.transform(mutations(5)).await.unwrap_err(), Next::Stop, &expected);
    }
    Ok(())
}

#[tokio::test]
async fn errors_of_a_plugin_say_what_to_do_next() {
    ends(&pushed(&probe("stream", &json!({ "push": "retry" }))).await, Next::Retry, &expect!["stream: probe.wasm: the server is away"]);
    ends(&pushed(&probe("stream", &json!({ "push": "stop" }))).await, Next::Stop, &expect![[r#"stream: probe.wasm: line one\nline two"#]]);
    ends(
        &pushed(&probe("stream", &json!({ "push": "configure" }))).await,
        Next::Configure,
        &expect!["stream: probe.wasm: `speed` is 0: choose at least 1 (section `stream` of conf/app.yaml)"],
    );
    ends(
        &pushed(&probe("stream", &json!({ "push": "silent" }))).await,
        Next::Retry,
        &expect!["stream: probe.wasm: `push` failed as `retry` and gave no reason, which is a fault of the plugin"],
    );
}

/// What the host knows of a rejected row, and whoever decides about it.
#[tokio::test]
async fn rejections_are_data_and_name_the_event() {
    let event = |index: u32, reason: &str| Rejection {
        index,
        what: Rejected::Event { id: u64::from(index) + 1, schema: "public".into(), table: "accounts".into() },
        reason: reason.into(),
    };
    let mut target = target::open(engine(), &probe("target", &json!({ "apply": "reject" })), &context()).await.unwrap();
    let error = target.apply(mutations(9)).await.unwrap_err();
    ends(
        &error,
        Next::Stop,
        &expect![
            "target: probe.wasm: `apply` rejects 7 rows: event 1 of public.accounts: reason 0; event 2 of public.accounts: reason 1; event 3 of public.accounts: reason 2; event 4 of public.accounts: reason 3; event 5 of public.accounts: reason 4; and 2 more"
        ],
    );
    assert_eq!(error.rejections.len(), 7);
    assert_eq!(error.rejections[6], event(6, "reason 6"));
    // A transform names them as a target does, and the context does not lose them.
    let mut transform =
        transform::open(engine(), &probe("transforms[0]", &json!({ "transform": "reject-two" })), &context()).await.unwrap();
    let error = transform.transform(mutations(2)).await.unwrap_err().context("batch");
    assert_eq!(error.rejections, [event(0, "reason 0"), event(1, "reason 1")]);
    let mut target = target::open(engine(), &probe("target", &json!({ "load": "silent-reject" })), &context()).await.unwrap();
    let error = target.load(Chunk { relation: accounts(), rows: vec![vec![]], estimated_rows: None }, 7).await.unwrap_err();
    ends(&error, Next::Stop, &expect!["target: probe.wasm: `load` rejects 1 rows: row 0 of public.accounts: the plugin gave no reason"]);
    let error = pushed(&probe("stream", &json!({ "push": "reject-two" }))).await;
    assert_eq!(error.rejections[1], Rejection { index: 1, what: Rejected::Message, reason: "reason 1".into() });
}

#[tokio::test]
async fn a_rejection_of_what_was_not_passed_is_the_plugins_fault() {
    let mut target =
        target::open(engine(), &probe("target", &json!({ "apply": "reject", "commit": "reject-two", "begin": "reject-none" })), &context())
            .await
            .unwrap();
    for (error, expected) in [
        (
            target.apply(mutations(5)).await.unwrap_err(),
            expect![
                "target: probe.wasm: `apply` returned a rejection of number 5, counted from 0, and so many were not passed; that is a fault of the plugin"
            ],
        ),
        (
            target.commit(None, &[]).await.unwrap_err(),
            expect![
                "target: probe.wasm: `commit` returned a rejection of number 0, counted from 0, and so many were not passed; that is a fault of the plugin"
            ],
        ),
        (
            target.begin(&batch()).await.unwrap_err(),
            expect!["target: probe.wasm: `begin` returned `reject` without a rejection; that is a fault of the plugin"],
        ),
    ] {
        assert_eq!(error.rejections, []);
        ends(&error, Next::Stop, &expected);
    }
}

#[tokio::test]
async fn a_trap_ends_the_instance_and_nothing_else() {
    let mut writer = writer::open(engine(), &probe("stream", &json!({ "push": "trap" })), &context()).await.unwrap();
    writer.push(&batch(), Messages::default()).await.unwrap();
    let error = writer.flush().await.unwrap_err();
    assert_eq!(error.next, Next::Trap, "{error}");
    assert!(
        error.message.starts_with("stream: probe.wasm: `push` trapped: wasm trap: wasm `unreachable` instruction executed in "),
        "{error}"
    );
    ends(
        &writer.flush().await.unwrap_err(),
        Next::Trap,
        &expect!["stream: probe.wasm: an earlier call did not return; open the plugin again"],
    );
    let mut writer = writer::open(engine(), &probe("stream", &json!({})), &context()).await.unwrap();
    writer.flush().await.unwrap();
    ends(
        &pushed(&probe("stream", &json!({ "push": "exit" }))).await,
        Next::Trap,
        &expect!["stream: probe.wasm: `push` ended the plugin with exit code 1"],
    );
}

#[tokio::test]
async fn a_plugin_that_does_not_return_is_interrupted() {
    for order in ["loop", "sleep"] {
        let mut section = probe("stream", &json!({ "push": order }));
        section.limits.call = Duration::from_millis(100);
        let error = pushed(&section).await;
        assert_eq!(error.next, Next::Trap, "{error}");
        assert!(error.message.starts_with("stream: probe.wasm: `push` did not return within 100ms"), "{error}");
        assert!(error.message.ends_with("; raise limits.call in the section `stream` of conf/app.yaml if it deserves more"), "{error}");
    }
}

/// While one computes, the others of its thread go on.
#[tokio::test]
async fn a_plugin_that_computes_yields() {
    let mut section = probe("stream", &json!({ "push": "loop" }));
    section.limits.call = Duration::from_millis(300);
    let (ticks, error) = tokio::join!(
        async {
            let mut ticks = 0;
            for _ in 0..3 {
                tokio::task::yield_now().await;
                ticks += 1;
            }
            ticks
        },
        pushed(&section)
    );
    assert_eq!((ticks, error.next), (3, Next::Trap));
}

#[tokio::test]
async fn a_call_that_is_given_up_ends_the_instance() {
    let mut writer = writer::open(engine(), &probe("stream", &json!({ "flush": "sleep" })), &context()).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(20), writer.flush()).await.is_err());
    assert_eq!(writer.flush().await.unwrap_err().next, Next::Trap);
}

#[tokio::test]
async fn memory_is_limited() {
    let mut section = probe("stream", &json!({ "push": "hog" }));
    section.limits.memory = 4 << 20;
    let error = pushed(&section).await;
    assert_eq!(error.next, Next::Trap, "{error}");
    assert!(error.message.starts_with("stream: probe.wasm: `push` needs more than its 4MiB of memory"), "{error}");
    section.limits.memory = 64 << 10;
    let error = writer::open(engine(), &section, &context()).await.unwrap_err();
    ends(
        &error,
        Next::Configure,
        &expect![
            "stream: probe.wasm: `start` needs more than its 64KiB of memory; raise limits.memory in the section `stream` of conf/app.yaml if it deserves more"
        ],
    );
}

#[tokio::test]
async fn a_plugin_sees_nothing_of_the_world() {
    let error = pushed(&probe("stream", &json!({ "push": "environment" }))).await;
    ends(&error, Next::Stop, &expect!["stream: probe.wasm: 0 variables, 0 arguments, 0 folders"]);
    ends(&pushed(&probe("stream", &json!({ "push": "write" }))).await, Next::Stop, &expect!["stream: probe.wasm: no folder"]);
    ends(
        &pushed(&probe("stream", &json!({ "push": "origin" }))).await,
        Next::Stop,
        &expect!["stream: probe.wasm: only a loader may read the set's database (section `stream` of conf/app.yaml)"],
    );
    ends(
        &pushed(&probe("stream", &json!({ "push": "connect" }))).await,
        Next::Stop,
        &expect![
            "stream: probe.wasm: no grant `postgres.elsewhere`; the section grants one `postgres` without a name (section `stream` of conf/app.yaml)"
        ],
    );
    let mut section = probe("transforms[0]", &json!({ "transform": "connect" }));
    section.grants = Grants::default();
    let mut transform = transform::open(engine(), &section, &context()).await.unwrap();
    ends(
        &transform.transform(mutations(1)).await.unwrap_err(),
        Next::Stop,
        &expect![[
            r#"transforms[0]: probe.wasm: the section grants no `postgres`; add to the section `transforms[0]` of conf/app.yaml: grants: { postgres: "postgresql://app@localhost:5432/app" }"#
        ]],
    );
}

#[tokio::test]
async fn a_granted_folder_is_all_there_is() {
    let folder = Folder::new("files");
    std::fs::create_dir_all(folder.0.join("new/stream")).unwrap();
    let granted = |mode, order: &str| {
        let mut section = probe("stream", &json!({ "push": order }));
        section.grants.files = Some(files::Folder { path: folder.0.join("new/stream"), mode, size: None });
        section
    };
    ends(&pushed(&granted(Mode::ReadWrite, "write")).await, Next::Stop, &expect!["stream: probe.wasm: /: ; outside: not-permitted"]);
    assert_eq!(std::fs::read(folder.0.join("new/stream/inside")).unwrap(), b"written");
    ends(&pushed(&granted(Mode::ReadOnly, "read")).await, Next::Stop, &expect!["stream: probe.wasm: /: written; outside: not-permitted"]);
    ends(&pushed(&granted(Mode::ReadOnly, "write")).await, Next::Stop, &expect!["stream: probe.wasm: inside: not-permitted"]);
}

/// What was logged, with the time left out.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Captured {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The lines that the probe logs in a push with this order.
async fn said(order: &str) -> Vec<String> {
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(captured.clone())
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .without_time()
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let mut writer = writer::open(engine(), &probe("stream", &json!({ "push": order })), &context()).await.unwrap();
    writer.push(&batch(), Messages::default()).await.unwrap();
    writer.flush().await.unwrap();
    drop(writer);
    drop(guard);
    let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    let lines = text.lines().filter(|line| line.contains("pgshovel::plugin:"));
    lines.map(|line| line.trim_start().to_owned()).collect()
}

#[tokio::test]
async fn what_a_plugin_says_is_logged_with_its_name() {
    let lines = said("talk").await;
    assert_eq!(lines.len(), 6, "{lines:?}");
    let (long, short): (Vec<String>, Vec<String>) = lines.into_iter().partition(|line| line.len() > 1000);
    assert!(long[0].contains(&format!("{}…", "x".repeat(8192))) && !long[0].contains(&"x".repeat(8193)));
    expect![[r#"
        INFO pgshovel::plugin: from the interface\u{1b}[31m plugin="probe.wasm" section="stream"
        WARN pgshovel::plugin: first line plugin="probe.wasm" section="stream"
        WARN pgshovel::plugin: second line plugin="probe.wasm" section="stream"
        INFO pgshovel::plugin: to standard output plugin="probe.wasm" section="stream"
        WARN pgshovel::plugin: without an end plugin="probe.wasm" section="stream""#]]
    .assert_eq(&short.join("\n"));
}

#[tokio::test]
async fn what_a_plugin_says_to_wasi_is_logged_alike() {
    let lines = said("wasi-log").await;
    let (long, short): (Vec<String>, Vec<String>) = lines.into_iter().partition(|line| line.len() > 1000);
    expect![[r#"
        DEBUG pgshovel::plugin: without a context plugin="probe.wasm" section="stream"
        INFO pgshovel::plugin: app\u{1b}[31m: two\nlines plugin="probe.wasm" section="stream""#]]
    .assert_eq(&short.join("\n"));
    assert_eq!(long.len(), 2, "{long:?}");
    assert!(long[0].starts_with("ERROR pgshovel::plugin: app: ää") && long[0].contains("ä… plugin"), "{}", long[0]);
    assert!(long[1].contains(&format!("{}… plugin", "x".repeat(8192))) && !long[1].contains("never seen"), "{}", long[1]);
    assert!(long.iter().all(|line| line.len() < (8 << 10) + 200));
}

/// The probe is granted a database, whose connection string is not shown.
#[tokio::test]
async fn a_plugin_finds_its_own_configuration_and_nothing_else() {
    let section = probe("stream", &json!({ "push": "settings", "count": 3, "absent": null, "nested": { "a": [1, "x"] } }));
    ends(
        &pushed(&section).await,
        Next::Stop,
        &expect![[
            r#"stream: probe.wasm: Ok(Some("{\"a\":[1,\"x\"]}")) Ok(None) Ok([("push", "settings"), ("count", "3"), ("nested", "{\"a\":[1,\"x\"]}")])"#
        ]],
    );
    ends(
        &pushed(&probe("stream", &json!({ "push": "settings" }))).await,
        Next::Stop,
        &expect![[r#"stream: probe.wasm: Ok(None) Ok(None) Ok([("push", "settings")])"#]],
    );
}

#[tokio::test]
async fn what_was_compiled_is_kept_for_other_processes() {
    let folder = Folder::new("cache");
    // wasmtime removes from its folder what it does not know.
    std::fs::write(folder.0.join("precious"), "").unwrap();
    let bytes = std::fs::read(built().join("probe.wasm")).unwrap();
    for hits in 0..2 {
        // An engine has nothing in common with another but the folder, as processes do.
        let engine = Engine::new(Options { search: Vec::new(), cache: Some(folder.0.clone()) }).unwrap();
        let mut section = section("stream", "probe.wasm", Path::new("conf"));
        engine.compile(engine.host(&section), "probe", [0; 32], bytes.clone()).await.unwrap();
        assert_eq!(engine.cache_hits(), hits);
        // What is pinned is compiled from the bytes that are pinned.
        section.sha256 = Some([0; 32]);
        engine.compile(engine.host(&section), "probe", [0; 32], bytes.clone()).await.unwrap();
        assert_eq!(engine.cache_hits(), hits);
    }
    let mut names: Vec<_> = std::fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["compiled-plugins", "precious"]);
}
