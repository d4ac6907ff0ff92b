//! The Kafka stream: one topic of one partition per set, through the host's
//! capability `kafka`, which keeps order and durability.

// Without the component, which only wasm has, nothing calls it.
#![cfg_attr(not(any(test, target_family = "wasm")), allow(dead_code))]

mod settings;

#[cfg(target_family = "wasm")]
mod plugin;
