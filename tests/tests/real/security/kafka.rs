//! Brokers that demand TLS, certificates and users; what will not do is told with the
//! remedy, by the exit code of configuration.
//!
//! Before, librdkafka was built without TLS, without SCRAM and without zstd, and a broker
//! that refused us was waited for for ever.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::ssl::{SslAcceptor, SslMethod};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tests::harness::World;
use tests::servers::Kafka;
use tests::servers::certificates::{Certificate, Wanted};
use tests::servers::kafka::{ALICE, BOB, SecurePorts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::streams::{Setup, contents, keeps_order_and_positions, numbered};

/// The address alone, so that there is a name which the broker's certificate is not for.
const HERE: Wanted<'static> = Wanted { common_name: "test", names: &["127.0.0.1"], days: (-1, 365) };

/// A broker of the test's own, and files in the test's folder.
struct Setting {
    world: World,
    authority: Certificate,
    broker: Kafka,
    ports: SecurePorts,
}

impl Setting {
    fn new() -> Self {
        let world = World::without_servers();
        let authority = Certificate::authority("tests").unwrap();
        authority.write(world.folder(), "ca").unwrap();
        authority.issue(&HERE).unwrap().write(world.folder(), "ours").unwrap();
        let name = format!("kafka-{}", world.cluster());
        let broker = Kafka::create_secure(&world.fleet(), &name, &authority, &authority.issue(&HERE).unwrap()).unwrap();
        let ports = broker.secure.unwrap();
        Self { world, authority, broker, ports }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.world.folder().join(name)
    }

    /// `ssl.ca.location` and more, in flow style.
    fn trusting(&self, more: &str) -> String {
        format!("ssl.ca.location: {}, {more}", self.file("ca.crt").display())
    }

    fn showing(&self, certificate: &str, key: &str) -> String {
        let (certificate, key) = (self.file(certificate), self.file(key));
        let more = format!("ssl.certificate.location: {}, ssl.key.location: {}", certificate.display(), key.display());
        self.trusting(&format!("security.protocol: ssl, {more}"))
    }

    fn user(&self, mechanism: &str, (user, password): (&str, &str)) -> String {
        self.trusting(&format!(
            "security.protocol: sasl_ssl, sasl.mechanism: {mechanism}, sasl.username: {user}, sasl.password: {password}"
        ))
    }
}

fn section(servers: &str, properties: &str) -> String {
    format!("{{ path: kafka.wasm, grants: {{ kafka: {{ bootstrap.servers: \"{servers}\", {properties} }} }} }}")
}

fn at(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// A token that nobody signed, which this broker takes.
fn token() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let encode = |text: &str| openssl::base64::encode_block(text.as_bytes()).replace(['=', '\n'], "").replace('+', "-").replace('/', "_");
    let claims = format!("{{\"sub\":\"app\",\"iat\":{now},\"exp\":{}}}", now + 3600);
    format!("{}.{}.", encode("{\"alg\":\"none\"}"), encode(&claims))
}

/// A provider of tokens: the URL of its endpoint.
async fn provider() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let _ = stream.read(&mut head).await;
            let body = format!("{{\"access_token\":\"{}\",\"token_type\":\"Bearer\",\"expires_in\":3600}}", token());
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}/token")
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_the_broker_knows_is_served() {
    let setting = Setting::new();
    let ports = setting.ports;
    let provider = provider().await;
    let unsigned = "security.protocol: sasl_ssl, sasl.mechanism: OAUTHBEARER, enable.sasl.oauthbearer.unsecure.jwt: \"true\", \
                    sasl.oauthbearer.config: principal=app";
    let oidc = format!(
        "security.protocol: sasl_ssl, sasl.mechanism: OAUTHBEARER, sasl.oauthbearer.method: oidc, sasl.oauthbearer.client.id: app, \
         sasl.oauthbearer.client.secret: secret, sasl.oauthbearer.token.endpoint.url: \"{provider}\""
    );
    let (user, password) = BOB;
    let clear = format!("security.protocol: sasl_plaintext, sasl.mechanism: PLAIN, sasl.username: {user}, sasl.password: {password}");
    for (name, port, properties) in [
        ("certificate", ports.ssl, setting.showing("ours.crt", "ours.key")),
        ("SCRAM-SHA-256", ports.sasl_ssl, setting.user("SCRAM-SHA-256", ALICE)),
        ("SCRAM-SHA-512", ports.sasl_ssl, setting.user("SCRAM-SHA-512", ALICE)),
        ("PLAIN", ports.sasl_ssl, setting.user("PLAIN", BOB)),
        ("PLAIN in the clear", ports.sasl_plaintext, clear),
        ("OAUTHBEARER", ports.sasl_ssl, setting.trusting(unsigned)),
        ("OAUTHBEARER by a provider", ports.sasl_ssl, setting.trusting(&oidc)),
    ] {
        eprintln!("{name}");
        // The topic has the cluster's name: each way gets one of its own.
        let topic = format!("configuration: {{ topic: {} }}, grants:", name.to_lowercase().replace(' ', "-"));
        let section = section(&at(port), &properties).replacen("grants:", &topic, 1);
        keeps_order_and_positions(&Setup::new(&setting.world, &section)).await;
    }
    drop(setting.broker);
}

/// What others have compressed, in any way that Kafka has.
#[tokio::test(flavor = "multi_thread")]
async fn every_compression_is_read_and_written() {
    let world = World::without_servers();
    for compression in ["zstd", "lz4", "gzip", "snappy"] {
        let topic = world.topic(compression).await;
        let others: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", world.kafka().await)
            .set("compression.type", compression)
            .set("linger.ms", "100")
            .create()
            .unwrap();
        let message = "as long as it takes to be worth it ".repeat(100);
        let sent = (0..50).map(|_| others.send(FutureRecord::<(), str>::to(&topic).payload(&message), Duration::from_secs(30)));
        for sent in futures_util::future::join_all(sent).await {
            sent.unwrap();
        }
        let section = section(&world.kafka().await, &format!("compression.type: {compression}"));
        let section = section.replacen("grants:", &format!("configuration: {{ topic: {topic} }}, grants:"), 1);
        let setup = Setup::new(&world, &section);
        assert_eq!(contents(&setup.receive(None, 50).await.unwrap()), vec![message.into_bytes(); 50], "{compression}");
        setup.send(&numbered(0..1500)).await;
        assert_eq!(contents(&setup.receive(None, 1550).await.unwrap())[50..], numbered(0..1500), "{compression}");
    }
}

/// A server that shakes hands with a certificate, and is no broker.
fn handshakes(certificate: &Certificate) -> String {
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
    acceptor.set_certificate(&openssl::x509::X509::from_pem(&certificate.certificate_pem().unwrap()).unwrap()).unwrap();
    acceptor.set_private_key(&openssl::pkey::PKey::private_key_from_pem(&certificate.key_pem().unwrap()).unwrap()).unwrap();
    let acceptor = acceptor.build();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who does not like it leaves.
            let _ = acceptor.accept(stream);
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_the_broker_does_not_know_is_told_what_to_do() {
    let setting = Setting::new();
    let (world, ports) = (&setting.world, setting.ports);
    let strangers = Certificate::authority("strangers").unwrap();
    strangers.write(world.folder(), "strangers").unwrap();
    strangers.issue(&HERE).unwrap().write(world.folder(), "stranger").unwrap();
    let over = setting.authority.issue(&Wanted { days: (-2, -1), ..HERE }).unwrap();
    over.write(world.folder(), "over").unwrap();
    let sasl = at(ports.sasl_ssl);
    let alice = setting.user("SCRAM-SHA-256", ALICE);
    let elsewhere = alice.replace("ca.crt", "strangers.crt");
    let cases = [
        ("password", sasl.clone(), setting.user("SCRAM-SHA-256", ("alice", "hunter2")), "sasl.username and sasl.password"),
        ("plain", sasl.clone(), setting.user("PLAIN", ("bob", "hunter2")), "sasl.username and sasl.password"),
        ("lacks", at(ports.sasl_plaintext), alice.replace("sasl_ssl", "sasl_plaintext"), "one that the broker has enabled"),
        ("kerberos", sasl.clone(), setting.user("GSSAPI", ALICE), "is one of PLAIN, SCRAM-SHA-256"),
        ("authority", sasl.clone(), elsewhere, "ssl.ca.location holds the CA that signed"),
        ("name", format!("localhost:{}", ports.sasl_ssl), alice.clone(), "the broker's name in bootstrap.servers"),
        ("unreadable", sasl.clone(), alice.replace("ca.crt", "absent.crt"), "ssl.ca.location"),
        ("none", at(ports.ssl), setting.trusting("security.protocol: ssl"), "ssl.certificate.location and ssl.key.location"),
        ("stranger", at(ports.ssl), setting.showing("stranger.crt", "stranger.key"), "of a CA that it trusts"),
        ("over", at(ports.ssl), setting.showing("over.crt", "over.key"), "see that it has not expired"),
        ("mismatch", at(ports.ssl), setting.showing("ours.crt", "stranger.key"), "ssl."),
        ("expired", handshakes(&over), alice.clone(), "has not expired"),
        ("own", handshakes(&Certificate::self_signed(&HERE).unwrap()), alice.clone(), "ssl.ca.location"),
    ];
    let tries = cases.iter().map(|(name, servers, properties, text)| async move {
        let file = format!("{name}.yaml");
        world.write(&file, &format!("stream: {}\n", section(servers, properties)));
        let ended = world.pgshovel(["stream", "lint", &file, "s"]).run().await;
        let last = ended.stderr.lines().last().unwrap_or_default().to_owned();
        (ended.code != Some(3) || !last.contains(text) || !last.contains(&file) || ended.stderr.contains("hunter2"))
            .then(|| format!("{name} ({:?}): {}", ended.code, ended.stderr))
    });
    let wrong: Vec<String> = futures_util::future::join_all(tries).await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // So does a relay, which waits for what is merely away.
    let source = world.source("source").await;
    source.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    world.write("set.pgshovel", &format!("database {{ dsn: \"{}\" }}\ntables {{ name: \"t\" primary_keys: \"id\" }}\n", source.dsn()));
    world.zookeeper().await;
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    world.pgshovel(["set", "create", "s", "set.pgshovel"]).succeeds().await;
    let error = world.pgshovel(["relay", "password.yaml", "s"]).fails(3).await;
    assert!(error.contains("sasl.username and sasl.password"), "{error}");
    // Nothing was made.
    let alice = Setup::new(world, &section(&sasl, &alice));
    assert!(alice.receive(None, 0).await.unwrap().is_empty());
    drop(setting.broker);
}

/// A limit of processes, as a container has one, brought the host down: a panic, or an abort
/// of librdkafka's, at a plugin's will. The plugin is told, and the host goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_threads_brings_nobody_down() {
    /// Of users that nobody is: their threads are counted by user.
    const USER: u32 = 54_300;
    /// From where the program itself has just enough, to where all have.
    const LIMITS: std::ops::RangeInclusive<u32> = 10..=30;
    let world = World::without_servers();
    let brokers = world.kafka().await;
    world.write("stream.yaml", &format!("stream: {}\n", section(&brokers, "client.id: test")));
    // Where another user may read it.
    for (from, to) in [(tests::paths::pgshovel().unwrap(), "pgshovel"), (tests::paths::plugins().unwrap().join("kafka.wasm"), "kafka.wasm")]
    {
        std::fs::copy(from, world.folder().join(to)).unwrap();
    }
    let compiled = world.folder().join("cache");
    let limited = async |limit: u32| {
        let user = (USER + limit).to_string();
        let mut words = vec![format!("prlimit --nproc={limit}:{limit}")];
        // Of root nothing is counted, and of anybody else too much, but in a namespace of his own.
        words.push(if is_root() { format!("setpriv --reuid={user} --regid={user} --clear-groups") } else { "unshare --user".to_owned() });
        let words: Vec<&str> = words.iter().rev().flat_map(|words| words.split(' ')).collect();
        world
            .pgshovel(["stream", "lint", "stream.yaml", &format!("s{limit}")])
            .program(&world.folder().join("pgshovel"))
            .under(&words)
            .env("PGSHOVEL_PLUGIN_PATH", world.folder())
            .env("PGSHOVEL_CACHE_DIR", &compiled)
            .env("TOKIO_WORKER_THREADS", "2")
            .run()
            .await
    };
    // Compiling starts threads too: once, without a limit, for all.
    std::fs::create_dir_all(&compiled).unwrap();
    world.pgshovel(["stream", "lint", "stream.yaml", "s"]).env("PGSHOVEL_CACHE_DIR", &compiled).run().await;
    let (mut told, mut served) = (0, 0);
    for limit in LIMITS {
        let ended = limited(limit).await;
        let died = ended.code.is_none_or(|code| code > 4) || ended.stderr.contains("panicked at");
        assert!(!died, "limit {limit}: {ended:?}");
        told += u32::from(ended.stderr.contains("cannot start a thread") && ended.stderr.contains("pids.max"));
        served += u32::from(ended.stderr.contains("holds no message"));
    }
    assert!(told >= 3 && served >= 1, "{told} told, {served} served");
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0)
}
