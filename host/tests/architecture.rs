//! The rules of `host/README.md` on who may use what, read from the sources.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// A word that may stand in no source but those below `only`.
const CLIENTS: [(&str, &[&str]); 14] = [
    (
        "wasmtime",
        &["host/src/plugins", "host/src/capabilities/capability.rs", "host/src/capabilities/shared.rs", "host/src/capabilities/*/link"],
    ),
    ("wasmtime_wasi", &["host/src/plugins", "host/src/capabilities/*/link", "host/src/capabilities/wasi"]),
    ("wasmtime_wasi_http", &["host/src/capabilities/http/link"]),
    ("hyper", &["host/src/capabilities/http"]),
    ("hyper_util", &["host/src/capabilities/http"]),
    ("tokio_rustls", &["host/src/capabilities/http"]),
    ("aws_sigv4", &["host/src/capabilities/http/auth"]),
    ("wasmparser", &["host/src/plugins"]),
    ("rdkafka", &["host/src/capabilities"]),
    ("zookeeper_client", &["host/src/registry"]),
    ("serde_yaml", &["host/src/yaml"]),
    ("openssl", &["host/src/postgres"]),
    ("postgres_openssl", &["host/src/postgres"]),
    ("tokio_postgres", &["host/src/postgres", "host/src/capabilities"]),
];

/// Below the first folder, nothing of the others is used.
const STRANGERS: [(&str, &[&str]); 12] = [
    ("host/src/relay", &["crate::replicate", "crate::plugins", "crate::capabilities", "crate::cli"]),
    ("host/src/replicate", &["crate::relay", "crate::plugins", "crate::cli"]),
    ("host/src/plugins", &["crate::relay", "crate::replicate", "crate::registry", "crate::admin", "crate::cli"]),
    (
        "host/src/capabilities",
        &["crate::relay", "crate::replicate", "crate::registry", "crate::admin", "crate::plugins", "crate::config", "crate::cli"],
    ),
    (
        "host/src/yaml",
        &[
            "crate::relay",
            "crate::replicate",
            "crate::registry",
            "crate::admin",
            "crate::plugins",
            "crate::config",
            "crate::capabilities",
            "crate::cli",
        ],
    ),
    ("host/src/postgres", &["crate::registry", "crate::admin", "crate::relay", "crate::replicate", "crate::plugins", "crate::cli"]),
    ("host/src/names", &["crate::registry", "crate::admin", "crate::postgres", "crate::config"]),
    ("host/src/registry", &["crate::admin", "crate::postgres", "crate::relay", "crate::replicate", "crate::plugins", "crate::cli"]),
    ("host/src/admin", &["crate::relay", "crate::replicate", "crate::plugins", "crate::cli"]),
    ("host/src/config", &["crate::relay", "crate::replicate", "crate::registry", "crate::admin", "crate::plugins", "crate::cli"]),
    ("host/src/memory", &["crate::relay", "crate::replicate", "crate::registry", "crate::admin", "crate::plugins", "crate::cli"]),
    ("proto/src", &["pgshovel::", "tokio::", "std::fs", "std::net", "std::thread", "std::process", "Instant::now", "SystemTime::now"]),
];

struct Source {
    /// From the root of the repository, with `/` between.
    path: String,
    text: String,
}

#[test]
fn who_uses_what() -> std::io::Result<()> {
    let sources = sources()?;
    assert!(sources.len() > 40, "only {} sources found", sources.len());
    for (folder, _) in STRANGERS {
        assert!(sources.iter().any(|source| source.path.starts_with(folder)), "no source below {folder}");
    }
    let found = violations(&sources);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
    Ok(())
}

#[test]
fn violations_are_found() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: code(text) };
    let sources = [
        source("host/src/relay/run.rs", "use crate::{ports, replicate::Run};\nuse crate::ports::Queue;"),
        source("host/src/cli/plugin.rs", "//! Runs wasmtime.\nuse wasmtime::Engine;"),
        source("host/src/plugins/engine.rs", "use wasmtime::Engine;"),
        source("proto/src/codec.rs", "let now = std::time::Instant::now();"),
        source("host/src/memory/mod.rs", "// use crate::cli;\nlet wasmtimes::x = 1;"),
        source("host/src/cli/mod.rs", "filter(\"rdkafka=warn\")"),
        source("host/src/capabilities/kafka/link.rs", "use wasmtime::component::Resource;"),
        source("host/src/capabilities/kafka/link/tests.rs", "use wasmtime::component::Resource;"),
        source("host/src/capabilities/kafka/mod.rs", "use wasmtime::component::Resource;\nuse crate::config::Section;"),
        source("host/src/capabilities/log/mod.rs", "use crate::capabilities::kafka::Brokers;\nuse crate::capabilities::types::Row;"),
    ];
    assert_eq!(
        violations(&sources),
        [
            "host/src/capabilities/kafka/mod.rs uses crate::config",
            "host/src/capabilities/kafka/mod.rs uses wasmtime",
            "host/src/capabilities/log/mod.rs uses crate::capabilities::kafka",
            "host/src/cli/plugin.rs uses wasmtime",
            "host/src/relay/run.rs uses crate::replicate",
            "proto/src/codec.rs uses Instant::now"
        ]
    );
}

fn violations(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for Source { path, text } in sources {
        let clients = CLIENTS.iter().filter(|(_, only)| !only.iter().any(|folder| below(path, folder))).map(|(client, _)| *client);
        let strangers = STRANGERS.iter().filter(|(folder, _)| below(path, folder)).flat_map(|(_, strangers)| strangers.iter().copied());
        let named = clients.filter(|client| ["::", ";", " as "].iter().any(|after| uses(text, &format!("{client}{after}"))));
        let used = strangers.filter(|stranger| uses(text, stranger));
        found.extend(named.chain(used).map(|name| format!("{path} uses {name}")));
    }
    found.extend(neighbours(sources));
    found.sort();
    found
}

/// A capability is a folder. It uses what all capabilities share and the types of the
/// contract, and no other capability.
fn neighbours(sources: &[Source]) -> Vec<String> {
    let room = |source: &Source| {
        let rest = source.path.strip_prefix("host/src/capabilities/")?;
        Some(rest.split_once('/')?.0.to_owned())
    };
    let rooms: BTreeSet<String> = sources.iter().filter_map(room).collect();
    let mut found = Vec::new();
    for source in sources {
        let Some(own) = room(source) else { continue };
        let others = rooms.iter().filter(|other| **other != own && *other != "types").map(|other| format!("crate::capabilities::{other}"));
        found.extend(others.filter(|other| uses(&source.text, other)).map(|other| format!("{} uses {other}", source.path)));
    }
    found
}

/// Whether the path is `folder`, which may be a file, or below it. A `*` stands for one name.
fn below(path: &str, folder: &str) -> bool {
    let Some((before, after)) = folder.split_once("/*/") else {
        return path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest == ".rs");
    };
    let inside = path.strip_prefix(before).and_then(|rest| rest.strip_prefix('/')?.split_once('/'));
    inside.is_some_and(|(_, rest)| below(rest, after))
}

/// Whether the word stands in the code; `crate::x` also inside `use crate::{x, …}`.
fn uses(text: &str, name: &str) -> bool {
    let whole = |text: &str, word: &str| {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        text.match_indices(word).any(|(at, _)| {
            let after = &text[at + word.len()..];
            !text[..at].ends_with(part) && (!word.ends_with(part) || !after.starts_with(part))
        })
    };
    let grouped = name.strip_prefix("crate::").is_some_and(|module| {
        text.match_indices("crate::{").any(|(at, open)| {
            let rest = &text[at + open.len()..];
            whole(&rest[..rest.find(';').unwrap_or(rest.len())], module)
        })
    });
    grouped || whole(text, name)
}

/// The text without comments of whole lines, which may speak of anything.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn sources() -> std::io::Result<Vec<Source>> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())).join("..");
    let mut folders: Vec<PathBuf> = ["host/src", "proto/src"].map(|folder| root.join(folder)).into();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = code(&std::fs::read_to_string(&path)?);
                let path = path.strip_prefix(&root).map_err(std::io::Error::other)?.display().to_string();
                sources.push(Source { path, text });
            }
        }
    }
    Ok(sources)
}
