#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../plugins/file/src/checksum.rs"]
#[allow(dead_code)]
mod checksum;
#[path = "../../../plugins/file/src/failure.rs"]
mod failure;
#[path = "../../../plugins/file/src/property.rs"]
mod property;
#[path = "../../../plugins/file/src/reader.rs"]
mod reader;
#[path = "../../../plugins/file/src/segment.rs"]
#[allow(dead_code)]
mod segment;
#[path = "../../../plugins/file/src/simulated.rs"]
#[allow(dead_code)]
mod simulated;
#[path = "../../../plugins/file/src/storage.rs"]
#[allow(dead_code)]
mod storage;

fuzz_target!(|input: &[u8]| property::read(input));
