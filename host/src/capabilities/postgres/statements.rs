//! Prepared statements of one connection, bounded.

use tokio_postgres::Statement;

/// How many statements one connection keeps prepared: three a table, for hundreds of tables.
const STATEMENTS_MAX: usize = 1000;

/// The statements used last. Dropping one closes it on the server.
#[derive(Default)]
pub(super) struct Statements {
    by_text: std::collections::HashMap<String, (u64, Statement)>,
    uses: u64,
}

impl Statements {
    pub(super) fn get(&mut self, sql: &str) -> Option<Statement> {
        self.uses += 1;
        let (used, statement) = self.by_text.get_mut(sql)?;
        *used = self.uses;
        Some(statement.clone())
    }

    pub(super) fn put(&mut self, sql: &str, statement: Statement) {
        if self.by_text.len() >= STATEMENTS_MAX
            && let Some(oldest) = self.by_text.iter().min_by_key(|(_, (used, _))| *used).map(|(text, _)| text.clone())
        {
            self.by_text.remove(&oldest);
        }
        self.by_text.insert(sql.to_owned(), (self.uses, statement));
    }
}
