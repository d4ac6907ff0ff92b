//! The rights that a relay and a loader need in a set's database, and no more, as SQL. Pure.
//!
//! Neither owns anything, creates anything, or writes to a table of the set.

use proto::interfaces::configurations::ReplicationSetConfiguration;

use super::quote;
use super::trigger::shared::OF_RELAYS;
use crate::names;

/// What a relay does: it reads the set's queue and ends its batches, which PgQ allows its role
/// pgq_reader, ticks and rotates it by functions of the cluster's own (`queue.sql`), and looks at how
/// old the oldest snapshot of other sessions is.
#[must_use]
pub fn relay(cluster: &str, role: &str) -> Vec<String> {
    let (schema, role) = (quote(&names::schema(cluster)), quote(role));
    let functions: Vec<String> = OF_RELAYS.iter().map(|function| format!("{schema}.{function}")).collect();
    vec![
        format!("GRANT pgq_reader, pg_read_all_stats TO {role}"),
        format!("GRANT USAGE ON SCHEMA {schema} TO {role}"),
        format!("GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}"),
        // Its epoch is there.
        format!("GRANT INSERT, UPDATE ON {schema}.relays TO {role}"),
        format!("GRANT EXECUTE ON FUNCTION {} TO {role}", functions.join(", ")),
    ]
}

/// What a worker does with the set's database while it bootstraps: it reads the tables.
#[must_use]
pub fn loader(cluster: &str, role: &str, configuration: &ReplicationSetConfiguration) -> Vec<String> {
    let (schema, role) = (quote(&names::schema(cluster)), quote(role));
    let mut statements =
        vec![format!("GRANT USAGE ON SCHEMA {schema} TO {role}"), format!("GRANT SELECT ON {schema}.configuration TO {role}")];
    let mut schemas: Vec<&str> = configuration.tables.iter().map(|table| table.schema()).collect();
    schemas.sort_unstable();
    schemas.dedup();
    statements.extend(schemas.iter().map(|schema| format!("GRANT USAGE ON SCHEMA {} TO {role}", quote(schema))));
    // All columns, since LOCK TABLE asks for that.
    statements.extend(
        configuration.tables.iter().map(|table| format!("GRANT SELECT ON {}.{} TO {role}", quote(table.schema()), quote(&table.name))),
    );
    statements
}

#[cfg(test)]
mod tests {
    use proto::interfaces::configurations::{DatabaseConfiguration, TableConfiguration};

    use super::*;

    #[test]
    fn names_are_quoted() {
        let table = TableConfiguration {
            name: "a\"b".into(),
            primary_keys: vec!["id".into()],
            columns: vec!["x".into(), "id".into()],
            schema: Some("S".into()),
        };
        let configuration = ReplicationSetConfiguration { database: DatabaseConfiguration { dsn: String::new() }, tables: vec![table] };
        let statements = loader("c", "who\"", &configuration);
        assert_eq!(statements.last().map(String::as_str), Some("GRANT SELECT ON \"S\".\"a\"\"b\" TO \"who\"\"\""));
        assert!(relay("c", "r").iter().all(|statement| statement.ends_with("TO \"r\"")));
    }
}
