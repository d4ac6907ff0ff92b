//! What must hold of any segment: for the tests, and for the fuzz target `segment`
//! (`tests/fuzz`).

use crate::reader::Reader;
use crate::segment::{HEADER_BYTES, Identity, Kind, Place, Position, encode_header, encode_mark, file_name};
use crate::simulated::Disk;
use crate::storage::Folder as _;

const SEQUENCE: u64 = 7;

/// More than any input holds.
const MESSAGES_MAX: usize = 1 << 16;

/// Of where to resume (a bit and 24 bytes), and a segment: an error, or messages that
/// lie one behind the other. A bit says whether the segment's header is made whole, for
/// no fuzzer guesses checksums: then it holds what follows, from the first message on.
pub fn read(input: &[u8]) {
    let Some((flags, rest)) = input.split_first() else { return };
    let (position, rest) = rest.split_at(rest.len().min(24));
    let disk = Disk::default();
    let content = if flags & 1 == 0 { rest.to_vec() } else { whole(flags & 2 != 0, rest) };
    disk.create(&file_name(SEQUENCE), &content).expect("a disk without faults");
    let mut reader = Reader::open(disk);
    if flags & 4 != 0 {
        let Ok(position) = Position::decode(position) else { return };
        if reader.seek(Some(position)).is_err() {
            return;
        }
    }
    let mut last: Option<Place> = None;
    for _ in 0..MESSAGES_MAX {
        let Ok(entries) = reader.next(3) else { return };
        let Some(newest) = entries.positions.last() else { return };
        for position in &entries.positions {
            let place = position.place;
            assert!(position.sequence == SEQUENCE && place.byte <= content.len() as u64, "{place:?} of {}", content.len());
            assert!(last.is_none_or(|last| last.byte < place.byte && last.index + 1 == place.index), "{place:?} after {last:?}");
            last = Some(place);
        }
        assert_eq!(Position::decode(&newest.encode()), Ok(*newest));
    }
    panic!("more messages than {} bytes hold", content.len());
}

/// A segment whose marks say that all of `messages` is there, as many as are whole.
fn whole(sealed: bool, messages: &[u8]) -> Vec<u8> {
    let identity = Identity { sequence: SEQUENCE, first_index: 0 };
    let mut content = encode_header(identity);
    content.extend_from_slice(messages);
    let mut at = Place { byte: HEADER_BYTES, index: 0 };
    while let Some(length) = content.get(at.byte as usize..).and_then(|rest| rest.first_chunk::<4>()) {
        at.byte += 8 + u64::from(u32::from_le_bytes(*length));
        at.index += 1;
    }
    let kind = if sealed { Kind::Sealed } else { Kind::Durable };
    let mark = encode_mark(identity, kind, at);
    let start = kind.byte() as usize;
    content[start..start + mark.len()].copy_from_slice(&mark);
    content
}
