//! Why a component may not run in a section, told from outside. Each reason is the remedy too.

use super::examine::{Examination, Interface, hex};
use crate::capabilities::capability::{Access, PACKAGE, SERVED, serves};
use crate::capabilities::role::Role;
use crate::capabilities::{Entry, find, of_package};
use crate::config::Section;

/// How to build without what language runtimes import although nothing uses it.
const FLAGS: [(&str, &str); 1] = [("wasi:http", "componentize-js: disable the features http and fetch-event")];

fn flag(import: &Interface) -> Option<&'static str> {
    FLAGS.iter().find(|(package, _)| *package == import.package).map(|(_, flag)| *flag)
}

/// The error tells of all that is wrong with the component, or says that it is another one.
pub(super) fn accept(examination: &Examination, section: &Section, role: Role) -> Result<(), String> {
    if section.sha256.is_some_and(|pinned| pinned != examination.sha256) {
        return Err(format!(
            "the file's SHA-256 is {}, not what `{}.sha256` says; restore the file, or change the configuration if the new one is trusted",
            hex(&examination.sha256),
            section.name
        ));
    }
    let mut problems = Vec::new();
    let wrong: Vec<&Interface> = examination.wrong_versions().collect();
    if !wrong.is_empty() {
        problems.push(format!(
            "built for {}, this host serves {SERVED}; build the plugin again with the WIT of this version of pgshovel",
            list(&wrong)
        ));
    }
    if examination.roles.contains(&role) {
        problems.extend(imports(examination, section, role));
    } else if wrong.is_empty() {
        // Interfaces of another version may have other names.
        problems.push(wrong_role(examination, role));
    }
    match problems.as_slice() {
        [] => Ok(()),
        [problem] => Err(problem.clone()),
        problems => {
            let numbered: Vec<String> = problems.iter().zip(1..).map(|(problem, number)| format!("({number}) {problem}")).collect();
            Err(format!("{} problems: {}", problems.len(), numbered.join("; ")))
        }
    }
}

/// What the imports lack.
fn imports(examination: &Examination, section: &Section, role: Role) -> Vec<String> {
    let mut problems = Vec::new();
    let mut ungranted: Vec<(&Interface, &str)> = Vec::new();
    for import in &examination.imports {
        let Some(entry) = offered(import) else {
            problems.extend(unknown(import));
            continue;
        };
        if !examination.needs(role, entry) {
            continue;
        }
        match entry.access {
            Access::Granted { example } if !section.grants.has(entry.name) => ungranted.push((import, example)),
            Access::LoaderOnly if role != Role::Loader => {
                problems.push(format!("imports {import}, which only a loader may use; use a {} that does without", role.name()));
            }
            _ => {}
        }
    }
    if !ungranted.is_empty() {
        let interfaces: Vec<&Interface> = ungranted.iter().map(|(import, _)| *import).collect();
        let mut examples: Vec<&str> = Vec::new();
        for (_, example) in &ungranted {
            // Several interfaces may need the same grant.
            if !examples.contains(example) {
                examples.push(example);
            }
        }
        let flag = interfaces.iter().find_map(|import| flag(import)).map(|flag| format!(", or build the plugin without it ({flag})"));
        problems.push(format!(
            "imports {}, which section `{}` does not grant; add to it: grants: {{ {} }}{}",
            list(&interfaces),
            section.name,
            examples.join(", "),
            flag.unwrap_or_default()
        ));
    }
    problems
}

/// The capability that serves an import, version included.
#[must_use]
pub fn offered(import: &Interface) -> Option<&'static Entry> {
    let (entry, interfaces) = find(&import.package, &import.name)?;
    serves(interfaces.version, &import.version).then_some(entry)
}

/// Why an import is not offered. `None` if its version is a wrong one of ours: that is told once for all interfaces.
fn unknown(import: &Interface) -> Option<String> {
    if let Some((_, interfaces)) = find(&import.package, &import.name) {
        let (package, version) = (interfaces.package, interfaces.version);
        let target = if version == "0.2.x" { ", as Rust's target wasm32-wasip2 does" } else { "" };
        return (package != PACKAGE)
            .then(|| format!("imports {import}, of which this host serves {version}; build the plugin for {package} {version}{target}"));
    }
    let flag = flag(import).map(|flag| format!(" ({flag})"));
    let served: Vec<&str> = of_package(&import.package).flat_map(|(_, interfaces)| interfaces.names).copied().collect();
    let served = if served.is_empty() { String::new() } else { format!(", only {} of {}", served.join(", "), import.package) };
    Some(format!("imports {import}, which this host does not offer{served}; build the plugin without it{}", flag.unwrap_or_default()))
}

fn wrong_role(examination: &Examination, role: Role) -> String {
    let roles: Vec<String> = examination.roles.iter().map(|role| format!("a {}", role.name())).collect();
    match roles.as_slice() {
        [] => format!(
            "no plugin of pgshovel: it exports none of its interfaces; a {} exports pgshovel:plugin/{}",
            role.name(),
            role.interface()
        ),
        roles => format!("not a {}; it is {}: name it there, or another plugin here", role.name(), roles.join(" and ")),
    }
}

fn list(interfaces: &[&Interface]) -> String {
    interfaces.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Examination {
    /// Whether the component uses a capability as `role`. A component with several roles
    /// imports what any of them needs; then only what belongs to this one counts, and the
    /// rest is refused when it is used.
    fn needs(&self, role: Role, entry: &Entry) -> bool {
        self.roles.len() <= 1 || entry.roles.contains(&role)
    }
}
