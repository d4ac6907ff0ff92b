#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../host/src/postgres/event/mod.rs"]
#[allow(dead_code)]
pub mod event;
#[path = "../../../host/src/postgres/event/property.rs"]
mod property;

/// Where the event is in the host.
mod postgres {
    pub use crate::event;
}

fuzz_target!(|input: &[u8]| property::decode(input));
