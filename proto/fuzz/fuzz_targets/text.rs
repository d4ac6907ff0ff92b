//! Whatever the text: an error at a place inside it, or a configuration that is
//! the same when printed and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::interfaces::configurations::ReplicationSetConfiguration;
use proto::text;

fuzz_target!(|text: &str| {
    match text::parse::<ReplicationSetConfiguration>(text) {
        Ok(set) => assert_eq!(text::parse(&text::print(&set)), Ok(set)),
        Err(error) => assert!(error.line >= 1 && error.line <= text.matches('\n').count() + 1 && error.column >= 1),
    }
});
