//! What a file says of itself, read without compiling or running it.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use wasmparser::{Encoding, KnownCustom, Parser, Payload};

use super::cost::Cost;
use crate::capabilities::capability::{PACKAGE, SERVED, serves};
use crate::capabilities::role::Role;

/// An imported or exported interface: `wasi:io/poll@0.2.9`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface {
    /// `wasi:io`; empty for a plain name.
    pub package: String,
    pub name: String,
    /// As it is written; empty if there is none.
    pub version: String,
}

impl Interface {
    fn parse(text: &str) -> Self {
        let (path, version) = text.split_once('@').unwrap_or((text, ""));
        let (package, name) = path.split_once('/').unwrap_or(("", path));
        Self { package: package.to_owned(), name: name.to_owned(), version: version.to_owned() }
    }

    /// One of pgshovel's own.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.package == PACKAGE
    }
}

impl std::fmt::Display for Interface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { package, name, version } = self;
        match (package.as_str(), version.as_str()) {
            ("", "") => f.write_str(name),
            ("", version) => write!(f, "{name}@{version}"),
            (package, "") => write!(f, "{package}/{name}"),
            (package, version) => write!(f, "{package}/{name}@{version}"),
        }
    }
}

/// A component, from outside.
#[derive(Clone, Debug)]
pub struct Examination {
    pub roles: Vec<Role>,
    pub imports: Vec<Interface>,
    pub exports: Vec<Interface>,
    /// What made it, as it says itself: `language: Rust`, `processed-by: rustc 1.95`.
    pub producers: BTreeSet<(String, String)>,
    pub bytes: u64,
    pub sha256: [u8; 32],
    pub cost: Cost,
}

/// Why a file is no component; the remedy included.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoComponent {
    #[error("the file is empty; build the plugin again")]
    Empty,
    #[error("this is WebAssembly's text format; make a component of it with `wasm-tools parse`")]
    Text,
    #[error("this is not WebAssembly; give the path of a component, a file that usually ends in .wasm")]
    Foreign,
    #[error("this is compiled by wasmtime for one machine; give the path of the component that it was made from")]
    Compiled,
    #[error(
        "this is a core WebAssembly module, not a component; make a component of it with `wasm-tools component new`, or build it with a toolchain that makes components"
    )]
    CoreModule,
    #[error("this is damaged at byte {offset}: {reason}; build or download the plugin again")]
    Damaged { offset: usize, reason: String },
}

/// Reads the file's own description. Does not validate its code: compiling does.
pub fn examine(bytes: &[u8]) -> Result<Examination, NoComponent> {
    if !bytes.starts_with(b"\0asm") {
        return Err(foreign(bytes));
    }
    let mut examination = Examination {
        roles: Vec::new(),
        imports: Vec::new(),
        exports: Vec::new(),
        producers: BTreeSet::new(),
        bytes: bytes.len() as u64,
        sha256: Sha256::digest(bytes).into(),
        cost: Cost::new(bytes.len()),
    };
    read(bytes, &mut examination)?;
    let exports = |role: &Role| examination.exports.iter().any(|export| export.is_ours() && export.name == role.interface());
    examination.roles = Role::ALL.into_iter().filter(exports).collect();
    Ok(examination)
}

fn read(bytes: &[u8], examination: &mut Examination) -> Result<(), NoComponent> {
    let damaged =
        |error: wasmparser::BinaryReaderError| NoComponent::Damaged { offset: error.offset(), reason: error.message().to_owned() };
    // A component holds modules and components; only its own imports and exports count.
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(damaged)?;
        examination.cost.add(&payload);
        match payload {
            Payload::Version { encoding, .. } => {
                if depth == 0 && encoding == Encoding::Module {
                    return Err(NoComponent::CoreModule);
                }
                depth += 1;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(imports) if depth == 1 => {
                for import in imports {
                    examination.imports.push(Interface::parse(import.map_err(damaged)?.name.name));
                }
            }
            Payload::ComponentExportSection(exports) if depth == 1 => {
                for export in exports {
                    examination.exports.push(Interface::parse(export.map_err(damaged)?.name.name));
                }
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Producers(fields) = section.as_known() {
                    // What a file says of its making is a courtesy: unreadable is absent.
                    producers(fields, &mut examination.producers).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn foreign(bytes: &[u8]) -> NoComponent {
    let text = bytes.trim_ascii_start();
    match bytes {
        [] => NoComponent::Empty,
        _ if text.starts_with(b"(module") || text.starts_with(b"(component") || text.starts_with(b";;") => NoComponent::Text,
        _ if bytes.starts_with(b"\x7fELF") => NoComponent::Compiled,
        _ => NoComponent::Foreign,
    }
}

fn producers(fields: wasmparser::ProducersSectionReader<'_>, found: &mut BTreeSet<(String, String)>) -> wasmparser::Result<()> {
    for field in fields {
        let field = field?;
        for value in field.values {
            let value = value?;
            let text = format!("{} {}", value.name, value.version);
            found.insert((field.name.to_owned(), text.trim_end().to_owned()));
        }
    }
    Ok(())
}

/// A digest as `sha256sum` prints it.
#[must_use]
pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Examination {
    /// The interfaces of ours that were built for a version which this host does not serve.
    pub fn wrong_versions(&self) -> impl Iterator<Item = &Interface> {
        let ours = self.exports.iter().chain(&self.imports).filter(|interface| interface.is_ours());
        ours.filter(|interface| !serves(SERVED, &interface.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_as_they_are_written() {
        for text in ["wasi:io/poll@0.2.9", "pgshovel:plugin/target", "run", "a@1"] {
            assert_eq!(Interface::parse(text).to_string(), text);
        }
    }

    #[test]
    fn files_that_are_no_component_are_told_apart() {
        let module = b"\0asm\x01\0\0\0";
        for (bytes, expected) in [
            (b"".as_slice(), NoComponent::Empty),
            (b"  (component)", NoComponent::Text),
            (b"\x7fELF...", NoComponent::Compiled),
            (b"#!/bin/sh", NoComponent::Foreign),
            (b"PK\x03\x04", NoComponent::Foreign),
            (module, NoComponent::CoreModule),
        ] {
            assert_eq!(examine(bytes).unwrap_err(), expected);
        }
        let truncated = examine(b"\0asm\x0d\0\x01\0\x07\x10").unwrap_err();
        assert!(matches!(truncated, NoComponent::Damaged { .. }), "{truncated}");
    }
}
