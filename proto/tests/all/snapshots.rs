//! What a snapshot sees, against the definition.

use std::collections::BTreeSet;

use expect_test::expect;
use proptest::prelude::*;
use proto::interfaces::common::Snapshot;
use proto::snapshot::{contains, parse, print, visible};

fn snapshot() -> impl Strategy<Value = Snapshot> {
    (0..20_u64, 0..12_u64, prop::collection::btree_set(0..12_u64, 0..6)).prop_map(|(min, length, active)| Snapshot {
        min,
        max: min + length,
        active: active.into_iter().filter(|offset| *offset < length).map(|offset| min + offset).collect(),
    })
}

fn seen(snapshot: &Snapshot) -> BTreeSet<u64> {
    (0..snapshot.max).filter(|transaction| *transaction < snapshot.min || !snapshot.active.contains(transaction)).collect()
}

proptest! {
    #[test]
    fn visible_is_what_was_finished(snapshot in snapshot(), transaction in 0..40_u64) {
        prop_assert_eq!(visible(&snapshot, transaction), seen(&snapshot).contains(&transaction));
    }

    #[test]
    fn contained_is_what_is_seen_by_both(later in snapshot(), earlier in snapshot()) {
        prop_assert_eq!(contains(&later, &earlier), seen(&later).is_superset(&seen(&earlier)));
    }

    #[test]
    fn text_is_read_as_it_is_printed(snapshot in snapshot()) {
        prop_assert_eq!(parse(&print(&snapshot)), Ok(snapshot));
    }

    #[test]
    fn no_text_makes_it_panic(text in "[0-9:,]{0,12}|\\PC*") {
        let _ = parse(&text);
    }
}

#[test]
fn text_of_postgresql() {
    let read = |text: &str| parse(text).map_or_else(|error| error.to_string(), |snapshot| format!("{snapshot:?}"));
    let all =
        ["10:20:10,14,15", "10:10:", "10:20", "10:20:3:4", "20:10:", "10:20:15,14", "10:20:9", "10:20:20", "10:20:,", "a:b:", "-1:2:", ""];
    expect![[r#"
        Snapshot { min: 10, max: 20, active: [10, 14, 15] }
        Snapshot { min: 10, max: 10, active: [] }
        `10:20` is no snapshot: not three parts; expected `xmin:xmax:xip,xip,…` as txid_current_snapshot() prints it
        `10:20:3:4` is no snapshot: not three parts; expected `xmin:xmax:xip,xip,…` as txid_current_snapshot() prints it
        `20:10:` is no snapshot: xmin is after xmax; expected `xmin:xmax:xip,xip,…` as txid_current_snapshot() prints it
        `10:20:15,14` is no snapshot: the transactions in progress are not ascending; expected `xmin:xmax:xip,xip,…` as txid_current_snapshot() prints it
        `10:20:9` is no snapshot: a transaction in progress is before xmin; expected `xmin:xmax:xip,xip,…` as txid_current_snapshot() prints it
        `10:20:20` is no snapshot: a transaction in progress is not before xmax; expected `xmin:xmax:xip,xip,…` as txid_current_snapshot() prints it
        `10:20:,` is no snapshot: not a transaction id; expected `xmin:xmax:xip,xip,…` as txid_current_snapshot() prints it
        `a:b:` is no snapshot: not a transaction id; expected `xmin:xmax:xip,xip,…` as txid_current_snapshot() prints it
        `-1:2:` is no snapshot: not a transaction id; expected `xmin:xmax:xip,xip,…` as txid_current_snapshot() prints it
        `` is no snapshot: not three parts; expected `xmin:xmax:xip,xip,…` as txid_current_snapshot() prints it"#]].assert_eq(&all.map(read).join("\n"));
}
