//! The rules of `host/README.md` on which file may use which, read from the sources.

mod codes;
mod graph;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use graph::Graph;
use pgshovel::error::SITUATIONS;

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
    ("aws_sigv4", &["host/src/capabilities/http/auth", "host/src/capabilities/http/tests"]),
    ("wasmparser", &["host/src/plugins"]),
    ("rdkafka", &["host/src/capabilities"]),
    ("zookeeper_client", &["host/src/registry"]),
    ("serde_yaml", &["host/src/yaml"]),
    ("openssl", &["host/src/postgres"]),
    ("postgres_openssl", &["host/src/postgres"]),
    ("tokio_postgres", &["host/src/postgres", "host/src/capabilities"]),
];

/// The modules of the host from the ground up, and what each may use: modules that stand before
/// it here, and no others.
const MODULES: [(&str, &[&str]); 23] = [
    ("error", &[]),
    ("printable", &[]),
    ("nearest", &[]),
    ("backoff", &[]),
    ("stop", &[]),
    ("names", &["error"]),
    ("budget", &["printable"]),
    ("patience", &["error", "backoff"]),
    ("yaml", &["printable"]),
    ("ports", &["error"]),
    ("observe", &["error", "stop"]),
    ("memory", &["error", "ports"]),
    ("supervise", &["error", "backoff", "stop", "patience", "ports", "observe"]),
    ("relay", &["error", "stop", "ports", "observe", "supervise"]),
    ("replicate", &["error", "stop", "ports", "observe", "supervise"]),
    ("postgres", &["error", "backoff", "names", "budget", "ports", "observe"]),
    ("registry", &["error", "nearest", "names", "ports"]),
    ("admin", &["error", "nearest", "backoff", "names", "observe", "postgres", "registry"]),
    ("capabilities", &["error", "printable", "budget", "yaml", "ports", "postgres"]),
    ("config", &["error", "yaml", "capabilities"]),
    ("plugins", &["error", "printable", "budget", "ports", "capabilities", "config"]),
    (
        "cli",
        &[
            "error",
            "printable",
            "nearest",
            "stop",
            "names",
            "ports",
            "observe",
            "supervise",
            "relay",
            "replicate",
            "postgres",
            "registry",
            "admin",
            "capabilities",
            "config",
            "plugins",
        ],
    ),
    ("main", &["cli"]),
];

/// What `proto`, which is pure, may not name.
const IMPURE: [&str; 8] =
    ["pgshovel::", "tokio::", "std::fs", "std::net", "std::thread", "std::process", "Instant::now", "SystemTime::now"];

/// The crates of the workspace, whose files use each other in one direction only.
const CRATES: [&str; 7] =
    ["proto/src", "host/src", "plugins/shared/src", "plugins/file/src", "plugins/kafka/src", "plugins/postgresql/src", "tests/src"];

struct Source {
    /// From the root of the repository, with `/` between.
    path: String,
    text: String,
}

#[test]
fn no_file_uses_what_stands_above_it() -> std::io::Result<()> {
    for folder in CRATES {
        let sources = sources(folder)?;
        assert!(!sources.is_empty(), "no source below {folder}");
        let graph = graph(folder, &sources);
        let circles: Vec<String> = graph.circles().iter().map(|circle| circle.join(", ")).collect();
        assert!(circles.is_empty(), "files of {folder} use each other in a circle:\n{}", circles.join("\n"));
    }
    let sources = sources("host/src")?;
    let found = upward(&graph("host/src", &sources));
    assert!(found.is_empty(), "not in the order of MODULES:\n{}", found.join("\n"));
    Ok(())
}

#[test]
fn clients_stay_in_their_modules() -> std::io::Result<()> {
    let mut found = violations(&sources("host/src")?, &CLIENTS);
    let proto = IMPURE.map(|word| (word, [].as_slice()));
    found.extend(violations(&sources("proto/src")?, &proto));
    found.extend(neighbours(&sources("host/src")?));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
    Ok(())
}

#[test]
fn the_order_of_modules_is_one() {
    for (index, (module, may_use)) in MODULES.iter().enumerate() {
        for used in *may_use {
            assert!(MODULES[..index].iter().any(|(before, _)| before == used), "{module} may use {used}, which does not stand before it");
        }
    }
}

/// A code without a place that makes it would be looked up by nobody, and one whose place does
/// something else next than the table says would mislead whoever looks it up.
#[test]
fn each_code_is_made_somewhere_and_is_what_the_table_says() -> std::io::Result<()> {
    let mut made: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut reported = BTreeSet::new();
    for Source { path, text } in sources("host/src")?.into_iter().chain(sources("tests/src")?) {
        let is_test = path.contains("/tests/") || path.ends_with("/tests.rs");
        if is_test && !path.starts_with("tests/src") || path.starts_with("host/src/error/") || path.starts_with("host/src/memory/") {
            continue;
        }
        for (code, nexts) in codes::named(&text) {
            // What a plugin reports is known only when it does.
            if path == "host/src/plugins/session.rs" {
                reported.insert(code.clone());
            }
            made.entry(code).or_default().extend(nexts);
        }
    }
    // `Error::bug` is all that makes it.
    made.entry("Bug".to_owned()).or_default().insert("bug".to_owned());
    let mut wrong = Vec::new();
    for situation in SITUATIONS {
        let name = situation.code.name();
        let Some(nexts) = made.get(name) else {
            wrong.push(format!("{name} ({}) is made nowhere", situation.code));
            continue;
        };
        let said: BTreeSet<String> = situation.nexts.iter().map(|next| next.name().to_owned()).collect();
        if !nexts.is_subset(&said) || (!reported.contains(name) && *nexts != said) {
            wrong.push(format!("{name} ({}): the table says {said:?}, and the sources {nexts:?}", situation.code));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn violations_are_found() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: code(text) };
    let sources = [
        source("host/src/relay/run.rs", "use crate::{ports, replicate::Run};\nuse crate::ports::Queue;"),
        source("host/src/cli/plugin.rs", "//! Runs wasmtime.\nuse wasmtime::Engine;"),
        source("host/src/plugins/engine.rs", "use wasmtime::Engine;"),
        source("host/src/replicate/mod.rs", "// use crate::cli;\nlet wasmtimes::x = 1;"),
        source("host/src/cli/mod.rs", "filter(\"rdkafka=warn\")"),
        source("host/src/ports.rs", ""),
        source("host/src/new.rs", "use crate::cli::Common;"),
        source("host/src/capabilities/kafka/link.rs", "use wasmtime::component::Resource;"),
        source("host/src/capabilities/kafka/link/tests.rs", "use wasmtime::component::Resource;"),
        source("host/src/capabilities/kafka/mod.rs", "use wasmtime::component::Resource;"),
        source("host/src/capabilities/log/mod.rs", "use crate::capabilities::kafka::Brokers;\nuse crate::capabilities::types::Row;"),
    ];
    assert_eq!(
        violations(&sources, &CLIENTS),
        ["host/src/capabilities/kafka/mod.rs uses wasmtime", "host/src/cli/plugin.rs uses wasmtime"]
    );
    assert_eq!(neighbours(&sources), ["host/src/capabilities/log/mod.rs uses crate::capabilities::kafka"]);
    assert_eq!(upward(&graph("host/src", &sources)), ["new.rs uses cli/mod.rs", "relay/run.rs uses replicate/mod.rs"]);
}

fn graph(folder: &str, sources: &[Source]) -> Graph {
    let inside = |source: &'_ Source| source.path.strip_prefix(folder).unwrap_or(&source.path).trim_start_matches('/').to_owned();
    let paths: Vec<String> = sources.iter().map(inside).collect();
    Graph::new(paths.iter().map(String::as_str).zip(sources.iter().map(|source| source.text.as_str())))
}

/// Uses between modules of the host that [`MODULES`] does not have.
fn upward(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for (file, used) in &graph.uses {
        // The root only names the modules.
        let Some(module) = file.first() else { continue };
        let may_use = MODULES.iter().find(|(name, _)| name == module).map_or([].as_slice(), |(_, may_use)| may_use);
        for other in used.iter().filter(|other| other.first() != Some(module)) {
            let allowed = other.first().is_some_and(|other| may_use.contains(&other.as_str()));
            if let (false, Some(file), Some(other)) = (allowed, graph.files.get(file), graph.files.get(other)) {
                found.push(format!("{file} uses {other}"));
            }
        }
    }
    found
}

fn violations(sources: &[Source], words: &[(&str, &[&str])]) -> Vec<String> {
    let mut found = Vec::new();
    for Source { path, text } in sources {
        let forbidden = words.iter().filter(|(_, only)| !only.iter().any(|folder| below(path, folder))).map(|(word, _)| *word);
        let used = forbidden.filter(|word| {
            let whole = word.contains(':');
            if whole { uses(text, word) } else { ["::", ";", " as "].iter().any(|after| uses(text, &format!("{word}{after}"))) }
        });
        found.extend(used.map(|word| format!("{path} uses {word}")));
    }
    found.sort();
    found
}

/// A capability is a folder. It uses what all capabilities share and the types of the
/// contract, and no other capability.
fn neighbours(sources: &[Source]) -> Vec<String> {
    let room = |source: &Source| Some(source.path.strip_prefix("host/src/capabilities/")?.split_once('/')?.0.to_owned());
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

/// Whether the word stands in the code, and not as the end of another one.
fn uses(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let after = &text[at + word.len()..];
        !text[..at].ends_with(part) && (!word.ends_with(part) || !after.starts_with(part))
    })
}

/// The text without comments of whole lines, which may speak of anything.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The sources below a folder of the repository.
fn sources(folder: &str) -> std::io::Result<Vec<Source>> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())).join("..");
    let mut folders = vec![root.join(folder)];
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
