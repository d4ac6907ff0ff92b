//! What is no plugin, or not this one, is refused with what to do about it.

use expect_test::{Expect, expect};

use super::super::load::load;
use super::super::{Role, check, locate, target, writer};
use super::*;
use crate::capabilities::kafka::Properties;
use crate::error::Error;

/// Loads `bytes` as `role`, with the test's own folder left out of the message.
async fn refused(name: &str, bytes: &[u8], role: Role, change: impl FnOnce(&mut Section), expected: Expect) {
    let folder = Folder::new(name);
    std::fs::write(folder.0.join("a.wasm"), bytes).unwrap();
    let mut section = section("target", "a.wasm", &folder.0);
    change(&mut section);
    let error = load(engine(), &section, role).await.err().unwrap();
    assert_eq!(error.exit_code(), 3, "{error}");
    expected.assert_eq(&error.message.replace(&folder.0.display().to_string(), "conf"));
}

/// A component with these imports and exports and nothing inside.
fn component(imports: &[&str], exports: &[&str]) -> Vec<u8> {
    let imports = imports.iter().map(|name| format!("(import \"{name}\" (instance))"));
    let exports = exports.iter().map(|name| format!("(export \"{name}\" (instance $empty))"));
    let body: String = imports.chain(["(instance $empty)".to_owned()]).chain(exports).collect();
    wat::parse_str(format!("(component {body})")).unwrap()
}

const TARGET: &str = "pgshovel:plugin/target@0.2.0";

#[tokio::test]
async fn files_that_are_no_component() {
    let module = wat::parse_str("(module)").unwrap();
    refused("module", &module, Role::Target, |_| {}, expect!["conf/app.yaml: target.path: conf/a.wasm: this is a core WebAssembly module, not a component; make a component of it with `wasm-tools component new`, or build it with a toolchain that makes components"]).await;
    refused(
        "text",
        b"(component)",
        Role::Target,
        |_| {},
        expect![
            "conf/app.yaml: target.path: conf/a.wasm: this is WebAssembly's text format; make a component of it with `wasm-tools parse`"
        ],
    )
    .await;
    refused("script", b"#!/bin/sh\n", Role::Target, |_| {}, expect!["conf/app.yaml: target.path: conf/a.wasm: this is not WebAssembly; give the path of a component, a file that usually ends in .wasm"]).await;
    refused(
        "empty",
        b"",
        Role::Target,
        |_| {},
        expect!["conf/app.yaml: target.path: conf/a.wasm: the file is empty; build the plugin again"],
    )
    .await;
    let whole = component(&[], &[TARGET]);
    refused("cut", &whole[..whole.len() - 3], Role::Target, |_| {}, expect!["conf/app.yaml: target.path: conf/a.wasm: this is damaged at byte 51: unexpected end-of-file; build or download the plugin again"]).await;
}

#[tokio::test]
async fn files_that_are_not_there() {
    let folder = Folder::new("missing");
    let message = |path: &str| {
        let error: Error = locate(&section("stream", path, &folder.0), &[PathBuf::from("/usr/lib/pgshovel/plugins")]).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        error.message.replace(&folder.0.display().to_string(), "conf")
    };
    expect!["conf/app.yaml: stream.path: no component kafca.wasm; looked for conf/kafca.wasm, /usr/lib/pgshovel/plugins/kafca.wasm; correct the path, or add the folder that holds it to --plugin-path"].assert_eq(&message("kafca.wasm"));
    expect!["conf/app.yaml: stream.path: no component /nowhere/a.wasm; looked for /nowhere/a.wasm; correct the path, or add the folder that holds it to --plugin-path"].assert_eq(&message("/nowhere/a.wasm"));
    expect!["conf/app.yaml: stream.path: no component .; looked for conf/., /usr/lib/pgshovel/plugins/.; conf/. is a folder, name the component in it"].assert_eq(&message("."));
}

#[tokio::test]
async fn components_of_another_kind() {
    refused("none", &component(&[], &["wasi:cli/run@0.2.0"]), Role::Target, |_| {}, expect!["conf/app.yaml: target.path: conf/a.wasm: no plugin of pgshovel: it exports none of its interfaces; a target exports pgshovel:plugin/target"]).await;
    let pair = component(&[], &["pgshovel:plugin/writer@0.2.0", "pgshovel:plugin/stream-reader@0.2.0", "pgshovel:plugin/extra@0.2.0"]);
    refused(
        "role",
        &pair,
        Role::Target,
        |_| {},
        expect![
            "conf/app.yaml: target.path: conf/a.wasm: not a target; it is a writer and a stream: name it there, or another plugin here"
        ],
    )
    .await;
    refused("later", &component(&[], &["pgshovel:plugin/target@0.3.0"]), Role::Target, |_| {}, expect!["conf/app.yaml: target.path: conf/a.wasm: built for pgshovel:plugin/target@0.3.0, this host serves 0.2.x; build the plugin again with the WIT of this version of pgshovel"]).await;
    refused("import", &component(&["pgshovel:plugin/log@1.0.0"], &[TARGET]), Role::Target, |_| {}, expect!["conf/app.yaml: target.path: conf/a.wasm: built for pgshovel:plugin/log@1.0.0, this host serves 0.2.x; build the plugin again with the WIT of this version of pgshovel"]).await;
}

/// Plugins of the first contract, whose shapes were others. Nothing of it is served.
#[tokio::test]
async fn components_built_for_0_1() {
    let old =
        component(&["pgshovel:plugin/log@0.1.0", "wasi:io/poll@0.2.9"], &["pgshovel:plugin/writer@0.1.0", "pgshovel:plugin/reader@0.1.0"]);
    for role in [Role::Writer, Role::Stream] {
        refused("built-for-0-1", &old, role, |_| {}, expect!["conf/app.yaml: target.path: conf/a.wasm: built for pgshovel:plugin/writer@0.1.0, pgshovel:plugin/reader@0.1.0, pgshovel:plugin/log@0.1.0, this host serves 0.2.x; build the plugin again with the WIT of this version of pgshovel"]).await;
    }
}

/// Right by name, and nothing behind the name.
#[tokio::test]
async fn interfaces_that_are_hollow() {
    let folder = Folder::new("hollow");
    std::fs::write(folder.0.join("a.wasm"), component(&["wasi:io/poll@0.2.0"], &[TARGET])).unwrap();
    let error = target::open(engine(), &section("target", "a.wasm", &folder.0), &context()).await.unwrap_err();
    assert_eq!(error.exit_code(), 3);
    expect!["target: a.wasm: its interface differs from this host's: instance export `pgshovel:plugin/target@0.2.0` does not have export `[static]session.open`; build the plugin again with the WIT of this version of pgshovel"].assert_eq(&error.message);
}

#[tokio::test]
async fn imports_that_are_not_granted() {
    let kafka = component(&["pgshovel:plugin/kafka@0.2.0"], &[TARGET]);
    refused("kafka", &kafka, Role::Target, |_| {}, expect!["conf/app.yaml: target.path: conf/a.wasm: imports pgshovel:plugin/kafka@0.2.0, which section `target` does not grant; add to it: grants: { kafka: localhost:9092 }"]).await;
    let postgres = component(&["pgshovel:plugin/postgres@0.2.0"], &[TARGET]);
    let brokers = Properties([("bootstrap.servers".to_owned(), "a:1".to_owned())].into());
    refused("postgres", &postgres, Role::Target, |section| section.grants.kafka = Resources::One(brokers), expect![[r#"conf/app.yaml: target.path: conf/a.wasm: imports pgshovel:plugin/postgres@0.2.0, which section `target` does not grant; add to it: grants: { postgres: "postgresql://app@localhost:5432/app" }"#]]).await;
    let origin = component(&["pgshovel:plugin/origin@0.2.0"], &[TARGET]);
    refused("origin", &origin, Role::Target, |_| {}, expect!["conf/app.yaml: target.path: conf/a.wasm: imports pgshovel:plugin/origin@0.2.0, which only a loader may use; use a target that does without"]).await;
    refused("http", &component(&["wasi:http/types@0.2.3"], &[TARGET]), Role::Target, |_| {}, expect![[r#"conf/app.yaml: target.path: conf/a.wasm: imports wasi:http/types@0.2.3, which section `target` does not grant; add to it: grants: { http: { origins: ["https://search.example:9200/index/"] } }, or build the plugin without it (componentize-js: disable the features http and fetch-event)"#]]).await;
    refused("unknown", &component(&["acme:things/box@1.0.0"], &[TARGET]), Role::Target, |_| {}, expect!["conf/app.yaml: target.path: conf/a.wasm: imports acme:things/box@1.0.0, which this host does not offer; build the plugin without it"]).await;
}

/// A draft has no versions that are alike.
#[tokio::test]
async fn drafts_are_served_in_one_version() {
    let imports =
        ["wasi:config/runtime@0.2.0-draft", "wasi:config/store@0.2.0-draft", "wasi:logging/logging", "wasi:logging/logging@0.1.0-draft"];
    refused("drafts", &component(&imports, &[TARGET]), Role::Target, |_| {}, expect!["conf/app.yaml: target.path: conf/a.wasm: 3 problems: (1) imports wasi:config/runtime@0.2.0-draft, which this host does not offer, only store of wasi:config; build the plugin without it; (2) imports wasi:config/store@0.2.0-draft, of which this host serves 0.2.0-rc.1; build the plugin for wasi:config 0.2.0-rc.1; (3) imports wasi:logging/logging, of which this host serves 0.1.0-draft; build the plugin for wasi:logging 0.1.0-draft"]).await;
}

/// A component with several roles imports what any of them needs.
#[tokio::test]
async fn what_another_role_needs_is_not_asked_of_this_one() {
    let both = component(&["pgshovel:plugin/origin@0.2.0", "pgshovel:plugin/postgres@0.2.0"], &[TARGET, "pgshovel:plugin/loader@0.2.0"]);
    assert_eq!(super::super::examine(&both).unwrap().roles, [Role::Loader, Role::Target]);
    refused("both", &both, Role::Target, |_| {}, expect![[r#"conf/app.yaml: target.path: conf/a.wasm: imports pgshovel:plugin/postgres@0.2.0, which section `target` does not grant; add to it: grants: { postgres: "postgresql://app@localhost:5432/app" }"#]]).await;
    let folder = Folder::new("both-loader");
    std::fs::write(folder.0.join("a.wasm"), &both).unwrap();
    // It is accepted as a loader, and fails later: nothing is behind its imports.
    assert!(load(engine(), &section("loader", "a.wasm", &folder.0), Role::Loader).await.is_ok());
}

/// The author of a plugin mends it once.
#[tokio::test]
async fn all_problems_are_told_at_once() {
    let imports = [
        "acme:things/box@1.0.0",
        "pgshovel:plugin/kafka@0.2.0",
        "pgshovel:plugin/later@0.2.0",
        "pgshovel:plugin/origin@0.2.0",
        "pgshovel:plugin/postgres@0.2.0",
        "wasi:cli/environment@0.3.0",
        "wasi:clocks/timezone@0.2.0",
    ];
    refused("all", &component(&imports, &[TARGET]), Role::Target, |_| {}, expect![[r#"conf/app.yaml: target.path: conf/a.wasm: 6 problems: (1) imports acme:things/box@1.0.0, which this host does not offer; build the plugin without it; (2) imports pgshovel:plugin/later@0.2.0, which this host does not offer, only types, log, postgres, kafka, origin of pgshovel:plugin; build the plugin without it; (3) imports pgshovel:plugin/origin@0.2.0, which only a loader may use; use a target that does without; (4) imports wasi:cli/environment@0.3.0, of which this host serves 0.2.x; build the plugin for wasi:cli 0.2.x, as Rust's target wasm32-wasip2 does; (5) imports wasi:clocks/timezone@0.2.0, which this host does not offer, only monotonic-clock, wall-clock of wasi:clocks; build the plugin without it; (6) imports pgshovel:plugin/kafka@0.2.0, pgshovel:plugin/postgres@0.2.0, which section `target` does not grant; add to it: grants: { kafka: localhost:9092, postgres: "postgresql://app@localhost:5432/app" }"#]]).await;
    let old = component(&["pgshovel:plugin/log@0.0.9", "acme:things/box"], &["pgshovel:plugin/target@0.0.9"]);
    refused("old", &old, Role::Target, |_| {}, expect!["conf/app.yaml: target.path: conf/a.wasm: 2 problems: (1) built for pgshovel:plugin/target@0.0.9, pgshovel:plugin/log@0.0.9, this host serves 0.2.x; build the plugin again with the WIT of this version of pgshovel; (2) imports acme:things/box, which this host does not offer; build the plugin without it"]).await;
}

#[tokio::test]
async fn content_that_is_not_the_pinned_one() {
    refused("pin", &component(&[], &[TARGET]), Role::Target, |section| section.sha256 = Some([7; 32]), expect!["conf/app.yaml: target.path: conf/a.wasm: the file's SHA-256 is 74cb922a54d3bb676b95b9e309aafae810779f539d226e58817656e7424bb17a, not what `target.sha256` says; restore the file, or change the configuration if the new one is trusted"]).await;
    let bytes = std::fs::read(built().join("probe.wasm")).unwrap();
    let sha256 = Some(super::super::examine(&bytes).unwrap().sha256);
    let section = Section { sha256, ..probe("stream", &serde_json::json!({})) };
    assert!(writer::open(engine(), &section, &context()).await.is_ok());
}

#[tokio::test]
async fn folders_that_cannot_be_opened() {
    use crate::capabilities::files::{self, Mode};
    let refused = async |path: &str, mode| {
        let mut section = probe("stream", &serde_json::json!({}));
        section.grants.files = Some(files::Folder { path: path.into(), mode, size: None });
        let error = check(engine(), &section, Role::Writer).await.unwrap_err();
        assert_eq!(error.exit_code(), 3);
        error.message
    };
    // A folder to write in, too: where its name is misspelt, a new stream would begin in it.
    for (mode, may) in [(Mode::ReadOnly, "read"), (Mode::ReadWrite, "write in")] {
        let message = refused("/nowhere/at/all", mode).await;
        assert_eq!(
            message,
            format!(
                "conf/app.yaml: stream.grants.files: cannot open the folder /nowhere/at/all: it does not exist; if the name is right, make it: \
                 mkdir -m 700 /nowhere/at/all; name a folder that this user may {may}"
            )
        );
    }
    assert!(!std::path::Path::new("/nowhere").exists());
    let message = refused("/dev/null", Mode::ReadOnly).await;
    assert!(message.contains("the folder /dev/null: it is no folder"), "{message}");
}
