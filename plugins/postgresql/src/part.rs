//! The mutations that are applied together, and what they amount to. Pure.

use std::collections::HashMap;
use std::rc::Rc;

use crate::net::{Effect, Operation};
use crate::pgshovel::plugin::types::{Change, Mutation, Row, Value};
use crate::plan::Plan;

/// A part ends with so many mutations, or so many bytes of their rows, whichever is first.
const MUTATIONS_MAX: usize = 4000;
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// After a change that takes the source's order, so many more mutations stay in it:
/// parts that alternate would be tiny.
const ORDERED_AFTER: usize = 100;

/// A mutation and where it goes.
#[derive(Debug)]
pub struct Planned {
    pub plan: Rc<Plan>,
    pub mutation: Mutation,
}

/// How the mutations of a part may be applied.
#[derive(Debug)]
pub enum Shape {
    /// Sets of rows: the net effect per key.
    Sets(Vec<Table>),
    /// One by one, in the source's order.
    Ordered {
        after: usize,
    },
    Truncates,
}

#[derive(Debug)]
pub struct Part {
    pub shape: Shape,
    pub mutations: Vec<Planned>,
    bytes: usize,
}

/// The net effect on one table.
#[derive(Debug)]
pub struct Table {
    pub plan: Rc<Plan>,
    /// By key; the index is that of the mutation whose row counts.
    keys: HashMap<Vec<u8>, (Effect, usize)>,
}

/// What sets of one table need, as indexes of mutations: deletes come first, then
/// updates, then inserts.
#[derive(Debug, Default)]
pub struct Work {
    pub delete: Vec<usize>,
    pub update: Vec<usize>,
    pub insert: Vec<usize>,
}

impl Part {
    #[must_use]
    pub fn starting_with(planned: Planned) -> Self {
        let shape = match &planned.mutation.change {
            Change::Truncate => Shape::Truncates,
            change if needs_order(&planned.plan, change) => Shape::Ordered { after: 0 },
            _ => Shape::Sets(Vec::new()),
        };
        let mut part = Self { shape, mutations: Vec::new(), bytes: 0 };
        if let Shape::Sets(tables) = &mut part.shape {
            // A change on its own contradicts nothing.
            let _ = fold(tables, &planned, 0);
        }
        part.keep(planned);
        part
    }

    /// Takes one more, or gives it back: it belongs to the next part.
    pub fn add(&mut self, planned: Planned) -> Result<(), Box<Planned>> {
        let is_truncate = matches!(planned.mutation.change, Change::Truncate);
        let needs_order = needs_order(&planned.plan, &planned.mutation.change);
        let fits = !self.is_full()
            && match &mut self.shape {
                Shape::Truncates => is_truncate,
                Shape::Ordered { after } => {
                    *after = if needs_order { 0 } else { *after + 1 };
                    !is_truncate && *after <= ORDERED_AFTER
                }
                Shape::Sets(tables) => !is_truncate && !needs_order && fold(tables, &planned, self.mutations.len()),
            };
        if !fits {
            return Err(Box::new(planned));
        }
        self.keep(planned);
        Ok(())
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.mutations.len() >= MUTATIONS_MAX || self.bytes >= BYTES_MAX
    }

    fn keep(&mut self, planned: Planned) {
        self.bytes += match &planned.mutation.change {
            Change::Insert(row) | Change::Delete(row) => bytes(row),
            Change::Update(both) => bytes(&both.before) + bytes(&both.after),
            Change::Truncate => 0,
        };
        self.mutations.push(planned);
    }
}

impl Table {
    /// In the source's order, so that a run can be repeated exactly.
    #[must_use]
    pub fn work(&self) -> Work {
        let mut work = Work::default();
        for (effect, at) in self.keys.values() {
            match effect {
                Effect::Nothing => {}
                Effect::Delete => work.delete.push(*at),
                Effect::Update => work.update.push(*at),
                Effect::Insert => work.insert.push(*at),
                Effect::Replace => {
                    work.delete.push(*at);
                    work.insert.push(*at);
                }
            }
        }
        for list in [&mut work.delete, &mut work.update, &mut work.insert] {
            list.sort_unstable();
        }
        work
    }
}

fn needs_order(plan: &Plan, change: &Change) -> bool {
    plan.in_order || matches!(change, Change::Update(both) if !plan.keeps_key(&both.before, &both.after))
}

/// Whether the change could be taken into the net effect.
fn fold(tables: &mut Vec<Table>, planned: &Planned, at: usize) -> bool {
    let (operation, row) = match &planned.mutation.change {
        Change::Insert(row) => (Operation::Insert, row),
        Change::Update(both) => (Operation::Update, &both.after),
        Change::Delete(row) => (Operation::Delete, row),
        Change::Truncate => return false,
    };
    let found = tables.iter().position(|table| table.plan.target == planned.plan.target);
    let table = match found.and_then(|index| tables.get_mut(index)) {
        // Rows of two shapes for one table: each part has one.
        Some(table) if !Rc::ptr_eq(&table.plan, &planned.plan) => return false,
        Some(table) => table,
        None => {
            tables.push(Table { plan: Rc::clone(&planned.plan), keys: HashMap::new() });
            let Some(table) = tables.last_mut() else { return false };
            table
        }
    };
    let key = table.plan.key(row);
    let effect = Effect::of(table.keys.get(&key).map(|(effect, _)| *effect), operation);
    let Some(effect) = effect else { return false };
    table.keys.insert(key, (effect, at));
    true
}

fn bytes(row: &Row) -> usize {
    let sizes = row.iter().map(|value| match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 0,
    });
    sizes.sum::<usize>() + size_of_val(row.as_slice())
}
