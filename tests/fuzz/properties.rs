//! What must hold of any input: for the fuzz targets, and for the tests that try
//! their corpus.

use prost::Message as _;
use proto::batch::step::{Options, Reader};
use proto::interfaces::configurations::ReplicationSetConfiguration;
use proto::interfaces::replication::State;
use proto::interfaces::streams;
use proto::{codec, stored, text};

/// An error, or a message that prost reads too.
pub fn decode(bytes: &[u8]) {
    match codec::decode(bytes) {
        Ok(_) => drop(streams::Message::decode(bytes).expect("prost is the more lenient")),
        Err(error) => assert_eq!(error.size, bytes.len()),
    }
}

/// Of messages, each behind its length in two bytes: actions, or violations that
/// change nothing.
pub fn step(bytes: &[u8]) {
    read(Reader::new(options()), bytes);
}

/// Of a stored state behind its length in two bytes, and such messages behind it: an
/// error, or a reader that goes on from there.
pub fn state(bytes: &[u8]) {
    let Some((length, after)) = bytes.split_first_chunk::<2>() else { return };
    let (state, messages) = after.split_at(usize::from(u16::from_le_bytes(*length)).min(after.len()));
    let Ok(state) = stored::decode::<State>(state) else { return };
    let Ok(reader) = Reader::resume(state, options()) else { return };
    resume(&reader);
    read(reader, messages);
}

fn options() -> Options {
    Options { priming_messages_max: 4, node_change: Some([b'n'; 16]), epoch_change: Some(1), owner: Some(("c".to_owned(), "s".to_owned())) }
}

fn read(mut reader: Reader, mut rest: &[u8]) {
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
}

/// Whatever can be stored can be resumed from, and is the same then.
fn resume(reader: &Reader) {
    let Some(state) = reader.state(b"").filter(|state| state.stream_state.is_some()) else { return };
    let resumed = Reader::resume(state.clone(), Options::default()).expect("the reader's own state");
    assert_eq!(resumed.state(b""), Some(state));
}

/// An error at a place inside the text, or a configuration that is the same when
/// printed and read again.
pub fn text(text: &str) {
    match text::parse::<ReplicationSetConfiguration>(text) {
        Ok(set) => assert_eq!(text::parse(&text::print(&set)), Ok(set)),
        Err(error) => assert!(error.line >= 1 && error.line <= text.matches('\n').count() + 1 && error.column >= 1),
    }
}
