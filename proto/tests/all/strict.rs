//! The checker says that an event cannot have happened exactly when it cannot.
//!
//! The judge is a model of another kind: the set of all contents that a table may have,
//! each of which an event changes or rules out. An event cannot have happened if
//! nothing is left.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proto::batch::step::{Action, Skip};
use proto::row::{Change, Column, Mutation, Relation, Row, Value, oid};
use proto::strict::{Checker, Impossible, KEYS_MAX, Problem, Verb};

use crate::samples::{NODE, batch};

const KEYS: usize = 3;
const VALUES: u8 = 2;

/// The values of a table's rows, by key.
type Content = [Option<u8>; KEYS];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Insert(usize, u8),
    Update {
        from: usize,
        old: u8,
        to: usize,
        new: u8,
    },
    Delete(usize, u8),
    Truncate,
    /// A change of the columns, or of the set's version, comes with the next event.
    Columns,
    Version,
}

/// All that a table may hold.
#[derive(Clone, Debug)]
struct Worlds(BTreeSet<Content>);

impl Worlds {
    fn any() -> Self {
        let values: Vec<Option<u8>> = std::iter::once(None).chain((0..VALUES).map(Some)).collect();
        let mut worlds = BTreeSet::from([[None; KEYS]]);
        for key in 0..KEYS {
            worlds = worlds.iter().flat_map(|world| values.iter().map(|value| with(*world, key, *value))).collect();
        }
        Self(worlds)
    }

    /// Whether the event can have happened; nothing changes if not.
    fn step(&mut self, event: Event) -> bool {
        let next: BTreeSet<Content> = match event {
            Event::Columns => self.0.iter().flat_map(any_values).collect(),
            Event::Version => Self::any().0,
            _ => self.0.iter().filter_map(|world| apply(*world, event)).collect(),
        };
        let possible = !next.is_empty();
        if possible {
            self.0 = next;
        }
        possible
    }
}

fn with(mut world: Content, key: usize, value: Option<u8>) -> Content {
    world[key] = value;
    world
}

fn any_values(world: &Content) -> BTreeSet<Content> {
    let present = |other: &Content| world.iter().zip(other).all(|(a, b)| a.is_some() == b.is_some());
    Worlds::any().0.into_iter().filter(present).collect()
}

fn apply(world: Content, event: Event) -> Option<Content> {
    match event {
        Event::Insert(key, value) => world[key].is_none().then(|| with(world, key, Some(value))),
        Event::Delete(key, value) => (world[key] == Some(value)).then(|| with(world, key, None)),
        Event::Update { from, old, to, new } => {
            let left = apply(world, Event::Delete(from, old))?;
            apply(left, Event::Insert(to, new))
        }
        Event::Truncate => Some([None; KEYS]),
        Event::Columns | Event::Version => unreachable!("they come with another event"),
    }
}

/// A table as its rows were captured: `columns` and `version` count its changes. In a
/// partition the columns come in another order.
fn relation(table: usize, columns: usize, version: usize, partition: bool) -> Arc<Relation> {
    let column = |name: &str, type_name: &str, type_oid| Column { name: name.into(), type_name: type_name.into(), type_oid };
    let mut columns = vec![
        column("value", &format!("numeric({})", columns + 1), 1700),
        column("a", "text", oid::TEXT),
        column("label", "color", 16_400),
        column("b", "bigint", oid::INT8),
    ];
    if partition {
        columns.reverse();
    }
    Arc::new(Relation {
        schema: "public".into(),
        table: format!("t{table}"),
        columns,
        identity: if partition { vec![2, 0] } else { vec![1, 3] },
        version: format!("v{version}"),
    })
}

/// Keys differ in one of their columns alone; NULL and an empty text are two values.
fn row(key: usize, value: u8, label: u64) -> Row {
    let value = if value == 0 { Value::Null } else { Value::Text(String::new()) };
    vec![value, Value::Text(format!("k{}", key % 2)), Value::Text(format!("label {label}")), Value::Integer(key as i64 / 2)]
}

fn reverse(mut row: Row) -> Row {
    row.reverse();
    row
}

/// Events as the actions of a worker, each batch with its end.
struct Stream {
    id: u64,
    changes: Vec<(usize, usize)>,
}

impl Stream {
    fn new() -> Self {
        Self { id: 0, changes: vec![(0, 0); 2] }
    }

    /// `None`: it comes with the next event.
    fn mutation(&mut self, table: usize, event: Event) -> Option<Action> {
        self.id += 1;
        let id = self.id;
        let change = match event {
            Event::Insert(key, value) => Change::Insert(row(key, value, id)),
            Event::Update { from, old, to, new } => Change::Update { before: row(from, old, id), after: row(to, new, id + 1) },
            Event::Delete(key, value) => Change::Delete(row(key, value, id)),
            Event::Truncate => Change::Truncate,
            Event::Columns => {
                self.changes[table].0 += 1;
                return None;
            }
            Event::Version => {
                self.changes[table].1 += 1;
                return None;
            }
        };
        let partition = id.is_multiple_of(3);
        let change = match change {
            Change::Insert(row) if partition => Change::Insert(reverse(row)),
            Change::Update { before, after } if partition => Change::Update { before: reverse(before), after: reverse(after) },
            Change::Delete(row) if partition => Change::Delete(reverse(row)),
            change => change,
        };
        let relation = relation(table, self.changes[table].0, self.changes[table].1, partition);
        Some(Action::Apply(Mutation { id, relation, change, transaction: 1, timestamp_us: 0, version: 0 }))
    }
}

fn begin(discard: bool) -> Action {
    Action::Begin { batch: batch(1, 2), discard }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..KEYS, 0..VALUES).prop_map(|(key, value)| Event::Insert(key, value)),
        4 => (0..KEYS, 0..VALUES, 0..KEYS, 0..VALUES).prop_map(|(from, old, to, new)| Event::Update { from, old, to, new }),
        4 => (0..KEYS, 0..VALUES).prop_map(|(key, value)| Event::Delete(key, value)),
        1 => Just(Event::Truncate),
        1 => Just(Event::Columns),
        1 => Just(Event::Version),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Commit,
    Rollback,
    /// The next batch begins while this one is open.
    Discard,
}

type Batches = Vec<(Vec<(usize, Event)>, Ending)>;

fn batches() -> impl Strategy<Value = Batches> {
    let ending = prop_oneof![3 => Just(Ending::Commit), 1 => Just(Ending::Rollback), 1 => Just(Ending::Discard)];
    let events = prop::collection::vec((0..2_usize, event()), 0..12);
    prop::collection::vec((events, ending), 1..6)
}

/// Hands the batches to a checker, and asks it and the model about every event: what both said.
fn verdicts(batches: &Batches, keys_max: usize) -> Vec<(bool, bool)> {
    let (mut checker, mut worlds, mut stream) = (Checker::new(keys_max), [Worlds::any(), Worlds::any()], Stream::new());
    let (mut verdicts, mut discard) = (Vec::new(), false);
    for (events, ending) in batches {
        checker.step(&begin(discard)).unwrap();
        discard = false;
        let (before, shapes) = (worlds.clone(), stream.changes.clone());
        for (table, event) in events {
            match stream.mutation(*table, *event) {
                None => assert!(worlds[*table].step(*event)),
                Some(action) => verdicts.push((checker.step(&action).is_ok(), worlds[*table].step(*event))),
            }
        }
        match ending {
            Ending::Commit => {
                checker.step(&Action::Commit).unwrap();
                continue;
            }
            Ending::Rollback => checker.step(&Action::Rollback).unwrap(),
            Ending::Discard => discard = true,
        }
        (worlds, stream.changes) = (before, shapes);
    }
    verdicts
}

/// Random events that can all have happened.
fn history() -> impl Strategy<Value = Vec<(usize, Event)>> {
    (any::<bool>(), prop::collection::vec((0..2_usize, event()), 0..60)).prop_map(|(from_empty, events)| {
        let content = |index: usize| if from_empty { [None; KEYS] } else { [Some(0), None, Some(index as u8)] };
        let mut worlds = [0, 1].map(|index| Worlds([content(index)].into()));
        let possible = |(table, event): &(usize, Event)| match event {
            Event::Columns | Event::Version => true,
            _ => worlds[*table].step(*event),
        };
        events.into_iter().filter(possible).collect()
    })
}

/// What goes wrong with a history.
#[derive(Clone, Debug)]
enum Damage {
    Drop(prop::sample::Index),
    Repeat(prop::sample::Index),
    Swap(prop::sample::Index),
    Move(prop::sample::Index, prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<prop::sample::Index>().prop_map(Damage::Drop),
        any::<prop::sample::Index>().prop_map(Damage::Repeat),
        any::<prop::sample::Index>().prop_map(Damage::Swap),
        any::<(prop::sample::Index, prop::sample::Index)>().prop_map(|(from, to)| Damage::Move(from, to)),
    ]
}

fn damaged(mut history: Vec<(usize, Event)>, damage: &Damage) -> Vec<(usize, Event)> {
    let last = history.len() - 1;
    match damage {
        Damage::Drop(at) => drop(history.remove(at.index(history.len()))),
        Damage::Repeat(at) => {
            let at = at.index(history.len());
            history.insert(at, history[at]);
        }
        Damage::Swap(at) if last > 0 => {
            let at = at.index(last);
            history.swap(at, at + 1);
        }
        Damage::Swap(_) => {}
        Damage::Move(from, to) => {
            let event = history.remove(from.index(history.len()));
            history.insert(to.index(history.len() + 1), event);
        }
    }
    history
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Of any events in any batches, however these end.
    #[test]
    fn what_cannot_have_happened_is_found_and_nothing_else(batches in batches()) {
        for (found, expected) in verdicts(&batches, KEYS_MAX) {
            prop_assert_eq!(found, expected);
        }
    }

    /// With less memory, less is found.
    #[test]
    fn what_is_forgotten_is_no_reason_to_object(batches in batches(), keys_max in 0..6_usize) {
        // After an objection that was not made, model and checker no longer speak of the same.
        for (found, expected) in verdicts(&batches, keys_max) {
            prop_assert!(found || !expected);
            if found != expected {
                break;
            }
        }
    }

    #[test]
    fn a_history_is_accepted(history in history(), keys_max in prop_oneof![Just(KEYS_MAX), 0..6_usize]) {
        let batches = history.chunks(5).map(|events| (events.to_vec(), Ending::Commit)).collect();
        prop_assert!(verdicts(&batches, keys_max).iter().all(|(found, _)| *found));
    }

    /// The model says whether the damage can be seen.
    #[test]
    fn an_event_that_is_lost_doubled_or_misplaced_is_found(history in history(), damage in damage()) {
        prop_assume!(!history.is_empty());
        let damaged = damaged(history, &damage);
        for (found, expected) in verdicts(&vec![(damaged, Ending::Commit)], KEYS_MAX) {
            prop_assert_eq!(found, expected);
        }
    }
}

/// The events of one batch of one table, and the checker's first objection.
fn objection(events: &[Event]) -> Option<Impossible> {
    let (mut checker, mut stream) = (Checker::new(KEYS_MAX), Stream::new());
    checker.step(&begin(false)).unwrap();
    events.iter().filter_map(|event| stream.mutation(0, *event)).find_map(|action| checker.step(&action).err())
}

#[test]
fn each_problem_has_its_name() {
    let update = |from, old, to, new| Event::Update { from, old, to, new };
    let cases: [(&[Event], Problem); 7] = [
        (&[Event::Insert(0, 1), Event::Insert(0, 1)], Problem::Taken),
        (&[Event::Truncate, Event::Delete(0, 1)], Problem::Missing(Verb::Deletes)),
        (&[Event::Delete(0, 1), update(0, 1, 0, 0)], Problem::Missing(Verb::Updates)),
        (&[Event::Insert(0, 1), Event::Delete(0, 0)], Problem::Differs(Verb::Deletes)),
        (&[update(0, 1, 1, 1), update(1, 0, 1, 1)], Problem::Differs(Verb::Updates)),
        (&[Event::Insert(0, 1), update(2, 1, 0, 1)], Problem::Moved),
        (&[Event::Insert(0, 1), Event::Columns, Event::Insert(0, 1)], Problem::Taken),
    ];
    for (events, problem) in cases {
        let found = objection(events).unwrap_or_else(|| panic!("nothing found: {events:?}"));
        assert_eq!((found.problem, found.table.as_str(), found.key.len()), (problem, "public.t0", 8), "{events:?}");
    }
    let text = objection(&[Event::Insert(0, 1), Event::Insert(0, 1)]).unwrap().to_string();
    assert!(text.starts_with("event 2 inserts a row whose key another row has (table public.t0, digest of the key "), "{text}");
    assert!(text.contains("`pgshovel set check`") && !text.contains("label"), "{text}");
}

#[test]
fn what_could_not_be_checked_is_counted() {
    let (mut checker, mut stream) = (Checker::new(8), Stream::new());
    let mut step = |event| checker.step(&stream.mutation(0, event).unwrap()).unwrap();
    // The key's state was not known.
    step(Event::Insert(0, 0));
    step(Event::Update { from: 0, old: 0, to: 0, new: 1 });
    step(Event::Truncate);
    step(Event::Insert(1, 1));
    step(Event::Update { from: 1, old: 1, to: 2, new: 1 });
    let counts = checker.counts();
    assert_eq!((counts.checked, counts.unchecked, counts.forgotten, checker.keys()), (4, 1, 0, 1));
    checker.step(&Action::Skip(Skip::Seen)).unwrap();
    assert_eq!(checker.counts(), counts);
}

/// Rows of many keys, whatever they hold, in bounded memory; the younger ones are still known.
#[test]
fn the_oldest_keys_are_forgotten() {
    const MAX: usize = 1000;
    let relation = crate::samples::items();
    let mut checker = Checker::new(MAX);
    checker.step(&begin(false)).unwrap();
    let insert = |id| Action::Apply(crate::samples::insert(&relation, id, 1));
    for id in 0..10_000 {
        checker.step(&insert(id)).unwrap();
        assert!(checker.keys() <= MAX);
    }
    assert!(checker.step(&insert(9_999)).is_err() && checker.step(&insert(9_600)).is_err());
    checker.step(&insert(1)).unwrap();
    assert!(checker.counts().forgotten >= 9_000, "{:?}", checker.counts());
    // More than can be put back.
    checker.step(&Action::Rollback).unwrap();
    assert_eq!(checker.keys(), 0);
}

/// The tables of another node may hold anything.
#[test]
fn another_node_is_another_history() {
    let insert = Action::Apply(crate::samples::insert(&crate::samples::items(), 1, 1));
    let mut checker = Checker::new(KEYS_MAX);
    for node in [NODE, NODE, [0xbb; 16]] {
        checker.step(&Action::Begin { batch: proto::batch::Batch { node, ..batch(1, 2) }, discard: false }).unwrap();
        let known = checker.keys() > 0;
        assert_eq!(checker.step(&insert).is_err(), known);
        checker.step(&Action::Commit).unwrap();
    }
    assert_eq!(checker.keys(), 1);
}
