//! The log as a whole, under crashes of its writer and of the machine.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::failure::{Failure, Outcome};
use crate::reader::Reader;
use crate::segment::{HEADER_BYTES, Position, file_name, sequence};
use crate::settings::Settings;
use crate::simulated::Disk;
use crate::storage::Folder;
use crate::writer::{Cut, Writer};

const SMALL: Settings = Settings { segment_bytes: 4000, retention_bytes: None, buffer_bytes: 700 };

fn open(disk: &Disk) -> (Writer<Disk>, Option<Cut>) {
    Writer::open(disk.clone(), SMALL).unwrap()
}

/// All that a reader gets, and where it is then.
fn read_on(disk: &Disk, after: Option<Position>) -> Outcome<(Vec<Vec<u8>>, Option<Position>)> {
    let mut reader = Reader::open(disk.clone());
    reader.seek(after)?;
    let (mut messages, mut position) = (Vec::new(), after);
    // Empty answers in a row, more than a reader needs to give a damaged mark up.
    let mut idle = 0;
    while idle < 30 {
        let entries = reader.next(7)?;
        idle = if entries.is_empty() { idle + 1 } else { 0 };
        let cut = pgshovel_plugin_shared::cut(&entries.messages.bytes, &entries.messages.lengths).unwrap();
        assert_eq!(cut.len(), entries.positions.len());
        messages.extend(cut.into_iter().map(<[u8]>::to_vec));
        position = entries.positions.last().copied().or(position);
    }
    Ok((messages, position))
}

fn read_all(disk: &Disk) -> Outcome<Vec<Vec<u8>>> {
    Ok(read_on(disk, None)?.0)
}

fn numbered(number: u32, size: usize) -> Vec<u8> {
    let mut message = number.to_le_bytes().to_vec();
    message.resize(4 + size, number as u8);
    message
}

#[derive(Clone, Debug)]
enum Event {
    Push(Vec<usize>),
    Flush,
    Restart,
    LosePower(Vec<bool>),
    Read,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => prop::collection::vec(0usize..900, 1..12).prop_map(Event::Push),
        4 => Just(Event::Flush),
        1 => Just(Event::Restart),
        2 => prop::collection::vec(any::<bool>(), 1..40).prop_map(Event::LosePower),
        3 => Just(Event::Read),
    ];
    prop::collection::vec(event, 1..40)
}

struct World {
    disk: Disk,
    writer: Writer<Disk>,
    /// A flush confirmed them, or a restart found them.
    kept: Vec<Vec<u8>>,
    /// Pushed since.
    open: Vec<Vec<u8>>,
    /// What a reader has seen so far, resuming from its last position each time.
    seen: Vec<Vec<u8>>,
    position: Option<Position>,
    pushed: u32,
}

impl World {
    fn new() -> Self {
        let disk = Disk::default();
        let writer = open(&disk).0;
        Self { disk, writer, kept: vec![], open: vec![], seen: vec![], position: None, pushed: 0 }
    }

    fn perform(&mut self, event: Event) -> Result<(), TestCaseError> {
        match event {
            Event::Push(sizes) => {
                let messages: Vec<Vec<u8>> = (self.pushed..).zip(sizes).map(|(number, size)| numbered(number, size)).collect();
                self.pushed += messages.len() as u32;
                self.writer.push(&messages).unwrap();
                self.open.extend(messages);
            }
            Event::Flush => {
                self.writer.flush().unwrap();
                self.kept.append(&mut self.open);
            }
            Event::Restart => self.restart()?,
            Event::LosePower(choices) => {
                let mut choices = choices.into_iter().cycle();
                self.disk.lose_power(|| choices.next().unwrap());
                self.read()?;
                self.restart()?;
            }
            Event::Read => self.read()?,
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), TestCaseError> {
        self.writer = open(&self.disk).0;
        let found = read_all(&self.disk).map_err(|failure| TestCaseError::fail(format!("{failure:?}")))?;
        let pushed: Vec<_> = self.kept.iter().chain(&self.open).cloned().collect();
        prop_assert!(pushed.starts_with(&found), "what is found was not pushed like this");
        prop_assert!(found.starts_with(&self.kept), "kept {} messages, found {}", self.kept.len(), found.len());
        prop_assert!(found.starts_with(&self.seen), "a reader saw what is gone");
        self.kept = found;
        self.open.clear();
        Ok(())
    }

    fn read(&mut self) -> Result<(), TestCaseError> {
        let (messages, position) = read_on(&self.disk, self.position).map_err(|failure| TestCaseError::fail(format!("{failure:?}")))?;
        self.seen.extend(messages);
        self.position = position;
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_crash_takes_back_what_was_flushed_or_read(events in events()) {
        let mut world = World::new();
        for event in events {
            world.perform(event)?;
        }
        world.perform(Event::Flush)?;
        world.perform(Event::Read)?;
        prop_assert_eq!(&world.seen, &world.kept);
    }

    #[test]
    fn a_flipped_bit_is_found_or_changes_nothing(sizes in prop::collection::vec(0usize..900, 1..40), reopened: bool, file: prop::sample::Index, bit: prop::sample::Index) {
        let disk = Disk::default();
        let (mut writer, _) = open(&disk);
        let messages: Vec<Vec<u8>> = (0..).zip(sizes).map(|(number, size)| numbered(number, size)).collect();
        writer.push(&messages).unwrap();
        writer.flush().unwrap();
        if reopened {
            open(&disk);
        }
        let names = disk.list().unwrap();
        let name = &names[file.index(names.len())];
        let mut content = disk.content(name);
        let bit = bit.index(content.len() * 8);
        content[bit / 8] ^= 1 << (bit % 8);
        disk.replace(name, content);
        match read_all(&disk) {
            Ok(read) => prop_assert_eq!(read, messages),
            Err(Failure::Stop(text)) => prop_assert!(text.contains(name.as_str()), "{} is not named: {}", name, text),
            Err(Failure::Retry(text) | Failure::Configure(text)) => prop_assert!(false, "{}", text),
        }
    }

    #[test]
    fn a_cut_tail_loses_only_what_was_not_flushed(flushed in 1usize..12, open_messages in 1usize..12, cut: prop::sample::Index) {
        let disk = Disk::default();
        let (mut writer, _) = Writer::open(disk.clone(), Settings { segment_bytes: u64::MAX, buffer_bytes: 1, ..SMALL }).unwrap();
        let messages: Vec<Vec<u8>> = (0..).take(flushed + open_messages).map(|number| numbered(number, 50)).collect();
        writer.push(&messages[..flushed]).unwrap();
        writer.flush().unwrap();
        let durable = disk.content(&file_name(0)).len();
        writer.push(&messages[flushed..]).unwrap();
        let mut content = disk.content(&file_name(0));
        let size = cut.index(content.len() - HEADER_BYTES as usize) + HEADER_BYTES as usize;
        content.truncate(size);
        disk.replace(&file_name(0), content);

        match Writer::open(disk.clone(), SMALL) {
            Ok((_, cut)) => {
                prop_assert!(size >= durable);
                let found = read_all(&disk).unwrap();
                let whole = flushed + (size - durable) / (8 + 54);
                prop_assert_eq!(&found, &messages[..whole]);
                let torn = (size - durable) % (8 + 54);
                prop_assert_eq!(cut.map_or(0, |cut| cut.bytes), torn as u64);
            }
            Err(failure) => {
                prop_assert!(size < durable);
                prop_assert!(matches!(failure, Failure::Stop(text) if text.contains(&file_name(0)) && text.contains("were flushed")));
            }
        }
    }
}

#[test]
fn readers_see_nothing_before_it_is_flushed() {
    let disk = Disk::default();
    let (mut writer, _) = open(&disk);
    writer.push(&[numbered(0, 800)]).unwrap();
    assert!(disk.content(&file_name(0)).len() > 800, "written, but not flushed");
    assert_eq!(read_all(&disk).unwrap(), Vec::<Vec<u8>>::new());
    writer.flush().unwrap();
    assert_eq!(read_all(&disk).unwrap().len(), 1);
}

#[test]
fn a_reader_may_come_before_the_writer() {
    let disk = Disk::default();
    let mut reader = Reader::open(disk.clone());
    assert!(reader.next(1).unwrap().is_empty());
    let (mut writer, _) = open(&disk);
    writer.push(&[b"first"]).unwrap();
    writer.flush().unwrap();
    assert_eq!(reader.next(1).unwrap().messages.bytes, b"first");
}

#[test]
fn the_older_of_two_writers_stops() {
    let disk = Disk::default();
    let (mut older, _) = open(&disk);
    older.push(&[b"counted"]).unwrap();
    older.flush().unwrap();
    older.push(&[b"never durable"]).unwrap();
    let (mut newer, _) = open(&disk);
    assert!(matches!(older.flush(), Err(Failure::Stop(text)) if text.contains("another writer")));
    newer.push(&[b"next"]).unwrap();
    newer.flush().unwrap();
    assert_eq!(read_all(&disk).unwrap(), [b"counted".to_vec(), b"next".to_vec()]);
}

#[test]
fn a_position_that_is_not_there_stops() {
    let disk = Disk::default();
    let (mut writer, _) = open(&disk);
    writer.push(&[b"message"]).unwrap();
    writer.flush().unwrap();
    let mut reader = Reader::open(disk.clone());
    let mut position = reader.next(1).unwrap().positions[0];
    assert_eq!(reader.seek(Some(position)), Ok(()));
    position.place.byte += 1;
    assert!(matches!(reader.seek(Some(position)), Err(Failure::Stop(text)) if text.contains("made again")));
    position.sequence += 1;
    assert!(matches!(reader.seek(Some(position)), Err(Failure::Stop(text)) if text.contains("no longer there")));
}

#[test]
fn what_exceeds_the_retention_is_removed_and_missed() {
    let disk = Disk::default();
    let settings = Settings { segment_bytes: 1000, retention_bytes: Some(3000), buffer_bytes: 1 };
    let (mut writer, _) = Writer::open(disk.clone(), settings).unwrap();
    let mut reader = Reader::open(disk.clone());
    writer.push(&[numbered(0, 10)]).unwrap();
    writer.flush().unwrap();
    let position = reader.next(1).unwrap().positions[0];
    for number in 1..40 {
        writer.push(&[numbered(number, 400)]).unwrap();
    }
    writer.flush().unwrap();
    let sizes: Vec<usize> = disk.list().unwrap().iter().map(|name| disk.content(name).len()).collect();
    assert!(sizes.iter().rev().skip(1).sum::<usize>() <= 3000 + 1500, "{sizes:?}");
    assert!(matches!(reader.seek(Some(position)), Err(Failure::Stop(text)) if text.contains("lost")));
    assert!(!read_all(&disk).unwrap().is_empty());
}

#[test]
fn restarts_leave_no_empty_segments() {
    let disk = Disk::default();
    for _ in 0..5 {
        open(&disk);
    }
    let sequences: Vec<_> = disk.list().unwrap().iter().map(|name| sequence(name)).collect();
    assert_eq!(sequences, [Some(4)]);
}
