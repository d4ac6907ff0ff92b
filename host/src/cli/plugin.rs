//! `pgshovel plugin …`, and the options of every command that runs plugins.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::Common;
use crate::error::{Error, Result};
use crate::plugins::{Engine, Examination, Interface, Offer, Options, VERSION, examine, example, hex, offer};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print what a component is and what it asks for, without running it.
    Inspect {
        /// The component.
        file: PathBuf,
        /// How to print it.
        #[arg(long, default_value = "table", value_name = "FORMAT")]
        format: Format,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// For a person.
    Table,
    /// One JSON object.
    Json,
}

/// Where plugins come from.
#[derive(Args, Clone, Debug)]
pub struct Host {
    /// Folders to search for plugins, after the configuration file's own, with colons between them.
    #[arg(long, env = "PGSHOVEL_PLUGIN_PATH", value_delimiter = ':', value_name = "FOLDERS")]
    pub plugin_path: Vec<PathBuf>,

    /// Where to keep compiled plugins [default: pgshovel in the user's cache folder].
    #[arg(long, env = "PGSHOVEL_CACHE_DIR", value_name = "FOLDER")]
    pub cache_dir: Option<PathBuf>,
}

impl Host {
    /// The engine that runs this process's plugins.
    pub fn engine(&self) -> Result<Engine> {
        let mut search: Vec<PathBuf> = self.plugin_path.iter().filter(|folder| !folder.as_os_str().is_empty()).cloned().collect();
        search.extend(installed());
        Engine::new(Options { search, cache: self.cache_dir.clone().or_else(cache) })
    }
}

/// Where `make plugins` and an installation put them, seen from the program itself.
fn installed() -> Vec<PathBuf> {
    let program = std::env::current_exe().and_then(|path| path.canonicalize());
    let Some(root) = program.ok().and_then(|path| Some(path.parent()?.parent()?.to_owned())) else { return Vec::new() };
    vec![root.join("plugins"), root.join("lib/pgshovel/plugins")]
}

/// XDG Base Directory Specification: relative values count as absent.
fn cache() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(base.join("pgshovel"))
}

pub async fn run(_common: &Common, command: &Command) -> Result<()> {
    match command {
        Command::Inspect { file, format } => {
            let examination = read(file)?;
            match format {
                Format::Table => print!("{}", table(file, &examination)),
                Format::Json => println!("{}", json(file, &examination)),
            }
            Ok(())
        }
    }
}

fn read(file: &Path) -> Result<Examination> {
    let bytes = std::fs::read(file)
        .map_err(|error| Error::configure(format!("{}: cannot read the file: {error}; give the path of a component", file.display())))?;
    examine(&bytes).map_err(|reason| Error::configure(format!("{}: {reason}", file.display())))
}

/// What an import takes, in words.
fn takes(import: &Interface) -> String {
    match offer(import) {
        Offer::Free if import.package == "wasi:filesystem" => {
            format!("an empty folder, unless granted: {}", example("files").unwrap_or_default())
        }
        Offer::Free if import.package == "wasi:sockets" => "no address can be reached".into(),
        Offer::Free => "given to every plugin".into(),
        Offer::Granted(capability) => format!("needs the grant {}", example(capability).unwrap_or(capability)),
        Offer::LoaderOnly => "given to loaders".into(),
        Offer::Unknown => "not offered by this host: it would refuse the plugin".into(),
    }
}

/// The version of the interface that it was built for.
fn interface(examination: &Examination) -> Option<&str> {
    let ours = examination.exports.iter().chain(&examination.imports).find(|interface| interface.is_ours());
    ours.map(|interface| interface.version.as_str())
}

fn table(file: &Path, examination: &Examination) -> String {
    let Examination { roles, imports, producers, bytes, sha256, .. } = examination;
    let roles: Vec<&str> = roles.iter().map(|role| role.name()).collect();
    let [major, minor, _] = VERSION;
    let interface = match (examination.wrong_version(), interface(examination)) {
        (Some(wrong), _) => format!("{wrong}: not served, this host serves {major}.{minor}.x"),
        (None, Some(version)) => format!("pgshovel:plugin {version}, served (this host serves {major}.{minor}.x)"),
        (None, None) => "none of pgshovel's".into(),
    };
    let made: Vec<&str> = producers.iter().map(|(_, value)| value.as_str()).collect();
    let lines = [
        ("file", file.display().to_string()),
        ("roles", if roles.is_empty() { "none: no plugin of pgshovel".into() } else { roles.join(", ") }),
        ("interface", interface),
        ("guarantee", if roles.contains(&"target") { "a target says it when it runs".into() } else { "-".into() }),
        ("size", format!("{bytes} bytes")),
        ("sha256", hex(sha256)),
        ("made with", if made.is_empty() { "-".into() } else { made.join(", ") }),
        ("imports", if imports.is_empty() { "nothing".into() } else { String::new() }),
    ];
    let mut text = String::new();
    for (name, value) in lines {
        _ = writeln!(text, "{}", format!("{name:<11}{value}").trim_end());
    }
    let width = imports.iter().map(|import| import.to_string().len()).max().unwrap_or(0);
    for import in imports {
        _ = writeln!(text, "  {:<width$}  {}", import.to_string(), takes(import));
    }
    text
}

fn json(file: &Path, examination: &Examination) -> serde_json::Value {
    let Examination { roles, imports, exports, producers, bytes, sha256 } = examination;
    let import = |import: &Interface| {
        let (offered, grant) = match offer(import) {
            Offer::Free => (true, None),
            Offer::Granted(capability) => (true, Some(capability)),
            Offer::LoaderOnly => (true, Some("origin")),
            Offer::Unknown => (false, None),
        };
        serde_json::json!({ "name": import.to_string(), "offered": offered, "grant": grant })
    };
    serde_json::json!({
        "file": file.display().to_string(),
        "roles": roles.iter().map(|role| role.name()).collect::<Vec<_>>(),
        "interface": interface(examination),
        "served": examination.wrong_version().is_none(),
        "bytes": bytes,
        "sha256": hex(sha256),
        "producers": producers.iter().map(|(field, value)| serde_json::json!({ "field": field, "value": value })).collect::<Vec<_>>(),
        "imports": imports.iter().map(import).collect::<Vec<_>>(),
        "exports": exports.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
