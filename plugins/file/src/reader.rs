//! The receiving end: follows the segments up to what their writer made durable.

use pgshovel_plugin_shared::Flat;

use crate::failure::{Failure, Outcome};
use crate::segment::{Decoded, HEADER_BYTES, Header, Mark, Place, Position, decode_header, decode_message, file_name, sequence};
use crate::storage::{Access, File, Folder};

/// One read, and about what one call of `next` returns.
pub const CHUNK_BYTES: usize = 1 << 20;
/// A mark may be caught while it is written, but not so often in a row.
const DAMAGED_MARKS_MAX: u32 = 20;

#[derive(Debug)]
pub struct Reader<F: Folder> {
    folder: F,
    /// `None`: at the beginning of a log that has no segment yet.
    at: Option<Cursor<F::File>>,
    damaged_marks: u32,
}

#[derive(Debug)]
struct Cursor<T> {
    file: T,
    position: Position,
    /// Messages before it may be read.
    durable: Place,
    /// No message comes after `durable` in this segment.
    sealed: bool,
    /// What the file holds from the position on.
    ahead: Vec<u8>,
    consumed: usize,
}

/// Messages, and where to resume after each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    pub messages: Flat,
    /// As many as messages.
    pub positions: Vec<Position>,
}

impl Entries {
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// `position` is the one to resume at after the message.
    fn push(&mut self, position: Position, message: &[u8]) {
        self.messages.push(message);
        self.positions.push(position);
    }
}

impl<F: Folder> Reader<F> {
    /// At the oldest message.
    pub fn open(folder: F) -> Self {
        Self { folder, at: None, damaged_marks: 0 }
    }

    /// The next message returned is the one after the position; with `None` the
    /// oldest that is retained.
    pub fn seek(&mut self, after: Option<Position>) -> Outcome<()> {
        self.at = None;
        self.damaged_marks = 0;
        let Some(position) = after else { return Ok(()) };
        let Some((file, header)) = open_segment(&self.folder, position.sequence)? else {
            self.at = Some(self.segment_after(position.sequence, position.place.index)?.ok_or_else(|| lost(position))?);
            return Ok(());
        };
        let size = file.size()?;
        let end = match header.sealed {
            Mark::At(end) => end.byte,
            Mark::Absent | Mark::Damaged => size,
        };
        if position.place.byte < HEADER_BYTES || position.place.byte > end || position.place.index < header.identity.first_index {
            return Err(Failure::Stop(format!(
                "{}: the position is at byte {}, the messages end at {end}: the stream was cut or made again, replicate once with --bootstrap to load the target anew",
                file_name(position.sequence),
                position.place.byte
            )));
        }
        self.at = Some(Cursor::new(file, position));
        Ok(())
    }

    /// What there is, without waiting: up to `max_messages`, about 1 MiB of them.
    pub fn next(&mut self, max_messages: usize) -> Outcome<Entries> {
        if self.at.is_none() {
            self.at = self.oldest_segment()?;
        }
        while let Some(cursor) = &mut self.at {
            let Position { sequence, place } = cursor.position;
            if place.byte < cursor.durable.byte {
                return cursor.take(max_messages).map_err(|failure| failure.at(&file_name(sequence)));
            }
            if cursor.sealed {
                let Some(next) = self.segment_after(sequence, place.index)? else { break };
                self.at = Some(next);
            } else if !self.look_for_more()? {
                break;
            }
        }
        Ok(Entries::default())
    }

    /// Whether the writer has come further, or sealed the segment.
    fn look_for_more(&mut self) -> Outcome<bool> {
        let Some(cursor) = &mut self.at else { return Ok(false) };
        let position = cursor.position;
        let name = file_name(position.sequence);
        let header = read_header(&cursor.file, position.sequence).map_err(|failure| failure.at(&name))?;
        let (end, sealed) = match (header.sealed, header.durable) {
            (Mark::At(end), _) => (end, true),
            (Mark::Absent, Mark::At(end)) => (end, false),
            (Mark::Absent, Mark::Absent) => (header.identity.start(), false),
            (Mark::Damaged, _) | (Mark::Absent, Mark::Damaged) => {
                self.damaged_marks += 1;
                if self.damaged_marks > DAMAGED_MARKS_MAX {
                    return Err(Failure::Stop(format!(
                        "{name}: the mark that says how far the messages go is damaged: restore the file, or begin a new stream"
                    )));
                }
                return Ok(false);
            }
        };
        self.damaged_marks = 0;
        if sealed && end.byte < position.place.byte {
            return Err(Failure::Stop(format!(
                "{name}: the position is at byte {}, the messages end at {}: the stream was cut, replicate once with --bootstrap to load the target anew",
                position.place.byte, end.byte
            )));
        }
        // After a crash of the machine the mark may lag behind a position.
        if end.byte <= position.place.byte && !sealed {
            return Ok(false);
        }
        (cursor.durable, cursor.sealed) = (end, sealed);
        Ok(true)
    }

    fn oldest_segment(&self) -> Outcome<Option<Cursor<F::File>>> {
        let oldest = self.folder.list()?.iter().filter_map(|name| sequence(name)).min();
        let Some(oldest) = oldest else { return Ok(None) };
        // Gone again: an empty one, or one that is no longer retained.
        let Some((file, header)) = open_segment(&self.folder, oldest)? else { return Ok(None) };
        Ok(Some(Cursor::new(file, Position { sequence: oldest, place: header.identity.start() })))
    }

    /// The segment that begins with the message `index`; `None`: it is not there yet.
    fn segment_after(&self, previous: u64, index: u64) -> Outcome<Option<Cursor<F::File>>> {
        let next = self.folder.list()?.iter().filter_map(|name| sequence(name)).filter(|sequence| *sequence > previous).min();
        let Some(next) = next else { return Ok(None) };
        let Some((file, header)) = open_segment(&self.folder, next)? else { return Ok(None) };
        let start = Position { sequence: next, place: header.identity.start() };
        if start.place.index != index {
            return Err(Failure::Stop(format!(
                "{} begins with message {}, due is {index}: messages were lost, replicate once with --bootstrap to load the target anew",
                file_name(next),
                start.place.index
            )));
        }
        Ok(Some(Cursor::new(file, start)))
    }
}

impl<T: File> Cursor<T> {
    fn new(file: T, position: Position) -> Self {
        Self { file, position, durable: position.place, sealed: false, ahead: Vec::new(), consumed: 0 }
    }

    /// At least one message: the durable place lies ahead.
    fn take(&mut self, max_messages: usize) -> Outcome<Entries> {
        let mut entries = Entries::default();
        let mut bytes = 0;
        while self.position.place.byte < self.durable.byte && entries.positions.len() < max_messages.max(1) && bytes < CHUNK_BYTES {
            match decode_message(self.position.place.index, &self.ahead[self.consumed..]) {
                Decoded::Message(message) => {
                    let stored = crate::segment::FRAME_BYTES + message.len();
                    bytes += stored;
                    self.position.place.byte += stored as u64;
                    self.position.place.index += 1;
                    entries.push(self.position, message);
                    self.consumed += stored;
                }
                // What was collected goes out first; there is always something.
                Decoded::Short(_) if !entries.is_empty() => break,
                Decoded::Short(needed) if self.position.place.byte + needed <= self.durable.byte => self.read_ahead(needed)?,
                Decoded::Short(_) | Decoded::Damaged => return Err(self.damaged()),
            }
        }
        if self.position.place.byte == self.durable.byte && self.position.place.index != self.durable.index {
            return Err(self.damaged());
        }
        Ok(entries)
    }

    /// So that at least `needed` bytes are there, of those that are durable.
    fn read_ahead(&mut self, needed: u64) -> Outcome<()> {
        self.ahead.drain(..self.consumed);
        self.consumed = 0;
        let from = self.position.place.byte + self.ahead.len() as u64;
        let most = (self.durable.byte - from).min(needed.max(CHUNK_BYTES as u64));
        let more = self.file.read(from, usize::try_from(most).unwrap_or(usize::MAX))?;
        if more.is_empty() {
            return Err(self.damaged());
        }
        self.ahead.extend_from_slice(&more);
        Ok(())
    }

    fn damaged(&self) -> Failure {
        Failure::Stop(format!(
            "the message at byte {} is damaged: restore the file from a copy, or begin a new stream, and replicate once with --bootstrap to load the target anew",
            self.position.place.byte
        ))
    }
}

fn open_segment<F: Folder>(folder: &F, sequence: u64) -> Outcome<Option<(F::File, Header)>> {
    let name = file_name(sequence);
    let Some(file) = folder.open(&name, Access::Read)? else { return Ok(None) };
    let header = read_header(&file, sequence).map_err(|failure| failure.at(&name))?;
    Ok(Some((file, header)))
}

fn read_header<T: File>(file: &T, sequence: u64) -> Outcome<Header> {
    decode_header(sequence, &file.read(0, HEADER_BYTES as usize)?)
}

fn lost(position: Position) -> Failure {
    Failure::Stop(format!(
        "{} is no longer there: messages were lost, replicate once with --bootstrap to load the target anew (and raise `retention_bytes`)",
        file_name(position.sequence)
    ))
}
