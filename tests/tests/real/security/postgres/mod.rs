//! Connections to PostgreSQL: TLS, certificates, passwords, and whose they are.

mod certificates;
mod clear;
mod grants;
mod passwords;
mod roles;

use std::path::PathBuf;

use pgshovel::error::{Error, Next};
use pgshovel::postgres::connect::connect;
use tests::harness::World;
use tests::servers::{Certificate, Postgres, Wanted};

/// The name that the good certificate is made for.
const NAME: &str = "db.test";
const GOOD: Wanted<'static> = Wanted { common_name: "server", names: &[NAME], days: (-1, 365) };
const SETTINGS: &[&str] = &["fsync = off"];

/// A server of the test's own, and the authority that signs its certificates.
struct Setting {
    world: World,
    server: Postgres,
    authority: Certificate,
}

impl Setting {
    /// In the clear alone.
    fn new() -> Self {
        let world = World::without_servers();
        let server = Postgres::create(&world.fleet(), &format!("tls-{}", world.cluster()), SETTINGS).unwrap();
        let authority = Certificate::authority("tests").unwrap();
        authority.write(world.folder(), "ca").unwrap();
        Self { world, server, authority }
    }

    /// With a certificate that the authority signed.
    fn secure(access: &str) -> Self {
        let mut setting = Self::new();
        let certificate = setting.authority.issue(&GOOD).unwrap();
        setting.server.secure(&certificate, &setting.authority, access).unwrap();
        setting
    }

    fn file(&self, name: &str) -> PathBuf {
        self.world.folder().join(name)
    }

    /// The superuser at [`NAME`], and `more`.
    fn dsn(&self, more: &str) -> String {
        self.dsn_of("postgres", more)
    }

    fn dsn_of(&self, user: &str, more: &str) -> String {
        format!("host={NAME} hostaddr=127.0.0.1 port={} user={user} dbname=postgres {more}", self.server.port)
    }

    /// `sslrootcert=` of the authority.
    fn root(&self) -> String {
        format!("sslrootcert={}", self.file("ca.crt").display())
    }

    async fn execute(&self, sql: &str) {
        connect(&self.server.dsn("postgres"), "test").await.unwrap().batch_execute(sql).await.unwrap();
    }
}

/// Whether a connection comes about, and if so whether by TLS.
async fn by_tls(dsn: &str) -> Result<bool, Error> {
    let client = connect(dsn, "test").await?;
    let row = client.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await.unwrap();
    Ok(row.get(0))
}

/// Refused for good, with each of these words.
async fn refused(dsn: &str, words: &[&str]) {
    let error = by_tls(dsn).await.expect_err(dsn);
    assert_eq!(error.next, Next::Configure, "{dsn}: {error}");
    for word in words {
        assert!(error.message.contains(word), "{dsn} should say {word:?}: {error}");
    }
}
