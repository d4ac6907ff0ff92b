//! Whatever the messages: actions, or violations that change nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::batch::step::{Options, Reader};
use proto::codec;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = Reader::new(Options { priming_messages_max: 4, node_change: None });
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (message, after) = after.split_at(length);
        rest = after;
        let Ok(message) = codec::decode(message) else { continue };
        let before = (reader.state(b""), reader.open().cloned());
        match reader.step(message) {
            Err(_) => assert_eq!(before, (reader.state(b""), reader.open().cloned())),
            Ok(_) => resume(&reader),
        }
    }
});

/// Whatever can be stored can be resumed from, and is the same then.
fn resume(reader: &Reader) {
    let Some(state) = reader.state(b"").filter(|state| state.stream_state.is_some()) else { return };
    let resumed = Reader::resume(state.clone(), Options::default()).expect("the reader's own state");
    assert_eq!(resumed.state(b""), Some(state));
}
