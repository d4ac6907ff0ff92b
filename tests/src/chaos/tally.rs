//! Faults that were injected, and what came of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::fault::{Faults, Means, Victim};

#[derive(Debug, Default)]
pub struct Tally {
    lines: BTreeMap<(Victim, Means), Line>,
    pub rounds: usize,
    /// One or two a round.
    pub faults: usize,
    /// The rows that were equal in the end.
    pub rows: u64,
    /// Of the load.
    pub transactions: u64,
}

#[derive(Debug, Default)]
struct Line {
    count: usize,
    missed: usize,
    worst: Duration,
}

impl Tally {
    /// A round is over, and all was well. `hit`: the victim was there to suffer.
    /// `after`: from the last fault's end until source and target were equal.
    pub fn add(&mut self, faults: Faults, hit: bool, after: Duration) {
        for fault in std::iter::once(faults.first).chain(faults.second.map(|(_, fault)| fault)) {
            let line = self.lines.entry((fault.victim, fault.means)).or_default();
            line.count += 1;
            line.missed += usize::from(!hit);
            line.worst = line.worst.max(after);
            self.faults += 1;
        }
        self.rounds += 1;
    }

    /// As a table.
    #[must_use]
    pub fn show(&self) -> String {
        let mut text = format!("  {:<17}{:<17}{:>6}{:>9}{:>13}  outcome\n", "victim", "fault", "count", "in time", "equal after");
        for ((victim, means), Line { count, missed, worst }) in &self.lines {
            let (victim, means, hit, worst) = (victim.name(), means.name(), count - missed, worst.as_secs_f64());
            let _ = writeln!(text, "  {victim:<17}{means:<17}{count:>6}{hit:>9}{worst:>11.1} s  recovered, equal, sound");
        }
        text
    }
}
