//! Epochs that go back, and zombies, which look alike for one batch.

use expect_test::expect;
use proto::batch::step::{Options, Reader};

use super::transitions::{Sender, bootstrapped, trace};

fn reader() -> Reader {
    Reader::new(Options::default())
}

/// What a worker finds behind a stream whose relay was of epoch 82, when ZooKeeper was made anew.
#[test]
fn publishers_of_a_lower_epoch_that_go_on_are_no_zombies() {
    let (mut old, mut new) = (Sender::new('A', 82), Sender::new('B', 14));
    let mut before = reader();
    trace(
        &mut before,
        &[old.begin(1, 2), old.commit()],
        expect![[r#"
            A0 begin 1-2   begin 1-2
            A1 commit      commit
        "#]],
    );
    let messages = [new.begin(2, 3), new.insert(11), new.commit(), new.begin(3, 4), new.commit()];
    trace(
        &mut before.clone(),
        &messages,
        expect![[r#"
            B0 begin 2-3   skip (Fenced)
            B1 insert 11   skip (Fenced)
            B2 commit      skip (Fenced)
            B3 begin 3-4   violation: relays of epoch 14 committed the batch from tick 2 to tick 3 and went on, and those of the higher epoch 82 did not: the stream's epochs went back, as where a set was created again over an old stream, or another program wrote to it; let the epoch fall once (--allow-epoch 14), or bootstrap again
        "#]],
    );
    // Once it may, nothing is missing. Later publishers are of higher epochs again.
    let state = before.state(b"here").unwrap();
    let mut allowed = Reader::resume(state, Options { epoch_change: Some(14), ..Options::default() }).unwrap();
    trace(
        &mut allowed,
        &messages,
        expect![[r#"
            B0 begin 2-3   begin 2-3
            B1 insert 11   apply 11
            B2 commit      commit
            B3 begin 3-4   begin 3-4
            B4 commit      commit
        "#]],
    );
    let (mut next, mut again) = (Sender::new('C', 15), Sender::new('D', 14));
    trace(
        &mut allowed,
        &[next.begin(4, 5), again.begin(4, 5), next.commit()],
        expect![[r#"
            C0 begin 4-5   begin 4-5
            D0 begin 4-5   skip (Fenced)
            C1 commit      commit
        "#]],
    );
}

#[test]
fn it_does_not_matter_which_of_them_goes_on() {
    let (mut old, mut one, mut two) = (Sender::new('A', 82), Sender::new('B', 14), Sender::new('C', 15));
    trace(
        &mut reader(),
        &[
            old.begin(1, 2),
            old.commit(),
            old.begin(2, 3),
            one.begin(2, 3),
            one.commit(),
            // It died before it ended the batch in the queue.
            two.begin(2, 3),
            two.commit(),
            two.begin(3, 4),
        ],
        expect![[r#"
            A0 begin 1-2   begin 1-2
            A1 commit      commit
            A2 begin 2-3   begin 2-3
            B0 begin 2-3   skip (Fenced)
            B1 commit      skip (Fenced)
            C0 begin 2-3   skip (Fenced)
            C1 commit      skip (Fenced)
            C2 begin 3-4   violation: relays of epoch 14 committed the batch from tick 2 to tick 3 and went on, and those of the higher epoch 82 did not: the stream's epochs went back, as where a set was created again over an old stream, or another program wrote to it; let the epoch fall once (--allow-epoch 14), or bootstrap again
        "#]],
    );
}

/// Where one batch was passed over, and the epochs are higher again, it is not called a gap.
#[test]
fn a_batch_of_a_lower_epoch_that_is_missing_is_named() {
    let (mut old, mut low, mut high) = (Sender::new('A', 82), Sender::new('B', 14), Sender::new('C', 90));
    let messages = [low.begin(2, 3), low.commit(), high.begin(3, 4), high.commit()];
    let mut reader = reader();
    trace(
        &mut reader,
        &[old.begin(1, 2), old.commit()],
        expect![[r#"
            A0 begin 1-2   begin 1-2
            A1 commit      commit
        "#]],
    );
    trace(
        &mut reader.clone(),
        &messages,
        expect![[r#"
            B0 begin 2-3   skip (Fenced)
            B1 commit      skip (Fenced)
            C0 begin 3-4   violation: relays of epoch 14 committed the batch from tick 2 to tick 3 and went on, and those of the higher epoch 82 did not: the stream's epochs went back, as where a set was created again over an old stream, or another program wrote to it; let the epoch fall once (--allow-epoch 14), or bootstrap again
        "#]],
    );
    let state = reader.state(b"here").unwrap();
    trace(
        &mut Reader::resume(state, Options { epoch_change: Some(14), ..Options::default() }).unwrap(),
        &messages,
        expect![[r#"
            B0 begin 2-3   begin 2-3
            B1 commit      commit
            C0 begin 3-4   begin 3-4
            C1 commit      commit
        "#]],
    );
}

/// A relay that was paused sends the batch that it has in hand, before or after its successor does.
#[test]
fn a_zombie_is_passed_over() {
    let (mut zombie, mut next) = (Sender::new('A', 1), Sender::new('B', 2));
    trace(
        &mut reader(),
        &[
            zombie.begin(1, 2),
            zombie.commit(),
            next.begin(2, 3),
            zombie.begin(2, 3),
            zombie.insert(11),
            zombie.commit(),
            next.commit(),
            next.begin(3, 4),
            next.commit(),
        ],
        expect![[r#"
            A0 begin 1-2   begin 1-2
            A1 commit      commit
            B0 begin 2-3   begin 2-3
            A2 begin 2-3   skip (Fenced)
            A3 insert 11   skip (Fenced)
            A4 commit      skip (Fenced)
            B1 commit      commit
            B2 begin 3-4   begin 3-4
            B3 commit      commit
        "#]],
    );
    // One after the other was paused with the same batch; a client repeats what it sent before.
    let (mut one, mut two, mut three) = (Sender::new('A', 1), Sender::new('B', 2), Sender::new('C', 3));
    let repeated = [one.begin(1, 2), one.commit()];
    trace(
        &mut reader(),
        &[
            &repeated[..],
            &[three.begin(2, 3), one.begin(2, 3), one.commit(), two.begin(2, 3), two.commit(), three.commit()],
            &repeated[..],
            &[three.begin(3, 4), two.begin(3, 4), three.commit()],
        ]
        .concat(),
        expect![[r#"
            A0 begin 1-2   begin 1-2
            A1 commit      commit
            C0 begin 2-3   begin 2-3
            A2 begin 2-3   skip (Fenced)
            A3 commit      skip (Fenced)
            B0 begin 2-3   skip (Fenced)
            B1 commit      skip (Fenced)
            C1 commit      commit
            A0 begin 1-2   skip (Fenced)
            A1 commit      skip (Fenced)
            C2 begin 3-4   begin 3-4
            B2 begin 3-4   skip (Fenced)
            C3 commit      commit
        "#]],
    );
}

/// Whatever epochs the stream had before the rows were loaded.
#[test]
fn after_a_bootstrap_the_epochs_may_be_lower() {
    let (mut old, mut new) = (Sender::new('A', 82), Sender::new('B', 14));
    let messages =
        [old.begin(0, 1), old.insert(3), old.commit(), new.begin(1, 2), new.commit(), new.begin(3, 4), new.insert(33), new.commit()];
    trace(
        &mut bootstrapped("31:36:31"),
        &messages,
        expect![[r#"
            A0 begin 0-1   skip (Loaded)
            A1 insert 3    skip (Loaded)
            A2 commit      skip (Loaded)
            B0 begin 1-2   skip (Loaded)
            B1 commit      skip (Loaded)
            B2 begin 3-4   begin 3-4
            B3 insert 33   skip (Loaded)
            B4 commit      commit
        "#]],
    );
}

/// A stream whose oldest messages are gone: the first that are left are of a higher epoch.
#[test]
fn a_stream_that_is_joined_behind_a_higher_epoch_is_not_passed_over_for_ever() {
    let (mut old, mut new) = (Sender::new('A', 82).at(9), Sender::new('B', 14));
    let messages = [old.commit(), new.begin(2, 3), new.commit(), new.begin(3, 4)];
    trace(
        &mut reader(),
        &messages,
        expect![[r#"
            A9 commit      skip (Priming)
            B0 begin 2-3   skip (Fenced)
            B1 commit      skip (Fenced)
            B2 begin 3-4   violation: relays of epoch 14 committed the batch from tick 2 to tick 3 and went on, and those of the higher epoch 82 did not: the stream's epochs went back, as where a set was created again over an old stream, or another program wrote to it; let the epoch fall once (--allow-epoch 14), or bootstrap again
        "#]],
    );
    trace(
        &mut Reader::new(Options { epoch_change: Some(14), ..Options::default() }),
        &messages,
        expect![[r#"
            A9 commit      skip (Priming)
            B0 begin 2-3   begin 2-3
            B1 commit      commit
            B2 begin 3-4   begin 3-4
        "#]],
    );
}
