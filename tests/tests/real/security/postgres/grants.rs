//! What the role of a grant may do.

use crate::replicate::setup::{App, configuration};

const WARNING: &str = "the role of the grant `postgres`";

/// A plugin that gets a superuser gets the server's machine: it is told, once, with what
/// would do. What it names does.
///
/// Before, the sandbox ended at `COPY … TO PROGRAM` without a word.
#[tokio::test]
async fn a_role_that_reaches_the_machine_is_warned_of() {
    let app = App::new().await;
    let relay = app.relay().await;
    app.source.execute("INSERT INTO accounts (id) VALUES (1)").await;
    let worker = app.worker(&[]).start().await;
    app.equal().await;
    let log = worker.terminate().await.stderr;
    assert_eq!(log.matches(WARNING).count(), 1, "{log}");
    assert!(log.contains("is a superuser") && log.contains("GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE"), "{log}");
    // As the warning has it, for a role of this test alone.
    let role = format!("{}_writer", app.target.name());
    app.target
        .execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {} TO {role}; GRANT USAGE ON SCHEMA public TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO {role};
             GRANT SET ON PARAMETER session_replication_role TO {role}; DROP SCHEMA pgshovel CASCADE; TRUNCATE accounts",
            app.target.name()
        ))
        .await;
    let uri = app.target.uri().replace("postgres@", &format!("{role}@"));
    app.world.write("replicate.yaml", &configuration(&uri, ""));
    let worker = app.worker(&[]).start().await;
    app.source.execute("INSERT INTO accounts (id) VALUES (2); UPDATE accounts SET name = 'x'").await;
    app.equal().await;
    let log = worker.terminate().await.stderr;
    assert!(!log.contains(WARNING), "{log}");
    // A member of what reaches files is as good.
    app.target.execute(&format!("GRANT pg_read_server_files TO {role}")).await;
    let worker = app.worker(&[]).allow(WARNING).start().await;
    app.source.execute("UPDATE accounts SET name = 'y'").await;
    app.equal().await;
    let log = worker.terminate().await.stderr;
    assert!(log.contains("is a member of pg_read_server_files"), "{log}");
    assert_eq!(relay.terminate().await.code, Some(0));
    app.target.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
