//! A database of one test.

use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, SimpleQueryMessage};

use super::eventually::eventually;
use crate::compare::{compare, compare_images};
use crate::servers::postgres::client;

/// Clones of rows take a moment to arrive; a machine that is busy, longer.
const EQUAL_WITHIN: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub struct Database {
    name: String,
    port: u16,
    client: Client,
}

impl Database {
    pub(super) async fn open(name: String, port: u16) -> Self {
        let client = connect(&dsn(port, &name)).await;
        Self { name, port, client }
    }

    /// The same database in a replica of its server.
    pub async fn in_replica(&self, port: u16) -> Self {
        Self::open(self.name.clone(), port).await
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Keywords and values.
    #[must_use]
    pub fn dsn(&self) -> String {
        dsn(self.port, &self.name)
    }

    /// The same as a URI.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{}", self.port, self.name)
    }

    /// The connection of the test itself, for what the methods below do not do.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Another session.
    pub async fn connect(&self) -> Client {
        connect(&self.dsn()).await
    }

    /// Runs statements separated by semicolons.
    pub async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", text(&error)));
    }

    pub async fn query(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        self.client.query(sql, parameters).await.unwrap_or_else(|error| panic!("{sql}: {}", text(&error)))
    }

    /// The first column of the first row of `sql`, as PostgreSQL prints it;
    /// `None` for no row, or NULL.
    pub async fn value(&self, sql: &str) -> Option<String> {
        let messages = self.client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", text(&error)));
        messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
            _ => None,
        })?
    }

    pub async fn count(&self, table: &str) -> u64 {
        let count = self.value(&format!("SELECT count(*) FROM {table}")).await;
        count.and_then(|text| text.parse().ok()).expect("count(*) is a number")
    }

    /// Runs one of PostgreSQL's own client programs on this database to its end,
    /// which must be success; returns what it printed.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::from(client(program, self.port, &self.name));
        let output = command.args(arguments).kill_on_drop(true).output().await.unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until `table` holds exactly the rows, all columns, that it holds in
    /// `source`; panics with the first difference.
    pub async fn equals(&self, source: &Database, table: &str) {
        self.equals_in(source, table, None).await;
    }

    /// [`Database::equals`], and then in the binary images of all values too; `key` are
    /// columns that tell rows apart.
    pub async fn same_images(&self, source: &Database, table: &str, key: &[&str]) {
        self.equals(source, table).await;
        let found = compare_images(&source.dsn(), &self.dsn(), table, key).await.unwrap_or_else(|error| panic!("{table}: {error}"));
        assert_eq!((found.difference, found.source_rows), (None, found.target_rows), "{table}");
    }

    /// [`Database::equals`] for some columns.
    pub async fn equals_in(&self, source: &Database, table: &str, columns: Option<&[&str]>) {
        eventually(&format!("equal rows in {table}"), EQUAL_WITHIN, || async {
            // A table that is not there yet is a difference too.
            let found = compare(&source.dsn(), &self.dsn(), table, columns).await.map_err(|error| error.to_string())?;
            match found.difference {
                None => Ok(()),
                Some(difference) => {
                    Err(format!("{} rows in the source, {} in the target; {difference}", found.source_rows, found.target_rows))
                }
            }
        })
        .await;
    }
}

/// Also to a replica, as the program does not.
async fn connect(dsn: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn dsn(port: u16, name: &str) -> String {
    format!("host=127.0.0.1 port={port} user=postgres dbname={name}")
}

fn text(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |refusal| format!("{} {:?}", refusal.message(), refusal.detail()))
}
