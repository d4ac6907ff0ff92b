//! Who gets to know a password.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use prost::Message as _;
use proto::interfaces::configurations::ReplicationSetConfiguration;
use tests::harness::{Database, eventually};

/// A server that speaks no TLS, asks everybody for the password as it is, and lets nobody in.
struct Thief {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Thief {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let words = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let words = Arc::clone(&words);
                tokio::spawn(async move {
                    // Whoever has no password ends the connection.
                    if let Ok(word) = listen(stream).await {
                        words.lock().unwrap().push(word);
                    }
                });
            }
        });
        Self { port, heard }
    }

    fn heard(&self) -> Vec<String> {
        let mut heard = self.heard.lock().unwrap().clone();
        heard.dedup();
        heard
    }
}

/// See "Message Flow" in PostgreSQL's documentation of its protocol.
async fn listen(mut stream: TcpStream) -> std::io::Result<String> {
    loop {
        let length = stream.read_u32().await?;
        let mut message = vec![0; length as usize - 4];
        stream.read_exact(&mut message).await?;
        if message[..4] == 80_877_103_u32.to_be_bytes() {
            stream.write_all(b"N").await?;
            continue;
        }
        break;
    }
    stream.write_all(b"R\0\0\0\x08\0\0\0\x03").await?;
    assert_eq!(stream.read_u8().await?, b'p');
    let length = stream.read_u32().await?;
    let mut word = vec![0; length as usize - 4];
    stream.read_exact(&mut word).await?;
    Ok(String::from_utf8_lossy(&word).trim_end_matches('\0').to_owned())
}

fn set(dsn: &str) -> String {
    format!("database {{ dsn: {dsn:?} }}\ntables {{ name: \"a\" primary_keys: \"id\" }}\n")
}

/// Each server of a connection string gets the password of its own line, or none.
///
/// Before, the first server's went to all (finding 13).
#[tokio::test]
async fn each_host_gets_its_own_line_of_the_password_file() {
    let world = World::start().await;
    world.zookeeper().await;
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    let (one, two, three) = (Thief::start().await, Thief::start().await, Thief::start().await);
    let file = world.write("pgpass", &format!("127.0.0.1:{}:app:ann:first\nlocalhost:{}:app:ann:second\n", one.port, two.port));
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let hosts =
        format!("host=127.0.0.1,localhost,127.0.0.1 hostaddr=127.0.0.1,127.0.0.1,127.0.0.1 port={},{},{}", one.port, two.port, three.port);
    world.write("s.pgshovel", &set(&format!("{hosts} dbname=app")));
    let command = world.pgshovel(["set", "create", "s", "s.pgshovel"]).env("PGPASSFILE", &file).env("PGUSER", "ann").run().await;
    assert_ne!(command.code, Some(0));
    assert_eq!((one.heard(), two.heard(), three.heard()), (vec!["first".to_owned()], vec!["second".to_owned()], vec![]));
    assert!(command.stderr.contains(&format!("127.0.0.1:{}:app:ann:PASSWORD", three.port)), "{}", command.stderr);
}

/// A set of a database that exists, whose connection string then is another one: as whoever
/// writes to ZooKeeper may make it.
async fn moved(world: &World, source: &Database, thief: &Thief) {
    source.execute("CREATE TABLE a (id int PRIMARY KEY)").await;
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    world.write("s.pgshovel", &set(&source.dsn()));
    world.pgshovel(["set", "create", "s", "s.pgshovel"]).succeeds().await;
    let address = world.zookeeper().await;
    let (hosts, chroot) = address.split_once('/').unwrap();
    let client = zookeeper_client::Client::connect(hosts).await.unwrap();
    let path = format!("/{chroot}/{}/sets/s", world.cluster());
    let (data, _) = client.get_data(&path).await.unwrap();
    let mut stored = ReplicationSetConfiguration::decode(&*data).unwrap();
    stored.database.dsn = format!("host=127.0.0.1 port={} user=ann dbname=app", thief.port);
    client.set_data(&path, &stored.encode_to_vec(), None).await.unwrap();
    std::fs::create_dir_all(world.folder().join("stream")).unwrap();
    world.write("relay.yaml", "stream:\n  path: file.wasm\n  grants: { files: { path: ./stream, mode: read-write } }\n");
    world.write("replicate.yaml", &crate::replicate::setup::configuration("host=127.0.0.1 port=1 user=x dbname=x", ""));
}

/// PGPASSWORD is sent to a server that the process itself was told of.
///
/// Before, whoever could write to ZooKeeper had the relay send it wherever he wished (finding 4).
#[tokio::test]
async fn whoever_writes_to_zookeeper_gets_no_password() {
    let world = World::start().await;
    let source = world.source("app").await;
    let thief = Thief::start().await;
    moved(&world, &source, &thief).await;
    let relay = || world.pgshovel(["relay", "relay.yaml", "s"]).env("PGPASSWORD", "hunter2").env("PGUSER", "ann");
    let said = relay().fails(3).await;
    assert!(said.contains(&format!("PGPASSWORD is not sent to 127.0.0.1:{}", thief.port)) && said.contains("--source-dsn"), "{said}");
    // Beside a server that it does name, by any of the ways; and by a command.
    let named = format!("host=127.0.0.1 port={}", source.port());
    let list = world
        .pgshovel(["set", "list"])
        .env("PGPASSWORD", "hunter2")
        .env("PGSHOVEL_SOURCE_DSN", format!("{named} user=ann password=hunter3"));
    list.succeeds().await;
    relay().env("PGHOST", "127.0.0.1").env("PGPORT", source.port().to_string()).fails(3).await;
    // Not even a password of the command line goes there: the relay keeps to its own host.
    let own = format!("{named} user=postgres password=hunter4 sslmode=disable");
    let ended = world.pgshovel(["relay", "relay.yaml", "s", "--source-dsn", &own]).env("PGPASSWORD", "hunter2").fails(3).await;
    assert!(!ended.contains("hunter"), "{ended}");
    assert_eq!(thief.heard(), Vec::<String>::new());
    // The same server, named by the process.
    for variable in ["PGPORT", "PGSHOVEL_SOURCE_DSN"] {
        let program = relay()
            .env("PGHOST", "127.0.0.1")
            .env(variable, if variable == "PGPORT" { thief.port.to_string() } else { format!("host=127.0.0.1 port={}", thief.port) });
        let mut relay = program.allow("").start().await;
        eventually("the password", std::time::Duration::from_secs(60), || {
            let (heard, runs) = (thief.heard(), relay.runs());
            async move { if heard == ["hunter2"] { Ok(()) } else { Err(format!("{heard:?}, runs: {runs}")) } }
        })
        .await;
        thief.heard.lock().unwrap().clear();
    }
}

/// Before, a password went into ZooKeeper without a word.
#[tokio::test]
async fn a_password_is_stored_only_if_asked_for() {
    let world = World::start().await;
    let source = world.source("app").await;
    source.execute("CREATE TABLE a (id int PRIMARY KEY)").await;
    world.zookeeper().await;
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    let (port, name) = (source.port(), source.name());
    for dsn in [format!("{} password=sesame", source.dsn()), format!("postgresql://postgres:sesame@127.0.0.1:{port}/{name}")] {
        world.write("s.pgshovel", &set(&dsn));
        let said = world.pgshovel(["set", "create", "s", "s.pgshovel"]).fails(3).await;
        assert!(said.contains("--store-password") && !said.contains("sesame"), "{said}");
    }
    assert_eq!(world.pgshovel(["set", "list", "--format", "json"]).succeeds().await.trim(), "[]");
    world.pgshovel(["set", "create", "s", "s.pgshovel", "--store-password"]).succeeds().await;
    let said = world.pgshovel(["set", "update", "s", "s.pgshovel"]).fails(3).await;
    assert!(said.contains("--store-password"), "{said}");
}

/// SCRAM proves that both know the password, and binds it to the certificate.
///
/// Before, `channel_binding=require` had no TLS of a private authority to bind to.
#[tokio::test]
async fn passwords_are_bound_to_the_channel() {
    let setting = Setting::secure("host all scrambled 127.0.0.1/32 scram-sha-256\nhost all hashed 127.0.0.1/32 md5");
    setting
        .execute("SET password_encryption = 'scram-sha-256'; CREATE ROLE scrambled LOGIN PASSWORD 'sesame'; SET password_encryption = md5; CREATE ROLE hashed LOGIN PASSWORD 'sesame'")
        .await;
    let full = format!("sslmode=verify-full {}", setting.root());
    assert!(by_tls(&setting.dsn_of("scrambled", &format!("{full} channel_binding=require password=sesame"))).await.unwrap());
    assert!(!by_tls(&setting.dsn_of("scrambled", "sslmode=disable password=sesame")).await.unwrap());
    refused(&setting.dsn_of("scrambled", &format!("{full} password=parsley")), &["password authentication failed"]).await;
    for (user, more) in [("scrambled", "sslmode=disable"), ("hashed", full.as_str()), ("postgres", full.as_str())] {
        refused(&setting.dsn_of(user, &format!("{more} channel_binding=require password=sesame")), &["channel_binding=require"]).await;
    }
}
