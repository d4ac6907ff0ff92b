//! What a capability is: one folder below `capabilities`, with one type that implements
//! [`Capability`], and one line in the table of `capabilities/mod.rs`.
//!
//! A folder has, as far as it needs them:
//!
//! - `mod.rs`: what the capability does, and `impl Capability`. It names no wasmtime.
//! - `link.rs`: what `bindgen!` makes of its `.wit` file, and the `Host` traits of that,
//!   implemented for [`View`]. Nothing is decided there.
//! - `grant.rs`: what the section's YAML says under `grants.<name>`.
//!
//! A capability knows neither the store that it is linked into nor the other
//! capabilities: it meets its own [`Capability::State`] and what is [`Shared`] by all.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::path::Path;

use wasmtime::component::HasData;

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
    const INTERFACES: Interfaces;

    /// Who gets it.
    const ACCESS: Access;

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
}

/// The interfaces of one package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interfaces {
    /// `wasi:io`; `None` is pgshovel's own package.
    pub packages: &'static [&'static str],
    /// Each of the package if there are none.
    pub names: &'static [&'static str],
    /// The version that is served, up to the last number: `0.2` stands for `0.2.x`.
    pub version: &'static str,
}

/// The package of pgshovel's own interfaces.
pub const PACKAGE: &str = "pgshovel:plugin";

impl Interfaces {
    /// Some of pgshovel's own.
    #[must_use]
    pub const fn own(names: &'static [&'static str]) -> Self {
        Self { packages: &[PACKAGE], names, version: "0.1" }
    }

    /// All of some packages of WASI 0.2.
    #[must_use]
    pub const fn wasi(packages: &'static [&'static str]) -> Self {
        Self { packages, names: &[], version: "0.2" }
    }
}

/// Who gets a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every plugin.
    Free,
    /// Every plugin, and by a grant more.
    Extended {
        /// What there is without a grant.
        without: &'static str,
        /// What to write below `grants`.
        example: &'static str,
    },
    /// Whom the section grants it.
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
            Self::Free | Self::LoaderOnly => None,
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
