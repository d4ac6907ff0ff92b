#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
mod postgres {
    #[path = "../../../../host/src/postgres/event/mod.rs"]
    pub mod event;
}

#[path = "../../../host/src/postgres/event/property.rs"]
mod property;

fuzz_target!(|input: &[u8]| property::decode(input));
