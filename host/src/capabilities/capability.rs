//! What a capability is: one folder below `capabilities`, with one type that implements
//! [`Capability`], and one line in the table of `capabilities/mod.rs`.
//!
//! A folder has, as far as it needs them:
//!
//! - `mod.rs`: what the capability does, in plain Rust.
//! - `link.rs`: all that touches wasmtime. What `bindgen!` makes of its `.wit` file, the type
//!   that implements [`Capability`], and the `Host` traits, implemented for [`View`].
//! - `grant.rs`: what the section's YAML says under `grants.<name>`.
//!
//! A capability knows neither the store that it is linked into nor the other
//! capabilities: it meets its own [`Capability::State`] and what is [`Shared`] by all.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::path::Path;

use wasmtime::component::HasData;

use super::role::Role;
use super::shared::Shared;
use crate::error::Result;
use crate::yaml::{Field, Problem, Sources};

pub use wasmtime::component::Linker;

/// What linking comes to: an error is a bug, as of an interface that is defined twice.
pub type Linked = wasmtime::Result<()>;

/// Something that a plugin may import.
pub trait Capability: Sized + 'static {
    /// What it is called in messages, and the key under `grants` if it has one.
    const NAME: &'static str;

    /// What a component imports to use it.
    const INTERFACES: &'static [Interfaces];

    /// Who gets it.
    const ACCESS: Access;

    /// The roles that use it. A component with several roles imports what any of them needs:
    /// it is not asked for the grant of what only another of its roles uses.
    const ROLES: &'static [Role] = &Role::ALL;

    /// What a section grants. The default grants nothing. `()` if there is nothing to grant.
    type Grant: Clone + Debug + Default + PartialEq + Send + Sync;

    /// What the host keeps of it for one instance of a plugin, its limits included.
    type State: Send + 'static;

    /// Reads the value of `grants.<name>`. Not called if [`Self::ACCESS`] has no example of a grant.
    fn grant(field: &Field<'_>, _: &Sources<'_>) -> std::result::Result<Self::Grant, Problem> {
        Err(field.problem("grants nothing; remove it"))
    }

    /// Defines the interfaces. Called once for each engine, whatever is granted; a
    /// component that imports what its section does not grant is refused before it is linked.
    fn link<T: Holds<Self>>(linker: &mut Linker<T>) -> Linked;

    /// Makes the state of a new instance. An error is one of the configuration.
    fn state(grant: &Self::Grant, setup: &Setup<'_>, shared: &Shared) -> Result<Self::State>;

    /// Whether the instance may go on: called before each call into the plugin, and some 50
    /// times a second while it computes. An error ends the call, as does one that a function
    /// of the capability returns as its trap.
    fn check(_: View<'_, Self>) -> Result<()> {
        Ok(())
    }

    /// A call into the plugin did not return, so that the instance is of no more use: ends
    /// what the capability does for it. What has to end in front of all else ends here.
    fn give_up(_: View<'_, Self>) {}
}

/// The package of pgshovel's own interfaces.
pub const PACKAGE: &str = "pgshovel:plugin";

/// The versions of it that this host serves.
pub const SERVED: &str = "0.2.x";

/// Some interfaces of one package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interfaces {
    /// `wasi:io`
    pub package: &'static str,
    pub names: &'static [&'static str],
    /// The version that is served; an `x` at its end stands for any number.
    pub version: &'static str,
}

impl Interfaces {
    /// Some of pgshovel's own.
    #[must_use]
    pub const fn own(names: &'static [&'static str]) -> Self {
        Self { package: PACKAGE, names, version: SERVED }
    }

    /// Some of WASI 0.2.
    #[must_use]
    pub const fn wasi(package: &'static str, names: &'static [&'static str]) -> Self {
        Self { package, names, version: "0.2.x" }
    }
}

/// Whether a component that was built for `version` of an interface can be given `served`.
#[must_use]
pub fn serves(served: &str, version: &str) -> bool {
    match served.strip_suffix('x') {
        Some(series) => version.strip_prefix(series).is_some_and(|patch| patch.parse::<u64>().is_ok()),
        None => version == served,
    }
}

/// Who gets a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every plugin.
    Free,
    /// Every plugin, although nothing is behind it: language runtimes import it.
    Hollow {
        /// What a plugin finds.
        finds: &'static str,
    },
    /// Every plugin, and by a grant there is more behind it.
    Extended {
        /// What a plugin finds without the grant.
        finds: &'static str,
        /// What to write below `grants`.
        example: &'static str,
    },
    /// Plugins whose section grants it.
    Granted {
        /// What to write below `grants`.
        example: &'static str,
    },
    /// Loaders.
    LoaderOnly,
}

impl Access {
    /// What to write below `grants`.
    #[must_use]
    pub const fn example(self) -> Option<&'static str> {
        match self {
            Self::Extended { example, .. } | Self::Granted { example } => Some(example),
            Self::Free | Self::Hollow { .. } | Self::LoaderOnly => None,
        }
    }

    /// Who gets it, for `plugin inspect`.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Free => "given to every plugin".into(),
            Self::Hollow { finds } => finds.into(),
            Self::Extended { finds, example } => format!("{finds}, unless granted: {example}"),
            Self::Granted { example } => format!("needs the grant {example}"),
            Self::LoaderOnly => "given to loaders".into(),
        }
    }
}

/// The section and the process that a state is made for.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The section's name: `target`, `transforms[1]`.
    pub section: &'a str,
    /// The configuration file, for messages.
    pub file: &'a Path,
    /// The section's `configuration`.
    pub configuration: &'a serde_json::Value,
    /// The folder of compiled plugins, if there is one. What lies there runs in the host, so
    /// no plugin may write there.
    pub compiled: Option<&'a Path>,
}

/// The data of a store that holds a capability's state.
pub trait Holds<C: Capability>: Send + 'static {
    fn view(&mut self) -> View<'_, C>;
}

/// What a capability sees of the instance that calls it. It implements the `Host` traits for it.
pub struct View<'a, C: Capability> {
    pub state: &'a mut C::State,
    pub shared: &'a mut Shared,
}

/// Tells wasmtime that a capability is called with a [`View`].
pub struct Views<C>(PhantomData<C>);

impl<C: Capability> HasData for Views<C> {
    type Data<'a> = View<'a, C>;
}

impl<C: Capability> std::fmt::Debug for View<'_, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("capability", &C::NAME).finish_non_exhaustive()
    }
}

impl<C: Capability> std::fmt::Debug for Views<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Views")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_patch_is_served_and_another_version_is_not() {
        for version in ["0.2.0", "0.2.12"] {
            assert!(serves("0.2.x", version), "{version}");
        }
        for version in ["", "0.2", "0.2.", "0.2.x", "0.2.1.1", "0.2.0-rc.1", "0.20.1", "0.3.0", "1.0.2.0"] {
            assert!(!serves("0.2.x", version), "{version}");
        }
        assert!(serves("0.2.0-rc.1", "0.2.0-rc.1") && !serves("0.2.0-rc.1", "0.2.0-rc.2") && !serves("0.2.0-rc.1", "0.2.0"));
    }
}
