//! `file.wasm` in a real folder.

use std::path::PathBuf;

use pgshovel::error::Next;
use pgshovel::ports::{Stream as _, Writer as _};
use tests::harness::World;

use super::{Setup, contents, is_followed_while_it_grows, keeps_order_and_positions, numbered, send};

const READ_WRITE: &str = "{ path: file.wasm, grants: { files: { path: ./log, mode: read-write } } }";
const READ_ONLY: &str = "{ path: file.wasm, grants: { files: { path: ./log, mode: read-only } } }";
const SEGMENT_HEADER_BYTES: usize = 512;

/// The log's newest segment.
fn segment(world: &World) -> PathBuf {
    let folder = world.folder().join("log").join(world.cluster()).join("s");
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).max().unwrap()
}

#[tokio::test]
async fn messages_come_back_in_order() {
    let world = World::without_servers();
    keeps_order_and_positions(&Setup::new(&world, READ_WRITE)).await;
}

#[tokio::test]
async fn a_reader_follows_the_writer() {
    let world = World::without_servers();
    is_followed_while_it_grows(&Setup::new(&world, READ_WRITE)).await;
}

#[tokio::test]
async fn segments_are_followed_by_others() {
    let world = World::without_servers();
    let section = "{ path: file.wasm, configuration: { segment_bytes: 1048576 }, grants: { files: { path: ./log, mode: read-write } } }";
    let setup = Setup::new(&world, section);
    let messages: Vec<Vec<u8>> = (0..40u8).map(|number| vec![number; 200_000]).collect();
    setup.send(&messages).await;
    assert_eq!(contents(&setup.receive(None, 40).await.unwrap()), messages);
    let folder = segment(&world).parent().unwrap().read_dir().unwrap();
    assert!(folder.count() >= 4, "8 MB fit into fewer than four segments of 1 MiB");
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_the_rest_kept() {
    let world = World::without_servers();
    let setup = Setup::new(&world, READ_WRITE);
    let messages = numbered(0..20);
    setup.send(&messages[..10]).await;
    let mut torn = std::fs::read(segment(&world)).unwrap();
    // What a writer leaves that dies while it writes.
    torn.extend_from_slice(&[9, 0, 0, 0, 1, 2, 3, 4, b'h', b'a', b'l', b'f']);
    std::fs::write(segment(&world), torn).unwrap();
    setup.send(&messages[10..]).await;
    assert_eq!(contents(&setup.receive(None, 20).await.unwrap()), messages);
}

#[tokio::test]
async fn damage_is_named_by_file_and_byte() {
    let world = World::without_servers();
    let setup = Setup::new(&world, READ_WRITE);
    setup.send(&numbered(0..10)).await;
    let damaged = segment(&world);
    let mut content = std::fs::read(&damaged).unwrap();
    content[SEGMENT_HEADER_BYTES + 10] ^= 1;
    std::fs::write(&damaged, content).unwrap();
    let refused = setup.receive(None, 10).await.unwrap_err();
    assert_eq!(refused.next, Next::Stop);
    let file = damaged.file_name().unwrap().to_str().unwrap();
    assert!(refused.message.contains(file) && refused.message.contains("at byte 512 is damaged"), "{refused}");
}

#[tokio::test]
async fn a_segment_that_is_missing_in_the_middle_is_named() {
    let world = World::without_servers();
    let setup = Setup::new(&world, READ_WRITE);
    for numbers in [0..5, 5..10, 10..15] {
        // Each writer begins a segment of its own.
        setup.send(&numbered(numbers)).await;
    }
    let position = setup.receive(None, 15).await.unwrap()[6].position.clone();
    let middle = segment(&world).with_file_name(format!("{:020}.segment", 1));
    std::fs::remove_file(&middle).unwrap();
    for (after, named) in [(None, "begins with message 10, due is 5"), (Some(position), "begins with message 10, due is 7")] {
        let refused = setup.receive(after.as_deref(), 15).await.unwrap_err();
        assert_eq!(refused.next, Next::Stop);
        assert!(refused.message.contains(named) && refused.message.contains("messages were lost"), "{refused}");
    }
}

#[tokio::test]
async fn files_of_others_are_left_alone_unless_they_are_in_the_way() {
    let world = World::without_servers();
    let setup = Setup::new(&world, READ_WRITE);
    setup.send(&numbered(0..5)).await;
    let folder = segment(&world).parent().unwrap().to_owned();
    for name in ["README", "1.segment", "00000000000000000009.segment.bak", ".hidden"] {
        std::fs::write(folder.join(name), "not a segment").unwrap();
    }
    std::fs::create_dir(folder.join("folder")).unwrap();
    setup.send(&numbered(5..10)).await;
    assert_eq!(contents(&setup.receive(None, 10).await.unwrap()), numbered(0..10));
    assert_eq!(std::fs::read(folder.join("README")).unwrap(), b"not a segment");
    // One that has the name of a segment is not written over.
    let foreign = format!("{:020}.segment", 99);
    std::fs::write(folder.join(&foreign), "not a segment").unwrap();
    let refused = setup.writer().await.unwrap_err();
    assert_eq!(refused.next, Next::Stop);
    assert!(refused.message.contains(&foreign) && refused.message.contains("it is cut off"), "{refused}");
}

#[tokio::test]
async fn the_older_of_two_writers_stops() {
    let world = World::without_servers();
    let setup = Setup::new(&world, READ_WRITE);
    let (first, second) = (numbered(0..5), numbered(5..10));
    let mut older = setup.writer().await.unwrap();
    send(&mut older, &first).await.unwrap();
    let mut newer = setup.writer().await.unwrap();
    let refused = send(&mut older, &numbered(90..95)).await.unwrap_err();
    assert_eq!(refused.next, Next::Stop);
    assert!(refused.message.contains("another writer has taken over"), "{refused}");
    send(&mut newer, &second).await.unwrap();
    assert_eq!(contents(&setup.receive(None, 10).await.unwrap()), [first, second].concat());
}

#[tokio::test]
async fn reading_needs_no_right_to_write() {
    let world = World::without_servers();
    let messages = numbered(0..5);
    Setup::new(&world, READ_WRITE).send(&messages).await;
    let reader = Setup::new(&world, READ_ONLY);
    assert_eq!(contents(&reader.receive(None, 5).await.unwrap()), messages);
    let refused = reader.writer().await.unwrap_err();
    assert!(matches!(refused.next, Next::Stop | Next::Configure), "{refused}");
    assert!(refused.message.contains("mode: read-write"), "{refused}");
}

#[tokio::test]
async fn a_position_of_a_log_that_is_gone_stops() {
    let world = World::without_servers();
    let setup = Setup::new(&world, READ_WRITE);
    setup.send(&numbered(0..5)).await;
    let position = setup.receive(None, 5).await.unwrap()[4].position.clone();
    std::fs::remove_dir_all(world.folder().join("log").join(world.cluster())).unwrap();
    let refused = setup.receive(Some(&position), 1).await.unwrap_err();
    assert_eq!(refused.next, Next::Stop);
    assert!(refused.message.contains("messages were lost"), "{refused}");
    let mut stream = setup.stream().await.unwrap();
    let foreign = stream.seek(Some(b"offset")).await.unwrap_err();
    assert!(foreign.message.contains("a position of 6 bytes"), "{foreign}");
}

#[tokio::test]
async fn a_wrong_configuration_is_named() {
    let world = World::without_servers();
    let section = "{ path: file.wasm, configuration: { segment: 1 }, grants: { files: { path: ./log, mode: read-write } } }";
    let refused = Setup::new(&world, section).writer().await.unwrap_err();
    assert!(refused.message.contains("unknown field `segment`"), "{refused}");
}

#[tokio::test]
async fn a_message_may_be_larger_than_the_buffer() {
    let world = World::without_servers();
    let setup = Setup::new(&world, READ_WRITE);
    let messages = vec![vec![], vec![1; 20 << 20], vec![2; 3]];
    let mut writer = setup.writer().await.unwrap();
    writer.push(&crate::batch(1), messages.iter().collect()).await.unwrap();
    writer.flush().await.unwrap();
    assert_eq!(contents(&setup.receive(None, 3).await.unwrap()), messages);
}

#[tokio::test]
#[ignore = "prints figures and proves nothing"]
async fn throughput() {
    let world = World::without_servers();
    super::throughput(&Setup::new(&world, READ_WRITE)).await;
}
