//! What a plugin may use holds however the server is reached: by TLS, and by a socket in
//! the file system.

use std::os::unix::fs::PermissionsExt as _;

use tests::harness::{Database, World};
use tests::servers::Postgres;

use super::limits::{Outcome, fails, run};

/// A certificate that the client can be told to trust, made by the server's own user.
const CERTIFICATE: &str = "set -e; umask 077; \
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=root -keyout root.key -out root.crt; \
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=server -keyout server.key -out server.csr; \
    printf subjectAltName=IP:127.0.0.1 >extensions; \
    openssl x509 -req -in server.csr -CA root.crt -CAkey root.key -CAcreateserial -days 2 -extfile extensions -out server.crt";

async fn holds(world: &World, database: &Database, dsn: &str, is_tls: bool) {
    let section = |name: &str, sql: &str, call: &str| {
        let orders = format!("next: {name}, sql: \"{sql}\"");
        format!(
            "{{ path: probe.wasm, configuration: {{ {orders} }}, grants: {{ postgres: \"{dsn}\" }}, limits: {{ memory: 16MiB, call: {call} }} }}"
        )
    };
    let shown = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let Outcome { ended, .. } = run(world, "reached", &section("query", shown, "60s")).await;
    assert!(ended.stderr.contains(&format!("1 rows, the first is {is_tls}")), "{}", ended.stderr);
    let says = ["the server sends a message of 200000", "raise limits.memory"];
    fails(world, "message", &section("query", "SELECT repeat('x', 200000000)", "60s"), 1, &says).await;
    fails(world, "forever", &section("forever", "SELECT pg_sleep(600)", "1s"), 1, &["did not return within 1s"]).await;
    let left = database.count("pg_stat_activity WHERE application_name LIKE 'pgshovel stream%'").await;
    assert_eq!(left, 0, "sessions are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_tls() {
    let world = World::without_servers();
    let server = Postgres::create(&world.fleet(), "limits-tls", &["fsync = off"]).unwrap();
    let database = world.target_of(&server, "tls").await;
    let data = database.value("SHOW data_directory").await.unwrap();
    database.execute(&format!("COPY (SELECT) TO PROGRAM $sh$cd {data}; {CERTIFICATE}$sh$")).await;
    for setting in ["ssl = on", "ssl_cert_file = 'server.crt'", "ssl_key_file = 'server.key'"] {
        database.execute(&format!("ALTER SYSTEM SET {setting}")).await;
    }
    database.execute("SELECT pg_reload_conf()").await;
    let root = world.write("root.crt", &database.value("SELECT pg_read_file('root.crt')").await.unwrap());
    let dsn = format!("{} sslmode=verify-full sslrootcert={}", database.dsn(), root.display());
    holds(&world, &database, &dsn, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_socket() {
    let world = World::without_servers();
    let folder = world.folder().join("sockets");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let setting = format!("unix_socket_directories = '{}'", folder.display());
    let server = Postgres::create(&world.fleet(), "limits-socket", &["fsync = off", &setting]).unwrap();
    let database = world.target_of(&server, "socket").await;
    let dsn = database.dsn().replace("127.0.0.1", &folder.display().to_string());
    holds(&world, &database, &dsn, false).await;
}
