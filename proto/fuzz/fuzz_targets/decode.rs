//! Whatever the bytes: an error, or a message that prost reads too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use proto::codec;
use proto::interfaces::streams;

fuzz_target!(|bytes: &[u8]| {
    match codec::decode(bytes) {
        Ok(_) => drop(streams::Message::decode(bytes).expect("prost is the more lenient")),
        Err(error) => assert_eq!(error.size, bytes.len()),
    }
});
