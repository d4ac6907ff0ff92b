//! Prepared statements of one connection, bounded.

use std::collections::HashMap;

use tokio_postgres::Statement;

use crate::budget::{Budget, Exceeded, Share};

/// How many statements one connection keeps prepared: three a table, for hundreds of tables.
const STATEMENTS_MAX: usize = 1000;

/// What each takes beside its text: its columns and parameters.
const STATEMENT_BYTES: usize = 4 << 10;

/// The statements used last. Dropping one closes it on the server.
pub(super) struct Statements {
    by_text: HashMap<String, Prepared>,
    uses: u64,
    budget: Budget,
}

struct Prepared {
    used: u64,
    statement: Statement,
    _share: Share,
}

impl Statements {
    pub(super) fn new(budget: &Budget) -> Self {
        Self { by_text: HashMap::new(), uses: 0, budget: budget.clone() }
    }

    pub(super) fn get(&mut self, sql: &str) -> Option<Statement> {
        self.uses += 1;
        let prepared = self.by_text.get_mut(sql)?;
        prepared.used = self.uses;
        Some(prepared.statement.clone())
    }

    pub(super) fn put(&mut self, sql: &str, statement: Statement) -> Result<(), Exceeded> {
        if self.by_text.len() >= STATEMENTS_MAX {
            self.forget_oldest();
        }
        let share = loop {
            match self.budget.take(sql.len() + STATEMENT_BYTES) {
                Ok(share) => break share,
                Err(exceeded) if self.by_text.is_empty() => return Err(exceeded),
                Err(_) => self.forget_oldest(),
            }
        };
        self.by_text.insert(sql.to_owned(), Prepared { used: self.uses, statement, _share: share });
        Ok(())
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.by_text.iter().min_by_key(|(_, prepared)| prepared.used).map(|(text, _)| text.clone()) {
            self.by_text.remove(&oldest);
        }
    }
}
