//! What a plugin may import: one folder for each capability, and one table of them.
//! `capability.rs` says what belongs into such a folder.

pub mod capability;
pub mod config_store;
pub mod files;
pub mod grants;
pub mod http;
pub mod kafka;
pub mod log;
pub mod logging;
pub mod origin;
pub mod output;
pub mod postgres;
pub mod role;
pub mod shared;
pub mod sockets;
pub mod types;
pub mod wasi;

use capability::{Access, Capability, Holds, Interfaces, Linked, Linker, Setup, View};
use role::Role;
use shared::Shared;

use crate::error::Result;
use crate::yaml::{Field, Problem, Sources};

/// One line for each capability: the name of its field in [`Grants`] and [`States`], and its type.
macro_rules! table {
    ($($name:ident: $capability:ty,)*) => {
        /// All that one plugin may reach: nothing, unless its section says so.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Grants {
            $(pub $name: <$capability as Capability>::Grant,)*
        }

        impl Grants {
            /// Reads the section's `grants`.
            pub(crate) fn read(field: &Field<'_>, sources: &Sources<'_>) -> std::result::Result<Self, Problem> {
                let grantable = ALL.iter().filter(|entry| entry.access.example().is_some());
                field.map(&grantable.map(|entry| entry.name).collect::<Vec<_>>())?;
                let mut grants = Self::default();
                $(if let Some(field) = field.get(<$capability>::NAME) {
                    grants.$name = <$capability>::grant(&field, sources)?;
                })*
                Ok(grants)
            }

            /// Whether anything is granted of a capability.
            pub(crate) fn has(&self, capability: &str) -> bool {
                $(if capability == <$capability>::NAME {
                    return self.$name != <$capability as Capability>::Grant::default();
                })*
                false
            }
        }

        /// What the host keeps of each capability for one instance of a plugin.
        pub struct States {
            $(pub $name: <$capability as Capability>::State,)*
        }

        impl States {
            fn new(grants: &Grants, setup: &Setup<'_>, shared: &Shared) -> Result<Self> {
                Ok(Self { $($name: <$capability>::state(&grants.$name, setup, shared)?,)* })
            }
        }

        impl<R> Instance<R> {
            /// Whether the instance may go on, by each of its capabilities. An error ends the call.
            pub fn check(&mut self) -> Result<()> {
                $(<$capability>::check(View { state: &mut self.states.$name, shared: &mut self.shared })?;)*
                Ok(())
            }

            /// A call did not return: what goes on for it ends.
            pub fn give_up(&mut self) {
                $(<$capability>::give_up(View { state: &mut self.states.$name, shared: &mut self.shared });)*
            }
        }

        $(impl<R: Send + 'static> Holds<$capability> for Instance<R> {
            fn view(&mut self) -> View<'_, $capability> {
                View { state: &mut self.states.$name, shared: &mut self.shared }
            }
        })*

        /// Defines all that a plugin may import.
        pub fn link<R: Send + 'static>(linker: &mut Linker<Instance<R>>) -> Linked {
            $(<$capability>::link(linker)?;)*
            Ok(())
        }

        /// What can be said of each capability without an instance.
        pub const ALL: &[Entry] = &[
            $(Entry {
                name: <$capability>::NAME,
                interfaces: <$capability>::INTERFACES,
                access: <$capability>::ACCESS,
                roles: <$capability>::ROLES,
            },)*
        ];
    };
}

table! {
    types: types::Types,
    log: log::Logs,
    logging: logging::Logging,
    postgres: postgres::Postgres,
    kafka: kafka::Kafka,
    origin: origin::Origin,
    http: http::Http,
    files: files::Files,
    config_store: config_store::ConfigStore,
    sockets: sockets::Sockets,
    wasi: wasi::Wasi,
}

/// A capability, from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: &'static str,
    pub interfaces: &'static [Interfaces],
    pub access: Access,
    pub roles: &'static [Role],
}

/// What the host keeps for one instance of a plugin. `runtime` is what its store needs besides.
pub struct Instance<R> {
    pub runtime: R,
    /// In front of `shared`, and dropped before it: what ends with a plugin that broke off
    /// must not look like its own end, as half a body would.
    pub states: States,
    pub shared: Shared,
}

impl<R> Instance<R> {
    pub fn new(runtime: R, grants: &Grants, setup: &Setup<'_>, shared: Shared) -> Result<Self> {
        let states = States::new(grants, setup, &shared)?;
        Ok(Self { runtime, shared, states })
    }
}

impl<R> std::fmt::Debug for Instance<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for States {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("States")
    }
}

/// The capabilities that serve interfaces of `package`, with these.
pub fn of_package(package: &str) -> impl Iterator<Item = (&'static Entry, &'static Interfaces)> {
    let pairs = ALL.iter().flat_map(|entry| entry.interfaces.iter().map(move |interfaces| (entry, interfaces)));
    pairs.filter(move |(_, interfaces)| interfaces.package == package)
}

/// The capability that serves an interface, in whatever version.
#[must_use]
pub fn find(package: &str, name: &str) -> Option<(&'static Entry, &'static Interfaces)> {
    of_package(package).find(|(_, interfaces)| interfaces.names.contains(&name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::grants::{Resources, Secret};
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let grants = Grants {
            postgres: Resources::One(Secret::new("password=hunter2".into())),
            kafka: Resources::One(kafka::Properties(BTreeMap::from([("sasl.password".into(), "hunter2".into())]))),
            ..Grants::default()
        };
        let shown = format!("{grants:?} {grants:#?}");
        assert!(!shown.contains("hunter2") && shown.contains("sasl.password"), "{shown}");
    }

    #[test]
    fn an_interface_belongs_to_one_capability() {
        let mut known = BTreeMap::new();
        for (entry, interfaces) in ALL.iter().flat_map(|entry| entry.interfaces.iter().map(move |interfaces| (entry, interfaces))) {
            for name in interfaces.names {
                let before = known.insert((interfaces.package, *name), entry.name);
                assert_eq!(before, None, "{}/{name} of {}", interfaces.package, entry.name);
            }
        }
        let names: std::collections::BTreeSet<&str> = ALL.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), ALL.len(), "{names:?}");
    }
}
