//! `pgshovel plugin …`, and the options of every command that runs plugins.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::common::Common;
use super::output::shown;
use crate::capabilities::capability::{Access, SERVED};
use crate::error::{Code, Error, Result};
use crate::plugins::{self, Engine, Examination, Interface, Options, examine, hex, offered};

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

    /// Where to keep compiled plugins, in a folder compiled-plugins [default: pgshovel in the user's cache folder].
    /// What lies there runs in the host: others may not write there, and no plugin. What a
    /// section pins by sha256 is compiled anew by each process.
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
                Format::Table => print!("{}", shown(&table(file, &examination))),
                Format::Json => println!("{}", json(file, &examination)),
            }
            Ok(())
        }
    }
}

fn read(file: &Path) -> Result<Examination> {
    let bytes = plugins::read(file)
        .map_err(|reason| Error::configure(Code::PluginAbsent, format!("{}: {reason}; give the path of a component", file.display())))?;
    examine(&bytes).map_err(|reason| Error::configure(Code::PluginUnfit, format!("{}: {reason}", file.display())))
}

/// What an import takes, in words.
fn takes(import: &Interface) -> String {
    match offered(import) {
        Some(entry) => entry.access.describe(),
        None => "not offered by this host: it would refuse the plugin".into(),
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
    let interface = match (examination.wrong_versions().next(), interface(examination)) {
        (Some(wrong), _) => format!("{wrong}: not served, this host serves {SERVED}"),
        (None, Some(version)) => format!("pgshovel:plugin {version}, served (this host serves {SERVED})"),
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
    let Examination { roles, imports, exports, producers, bytes, sha256, .. } = examination;
    let import = |import: &Interface| {
        let entry = offered(import);
        // What the section has to grant, or the role.
        let grant = entry.filter(|entry| matches!(entry.access, Access::Granted { .. } | Access::LoaderOnly)).map(|entry| entry.name);
        serde_json::json!({ "name": import.to_string(), "offered": entry.is_some(), "grant": grant })
    };
    serde_json::json!({
        "file": file.display().to_string(),
        "roles": roles.iter().map(|role| role.name()).collect::<Vec<_>>(),
        "interface": interface(examination),
        "served": examination.wrong_versions().next().is_none(),
        "bytes": bytes,
        "sha256": hex(sha256),
        "producers": producers.iter().map(|(field, value)| serde_json::json!({ "field": field, "value": value })).collect::<Vec<_>>(),
        "imports": imports.iter().map(import).collect::<Vec<_>>(),
        "exports": exports.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn examined(imports: &[&str], exports: &[&str]) -> Examination {
        let imports = imports.iter().map(|name| format!("(import \"{name}\" (instance))"));
        let exports = exports.iter().map(|name| format!("(export \"{name}\" (instance $empty))"));
        let body: String = imports.chain(["(instance $empty)".to_owned()]).chain(exports).collect();
        let component = wat::parse_str(format!("(component {body} (@producers (language \"C\" \"17\") (processed-by \"clang\" \"14\")))"));
        examine(&component.unwrap()).unwrap()
    }

    #[test]
    fn a_plugin_is_described() {
        let examination = examined(
            &["pgshovel:plugin/kafka@0.2.0", "pgshovel:plugin/origin@0.2.0", "wasi:filesystem/preopens@0.2.0", "wasi:http/types@0.2.0"],
            &["pgshovel:plugin/target@0.2.0", "pgshovel:plugin/writer@0.2.0"],
        );
        expect![[r#"
            file       a.wasm
            roles      writer, target
            interface  pgshovel:plugin 0.2.0, served (this host serves 0.2.x)
            guarantee  a target says it when it runs
            size       315 bytes
            sha256     1e07fa215da8d479930596d909fc7d7d1d22dbdc4ebb8689f5de637de45f356a
            made with  C 17, clang 14
            imports
              pgshovel:plugin/kafka@0.2.0     needs the grant kafka: localhost:9092
              pgshovel:plugin/origin@0.2.0    given to loaders
              wasi:filesystem/preopens@0.2.0  an empty folder, unless granted: files: { path: ./data, mode: read-write }
              wasi:http/types@0.2.0           needs the grant http: { origins: ["https://search.example:9200/index/"] }
        "#]]
        .assert_eq(&table(Path::new("a.wasm"), &examination));
        expect![[r#"
            {
              "file": "a.wasm",
              "roles": [
                "writer",
                "target"
              ],
              "interface": "0.2.0",
              "served": true,
              "bytes": 315,
              "sha256": "1e07fa215da8d479930596d909fc7d7d1d22dbdc4ebb8689f5de637de45f356a",
              "producers": [
                {
                  "field": "language",
                  "value": "C 17"
                },
                {
                  "field": "processed-by",
                  "value": "clang 14"
                }
              ],
              "imports": [
                {
                  "name": "pgshovel:plugin/kafka@0.2.0",
                  "offered": true,
                  "grant": "kafka"
                },
                {
                  "name": "pgshovel:plugin/origin@0.2.0",
                  "offered": true,
                  "grant": "origin"
                },
                {
                  "name": "wasi:filesystem/preopens@0.2.0",
                  "offered": true,
                  "grant": null
                },
                {
                  "name": "wasi:http/types@0.2.0",
                  "offered": true,
                  "grant": "http"
                }
              ],
              "exports": [
                "pgshovel:plugin/target@0.2.0",
                "pgshovel:plugin/writer@0.2.0"
              ]
            }"#]]
        .assert_eq(&format!("{:#}", json(Path::new("a.wasm"), &examination)));
    }

    #[test]
    fn what_is_no_plugin_is_described_too() {
        expect![[r#"
            file       a.wasm
            roles      none: no plugin of pgshovel
            interface  none of pgshovel's
            guarantee  -
            size       118 bytes
            sha256     9b63248c26487b464016e1ad4de5c48ee6497fe744660cdd87dbe3032a9c7268
            made with  C 17, clang 14
            imports    nothing
        "#]]
        .assert_eq(&table(Path::new("a.wasm"), &examined(&[], &["wasi:cli/run@0.2.0"])));
        expect![[r#"
            file       a.wasm
            roles      target
            interface  pgshovel:plugin/target@0.9.0: not served, this host serves 0.2.x
            guarantee  a target says it when it runs
            size       128 bytes
            sha256     e2e13e7e57ac1025e835ea5bf7c9bf656fe4f9521624299c0dc81d6408d8ac51
            made with  C 17, clang 14
            imports    nothing
        "#]]
        .assert_eq(&table(Path::new("a.wasm"), &examined(&[], &["pgshovel:plugin/target@0.9.0"])));
        let error = read(Path::new("/nowhere/a.wasm")).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        expect!["/nowhere/a.wasm: cannot read the file: No such file or directory (os error 2); give the path of a component"]
            .assert_eq(&error.message);
    }
}
