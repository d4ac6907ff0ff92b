//! The sending end: appends to the newest segment.
//!
//! Opening a log always begins a new segment. That is the fence between two
//! writers: the newer one first marks the last segment as taken, then counts what
//! is in it, and seals it there. The older one looks for that mark after it has
//! synced and before it calls anything durable, so that either its messages are
//! counted or its flush fails.

use crate::failure::{Failure, Outcome};
use crate::segment::{
    FRAME_BYTES, Frame, HEADER_BYTES, Header, Identity, Kind, MESSAGE_BYTES_MAX, Mark, Place, decode_header, encode_header, encode_mark,
    encode_message, file_name, message_checksum, sequence,
};
use crate::settings::Settings;
use crate::storage::{Access, File, Folder};

/// One read while the end of a log is looked for.
const SCAN_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub struct Writer<F: Folder> {
    folder: F,
    settings: Settings,
    file: F::File,
    identity: Identity,
    /// Where the buffer goes.
    written: Place,
    buffer: Vec<u8>,
    /// The index of the next message.
    next_index: u64,
}

/// What opening found, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub file: String,
    pub byte: u64,
    pub bytes: u64,
}

impl<F: Folder> Writer<F> {
    /// Takes the log over from whoever wrote it before. What was pushed and never
    /// flushed may be cut off its end.
    pub fn open(folder: F, settings: Settings) -> Outcome<(Self, Option<Cut>)> {
        let last = folder.list()?.iter().filter_map(|name| sequence(name)).max();
        let (identity, cut) = match last {
            None => (Identity { sequence: 0, first_index: 0 }, None),
            Some(last) => {
                let (end, cut) = seal(&folder, last).map_err(|failure| failure.at(&file_name(last)))?;
                let sequence = last
                    .checked_add(1)
                    .ok_or_else(|| Failure::Stop(format!("{}: no number is left for the next segment", file_name(last))))?;
                (Identity { sequence, first_index: end.index }, cut)
            }
        };
        let file = begin_segment(&folder, identity)?
            .ok_or_else(|| Failure::Retry(format!("{}: another writer has just made this segment", file_name(identity.sequence))))?;
        let start = identity.start();
        let writer = Self { folder, settings, file, identity, written: start, buffer: Vec::new(), next_index: start.index };
        writer.forget_empty_predecessor()?;
        Ok((writer, cut))
    }

    /// Appends, and begins a new segment when this one is full.
    pub fn push<M: AsRef<[u8]>>(&mut self, messages: &[M]) -> Outcome<()> {
        for message in messages {
            encode_message(&mut self.buffer, self.next_index, message.as_ref())?;
            self.next_index += 1;
            if self.buffer.len() >= self.settings.buffer_bytes {
                self.write_out()?;
                if self.written.byte >= self.settings.segment_bytes {
                    self.roll()?;
                }
            }
        }
        Ok(())
    }

    /// Returns when all that was pushed outlives a crash of the machine, and
    /// readers see it.
    pub fn flush(&mut self) -> Outcome<()> {
        self.write_out()?;
        self.settle()?;
        // Not synced: the segment is scanned from the last mark that is found, and
        // what a reader has seen is durable already.
        self.mark(Kind::Durable)
    }

    fn write_out(&mut self) -> Outcome<()> {
        if !self.buffer.is_empty() {
            self.file.write(self.written.byte, &self.buffer).map_err(|failure| failure.at(&self.name()))?;
            self.file.begin_sync(self.written.byte, self.buffer.len() as u64);
            self.written.byte += self.buffer.len() as u64;
            self.buffer.clear();
            // One huge message shall not stay in memory for ever.
            self.buffer.shrink_to(2 * self.settings.buffer_bytes);
        }
        self.written.index = self.next_index;
        Ok(())
    }

    /// Makes what was written durable, and fails if somebody else took the log.
    fn settle(&mut self) -> Outcome<()> {
        self.file.sync().map_err(|failure| failure.at(&self.name()))?;
        let header = read_header(&self.file, self.identity.sequence).map_err(|failure| failure.at(&self.name()))?;
        if header.taken == Mark::Absent && header.sealed == Mark::Absent {
            return Ok(());
        }
        Err(self.overtaken())
    }

    fn overtaken(&self) -> Failure {
        Failure::Stop(format!("{}: another writer has taken over this stream: let only one relay write to a folder", self.name()))
    }

    fn roll(&mut self) -> Outcome<()> {
        self.settle()?;
        self.mark(Kind::Sealed)?;
        self.file.sync().map_err(|failure| failure.at(&self.name()))?;
        let identity = Identity { sequence: self.identity.sequence + 1, first_index: self.next_index };
        self.file = begin_segment(&self.folder, identity)?.ok_or_else(|| self.overtaken())?;
        self.identity = identity;
        self.written = identity.start();
        self.retire()
    }

    fn mark(&self, kind: Kind) -> Outcome<()> {
        self.file.write(kind.byte(), &encode_mark(self.identity, kind, self.written)).map_err(|failure| failure.at(&self.name()))
    }

    /// Removes the oldest segments that exceed what is to be retained.
    fn retire(&self) -> Outcome<()> {
        let Some(retained_max) = self.settings.retention_bytes else { return Ok(()) };
        let mut sealed: Vec<u64> = self.folder.list()?.iter().filter_map(|name| sequence(name)).collect();
        sealed.retain(|sequence| *sequence < self.identity.sequence);
        sealed.sort_unstable_by(|a, b| b.cmp(a));
        let mut retained = 0;
        for sequence in sealed {
            let name = file_name(sequence);
            if retained < retained_max {
                retained += self.folder.open(&name, Access::Read)?.map_or(Ok(0), |file| file.size())?;
            }
            if retained > retained_max {
                self.folder.remove(&name)?;
            }
        }
        self.folder.sync()
    }

    /// A relay that starts again and again would leave a file each time.
    fn forget_empty_predecessor(&self) -> Outcome<()> {
        let Some(previous) = self.identity.sequence.checked_sub(1) else { return Ok(()) };
        let name = file_name(previous);
        let Some(file) = self.folder.open(&name, Access::Read)? else { return Ok(()) };
        let header = read_header(&file, previous).map_err(|failure| failure.at(&name))?;
        if header.sealed == Mark::At(header.identity.start()) {
            self.folder.remove(&name)?;
        }
        Ok(())
    }

    fn name(&self) -> String {
        file_name(self.identity.sequence)
    }
}

/// `None`: somebody else made the segment.
fn begin_segment<F: Folder>(folder: &F, identity: Identity) -> Outcome<Option<F::File>> {
    let name = file_name(identity.sequence);
    let mut header = encode_header(identity);
    let mark = encode_mark(identity, Kind::Durable, identity.start());
    let at = Kind::Durable.byte() as usize;
    header[at..at + mark.len()].copy_from_slice(&mark);
    let created = folder.create(&name, &header).map_err(|failure| failure.at(&name))?;
    folder.sync()?;
    Ok(created)
}

fn read_header<T: File>(file: &T, sequence: u64) -> Outcome<Header> {
    decode_header(sequence, &file.read(0, HEADER_BYTES as usize)?)
}

/// Ends the log's last segment where its last whole message ends.
fn seal<F: Folder>(folder: &F, last: u64) -> Outcome<(Place, Option<Cut>)> {
    let name = file_name(last);
    let file = folder.open(&name, Access::ReadWrite)?.ok_or_else(|| Failure::Retry("the segment was there a moment ago".to_owned()))?;
    let header = read_header(&file, last)?;
    match header.sealed {
        Mark::At(end) => return Ok((end, None)),
        Mark::Damaged if header.taken == Mark::Absent => {
            return Err(Failure::Stop(format!(
                "the mark at byte {} is damaged: restore the file, or begin a new stream",
                Kind::Sealed.byte()
            )));
        }
        // A writer that was about to seal it did not live to finish.
        Mark::Absent | Mark::Damaged => {}
    }
    file.write(Kind::Taken.byte(), &encode_mark(header.identity, Kind::Taken, header.identity.start()))?;
    let (end, size) = find_end(&file, &header)?;
    let cut = (end.byte < size).then(|| Cut { file: name, byte: end.byte, bytes: size - end.byte });
    if cut.is_some() {
        file.truncate(end.byte)?;
    }
    // What is sealed in is durable, though its own writer may not have come so far.
    file.sync()?;
    file.write(Kind::Sealed.byte(), &encode_mark(header.identity, Kind::Sealed, end))?;
    file.sync()?;
    Ok((end, cut))
}

/// The end of the last whole message, and the size of the file. Only what lies
/// behind the durable mark may be torn.
fn find_end<T: File>(file: &T, header: &Header) -> Outcome<(Place, u64)> {
    let size = file.size()?;
    let (mut place, trusted) = match header.durable {
        Mark::At(place) => (place, true),
        Mark::Absent | Mark::Damaged => (header.identity.start(), false),
    };
    if size < place.byte {
        return Err(Failure::Stop(format!(
            "the file has {size} bytes, although {} were flushed: restore the file, or begin a new stream",
            place.byte
        )));
    }
    let mut scan = Scan { file, buffer: Vec::new(), start: place.byte };
    while let Some(stored) = scan.message(place)? {
        place = Place { byte: place.byte + stored, index: place.index + 1 };
    }
    if place.byte < size && !trusted {
        return Err(Failure::Stop(format!(
            "the message at byte {} is damaged, and so is the mark that tells whether it was flushed: restore the file, or begin a new stream",
            place.byte
        )));
    }
    Ok((place, size))
}

/// Reads messages only to check them, however large they are, in bounded memory.
struct Scan<'a, T> {
    file: &'a T,
    buffer: Vec<u8>,
    /// The byte of the file where the buffer begins.
    start: u64,
}

impl<T: File> Scan<'_, T> {
    /// The stored size of the message at `place`; `None`: there is no whole one.
    fn message(&mut self, place: Place) -> Outcome<Option<u64>> {
        let Some(frame) = Frame::decode(self.bytes(place.byte, FRAME_BYTES)?) else { return Ok(None) };
        if frame.length as usize > MESSAGE_BYTES_MAX {
            return Ok(None);
        }
        let mut checksum = message_checksum(place.index, frame.length);
        let mut byte = place.byte + FRAME_BYTES as u64;
        let end = place.byte + frame.stored_bytes();
        while byte < end {
            let left = usize::try_from(end - byte).unwrap_or(usize::MAX);
            let found = self.bytes(byte, left.min(SCAN_BYTES))?;
            if found.is_empty() {
                return Ok(None);
            }
            let content = &found[..found.len().min(left)];
            checksum = checksum.with(content);
            byte += content.len() as u64;
        }
        Ok((checksum.value() == frame.checksum).then_some(frame.stored_bytes()))
    }

    /// What the file holds at `byte`: at least `least` bytes, unless it ends.
    fn bytes(&mut self, byte: u64, least: usize) -> Outcome<&[u8]> {
        let skipped = usize::try_from(byte - self.start).unwrap_or(usize::MAX).min(self.buffer.len());
        if self.buffer.len() - skipped < least {
            self.buffer.drain(..skipped);
            self.start += skipped as u64;
            let more = self.file.read(self.start + self.buffer.len() as u64, SCAN_BYTES)?;
            self.buffer.extend_from_slice(&more);
            return Ok(&self.buffer);
        }
        Ok(&self.buffer[skipped..])
    }
}
