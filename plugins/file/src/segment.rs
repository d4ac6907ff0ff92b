//! The format of a segment, as pure functions over bytes.
//!
//! A log is a row of segment files, numbered upwards. Each begins with a header
//! of one disk sector, so that updating the marks in it can tear no message:
//!
//! | byte | holds |
//! |---|---|
//! | 0 | `pgshovel`, format version, sequence number, index of the first message, checksum |
//! | 64 | mark `durable`: up to here the messages outlive a crash of the machine |
//! | 128 | mark `taken`: another writer has opened the log; what comes later does not count |
//! | 192 | mark `sealed`: the segment ends here for ever |
//! | 512 | messages |
//!
//! A message is stored as length and checksum (four bytes each) and content. The
//! checksum covers the message's index too, so that a message which is whole but
//! in the wrong place is found out. Integers are little endian.

use crate::checksum::Checksum;
use crate::failure::{Failure, Outcome};

pub const HEADER_BYTES: u64 = 512;
pub const FRAME_BYTES: usize = 8;
/// What `writer.wit` allows.
pub const MESSAGE_BYTES_MAX: usize = 1 << 30;

const MAGIC: &[u8; 8] = b"pgshovel";
const VERSION: u32 = 1;
const IDENTITY_BYTES: usize = 32;
const MARK_BYTES: usize = 20;
const SUFFIX: &str = ".segment";

/// A place in the log: a byte of a segment, and the index of the message that
/// begins there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub byte: u64,
    pub index: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub sequence: u64,
    /// Counted over the whole log, from 0.
    pub first_index: u64,
}

impl Identity {
    pub fn start(&self) -> Place {
        Place { byte: HEADER_BYTES, index: self.first_index }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Durable,
    Taken,
    Sealed,
}

impl Kind {
    pub fn byte(self) -> u64 {
        match self {
            Self::Durable => 64,
            Self::Taken => 128,
            Self::Sealed => 192,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Absent,
    At(Place),
    /// Neither empty nor whole: damaged, or caught while it was written.
    Damaged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub identity: Identity,
    pub durable: Mark,
    pub taken: Mark,
    pub sealed: Mark,
}

pub fn file_name(sequence: u64) -> String {
    format!("{sequence:020}{SUFFIX}")
}

/// The sequence number in a segment's name; `None` for other files.
pub fn sequence(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

pub fn encode_header(identity: Identity) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&identity.sequence.to_le_bytes());
    bytes.extend_from_slice(&identity.first_index.to_le_bytes());
    let checksum = Checksum::new().with(&bytes).value();
    bytes.extend_from_slice(&checksum.to_le_bytes());
    debug_assert_eq!(bytes.len(), IDENTITY_BYTES);
    bytes.resize(HEADER_BYTES as usize, 0);
    bytes
}

pub fn encode_mark(identity: Identity, kind: Kind, place: Place) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MARK_BYTES);
    bytes.extend_from_slice(&place.byte.to_le_bytes());
    bytes.extend_from_slice(&place.index.to_le_bytes());
    let checksum = mark_checksum(identity, kind, &bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

fn mark_checksum(identity: Identity, kind: Kind, place: &[u8]) -> u32 {
    Checksum::new().with(&kind.byte().to_le_bytes()).with(&identity.sequence.to_le_bytes()).with(place).value()
}

/// `bytes` are the first ones of the file of that sequence number.
pub fn decode_header(sequence: u64, bytes: &[u8]) -> Outcome<Header> {
    let damaged =
        |what: &str| Failure::Stop(format!("the header of the segment is damaged ({what}): restore the file, or begin a new stream"));
    if (bytes.len() as u64) < HEADER_BYTES {
        return Err(damaged("it is cut off"));
    }
    let (body, checksum) = bytes[..IDENTITY_BYTES].split_at(IDENTITY_BYTES - 4);
    if &body[..8] != MAGIC {
        return Err(damaged("it does not begin with `pgshovel`"));
    }
    if checksum != Checksum::new().with(body).value().to_le_bytes() {
        return Err(damaged("its checksum is wrong"));
    }
    let version = u32_at(body, 8);
    if version != VERSION {
        return Err(Failure::Stop(format!(
            "the segment has format version {version}, this plugin reads {VERSION}: use the plugin that wrote it"
        )));
    }
    let identity = Identity { sequence: u64_at(body, 12), first_index: u64_at(body, 20) };
    if identity.sequence != sequence {
        return Err(Failure::Stop(format!(
            "the file holds segment {}: it was renamed, name it `{}`",
            identity.sequence,
            file_name(identity.sequence)
        )));
    }
    let mark = |kind| decode_mark(identity, kind, bytes);
    Ok(Header { identity, durable: mark(Kind::Durable), taken: mark(Kind::Taken), sealed: mark(Kind::Sealed) })
}

fn decode_mark(identity: Identity, kind: Kind, header: &[u8]) -> Mark {
    let start = kind.byte() as usize;
    let bytes = &header[start..start + MARK_BYTES];
    if bytes.iter().all(|byte| *byte == 0) {
        return Mark::Absent;
    }
    let place = Place { byte: u64_at(bytes, 0), index: u64_at(bytes, 8) };
    let whole = u32_at(bytes, 16) == mark_checksum(identity, kind, &bytes[..16]);
    if whole && place.byte >= HEADER_BYTES && place.index >= identity.first_index { Mark::At(place) } else { Mark::Damaged }
}

/// Appends the stored form of a message to `buffer`.
pub fn encode_message(buffer: &mut Vec<u8>, index: u64, message: &[u8]) -> Outcome<()> {
    let length = u32::try_from(message.len())
        .ok()
        .filter(|_| message.len() <= MESSAGE_BYTES_MAX)
        .ok_or_else(|| Failure::Stop(format!("a message of {} bytes is larger than 1 GiB", message.len())))?;
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&message_checksum(index, length).with(message).value().to_le_bytes());
    buffer.extend_from_slice(message);
    Ok(())
}

/// To be continued with the content.
pub fn message_checksum(index: u64, length: u32) -> Checksum {
    Checksum::new().with(&index.to_le_bytes()).with(&length.to_le_bytes())
}

/// What precedes a message's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub length: u32,
    pub checksum: u32,
}

impl Frame {
    /// `None`: fewer than [`FRAME_BYTES`] bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (frame, _) = bytes.split_at_checked(FRAME_BYTES)?;
        Some(Self { length: u32_at(frame, 0), checksum: u32_at(frame, 4) })
    }

    /// With the frame itself.
    pub fn stored_bytes(&self) -> u64 {
        FRAME_BYTES as u64 + u64::from(self.length)
    }
}

/// What stands at the beginning of `bytes`, where the message `index` is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    Message(&'a [u8]),
    /// So many bytes are needed to tell; `bytes` has fewer.
    Short(u64),
    Damaged,
}

pub fn decode_message(index: u64, bytes: &[u8]) -> Decoded<'_> {
    let Some(frame) = Frame::decode(bytes) else { return Decoded::Short(FRAME_BYTES as u64) };
    if frame.length as usize > MESSAGE_BYTES_MAX {
        return Decoded::Damaged;
    }
    let Some(content) = bytes.get(FRAME_BYTES..FRAME_BYTES + frame.length as usize) else { return Decoded::Short(frame.stored_bytes()) };
    if message_checksum(index, frame.length).with(content).value() == frame.checksum { Decoded::Message(content) } else { Decoded::Damaged }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

/// Where a reader is: a segment and a place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub sequence: u64,
    pub place: Place,
}

impl Position {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24);
        for part in [self.sequence, self.place.byte, self.place.index] {
            bytes.extend_from_slice(&part.to_be_bytes());
        }
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Outcome<Self> {
        let parts: Option<[[u8; 8]; 3]> = bytes.as_chunks::<8>().0.try_into().ok().filter(|_| bytes.len() == 24);
        let [sequence, byte, index] = parts.map(|parts| parts.map(u64::from_be_bytes)).ok_or_else(|| {
            Failure::Stop(format!("a position of {} bytes is not one of this stream: was it made by another plugin?", bytes.len()))
        })?;
        Ok(Self { sequence, place: Place { byte, index } })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDENTITY: Identity = Identity { sequence: 7, first_index: 40 };

    fn header_with(kind: Kind, place: Place) -> Vec<u8> {
        let mut bytes = encode_header(IDENTITY);
        let mark = encode_mark(IDENTITY, kind, place);
        let start = kind.byte() as usize;
        bytes[start..start + mark.len()].copy_from_slice(&mark);
        bytes
    }

    #[test]
    fn a_header_comes_back() {
        let header = decode_header(7, &encode_header(IDENTITY)).unwrap();
        assert_eq!(header, Header { identity: IDENTITY, durable: Mark::Absent, taken: Mark::Absent, sealed: Mark::Absent });
        let place = Place { byte: 600, index: 41 };
        assert_eq!(decode_header(7, &header_with(Kind::Sealed, place)).unwrap().sealed, Mark::At(place));
    }

    #[test]
    fn a_mark_belongs_to_its_kind_and_segment() {
        let place = Place { byte: 600, index: 41 };
        let mut bytes = encode_header(IDENTITY);
        bytes[128..148].copy_from_slice(&encode_mark(IDENTITY, Kind::Durable, place));
        bytes[192..212].copy_from_slice(&encode_mark(Identity { sequence: 6, ..IDENTITY }, Kind::Sealed, place));
        let header = decode_header(7, &bytes).unwrap();
        assert_eq!((header.taken, header.sealed), (Mark::Damaged, Mark::Damaged));
    }

    #[test]
    fn a_renamed_segment_is_told_its_name() {
        let refused = decode_header(8, &encode_header(IDENTITY)).unwrap_err();
        assert!(matches!(refused, Failure::Stop(text) if text.contains("00000000000000000007.segment")));
    }

    #[test]
    fn other_files_are_no_segments() {
        assert_eq!(sequence(&file_name(u64::MAX)), Some(u64::MAX));
        for other in ["", "7.segment", "0000000000000000000a.segment", "00000000000000000007.log", "99999999999999999999.segment"] {
            assert_eq!(sequence(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_of_the_identity_is_found(bit in 0..IDENTITY_BYTES * 8) {
            let mut bytes = encode_header(IDENTITY);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode_header(7, &bytes).is_err());
        }

        #[test]
        fn a_flipped_bit_of_a_mark_is_found(bit in 0..MARK_BYTES * 8, byte in HEADER_BYTES.., index in 40u64..) {
            let mut bytes = header_with(Kind::Durable, Place { byte, index });
            bytes[64 + bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode_header(7, &bytes).unwrap().durable, Mark::Damaged);
        }

        #[test]
        fn a_message_comes_back(index: u64, message: Vec<u8>, more: Vec<u8>) {
            let mut bytes = Vec::new();
            encode_message(&mut bytes, index, &message).unwrap();
            let stored = bytes.len();
            bytes.extend_from_slice(&more);
            prop_assert_eq!(decode_message(index, &bytes), Decoded::Message(&message));
            prop_assert_eq!(decode_message(index.wrapping_add(1), &bytes), Decoded::Damaged);
            for cut in 0..stored {
                prop_assert!(matches!(decode_message(index, &bytes[..cut]), Decoded::Short(needed) if needed > cut as u64));
            }
        }

        #[test]
        fn a_flipped_bit_of_a_message_never_gives_a_message(index: u64, message: Vec<u8>, bit: prop::sample::Index) {
            let mut bytes = Vec::new();
            encode_message(&mut bytes, index, &message).unwrap();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!matches!(decode_message(index, &bytes), Decoded::Message(_)));
        }

        #[test]
        fn a_position_comes_back(sequence: u64, byte: u64, index: u64) {
            let position = Position { sequence, place: Place { byte, index } };
            prop_assert_eq!(Position::decode(&position.encode()), Ok(position));
        }

        #[test]
        fn foreign_positions_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..64).prop_filter("ours", |bytes| bytes.len() != 24)) {
            prop_assert!(Position::decode(&bytes).is_err());
        }
    }
}
