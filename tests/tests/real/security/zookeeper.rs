//! ZooKeeper knows who we are, we know that it is ZooKeeper, and nobody else reads or
//! writes what is in it.
//!
//! Before, every node was open to whoever reached ZooKeeper: configurations and
//! passwords could be read and changed there, and there was neither TLS nor a user.

use std::path::{Path, PathBuf};

use tests::harness::{Database, Program, World};
use tests::servers::ZooKeeper;
use tests::servers::certificates::{Certificate, Wanted};
use tests::servers::zookeeper::Security;
use zookeeper_client as zookeeper;

const OPEN: &str = "is open to whoever reaches it";
pub const ALICE: &str = "digest:alice:alice-secret";
const HERE: Wanted<'static> = Wanted { common_name: "test", names: &["localhost", "127.0.0.1"], days: (-1, 365) };
const USERS: &[(&str, &str)] = &[("alice", "alice-secret"), ("bob", "bob-secret")];

/// A server of the test's own, and how processes reach it.
pub struct Setting {
    pub world: World,
    server: ZooKeeper,
    authority: Certificate,
    /// Files in PEM.
    ca: PathBuf,
    ours: Pem,
}

impl Setting {
    /// A server that speaks TLS too, and knows users by SASL.
    pub fn new() -> Self {
        Self::with(|authority, certificate| Security { tls: Some((authority, certificate)), users: USERS, ..Security::default() })
    }

    fn with(security: impl for<'a> FnOnce(&'a Certificate, &'a Certificate) -> Security<'a>) -> Self {
        let world = World::without_servers();
        let authority = Certificate::authority("tests").unwrap();
        let (ca, ours) = (pem(&world, &authority, "ca").certificate, pem(&world, &authority.issue(&HERE).unwrap(), "ours"));
        let server = serve(&world, "zookeeper", security(&authority, &authority.issue(&HERE).unwrap()));
        Self { world, server, authority, ca, ours }
    }

    /// In the clear.
    pub fn pgshovel(&self, words: &[&str]) -> Program {
        reaching(&self.world, &self.server.hosts(), words)
    }

    /// By TLS.
    fn secure(&self, words: &[&str]) -> Program {
        self.secure_at(&self.server, words)
    }

    fn secure_at(&self, server: &ZooKeeper, words: &[&str]) -> Program {
        reaching(&self.world, &server.secure_hosts().unwrap(), words).env("PGSHOVEL_ZOOKEEPER_TLS_CA", &self.ca)
    }

    /// A client that says who it is by digest, or nothing.
    pub async fn client(&self, digest: Option<&str>) -> zookeeper::Client {
        let connector = zookeeper::Client::connector();
        let connector = match digest {
            Some(user) => connector.with_auth("digest", user.as_bytes()),
            None => connector,
        };
        connector.connect(&format!("{}/pg", self.server.hosts())).await.unwrap()
    }
}

struct Pem {
    certificate: PathBuf,
    key: PathBuf,
}

fn pem(world: &World, certificate: &Certificate, name: &str) -> Pem {
    certificate.write(world.folder(), name).unwrap();
    let file = |ending: &str| world.folder().join(format!("{name}.{ending}"));
    Pem { certificate: file("crt"), key: file("key") }
}

fn serve(world: &World, name: &str, security: Security<'_>) -> ZooKeeper {
    let name = format!("{name}-{}", world.cluster());
    ZooKeeper::create_with(&world.fleet(), &name, security).unwrap()
}

fn reaching(world: &World, hosts: &str, words: &[&str]) -> Program {
    world
        .pgshovel(words.iter().copied())
        .env("PGSHOVEL_ZOOKEEPER_HOSTS", format!("{hosts}/pg"))
        // Netty at times answers what follows the request for a session first; the client begins anew.
        .allow("unsupported server version")
}

/// A set of one table, from a source to a target.
pub async fn prepare(world: &World) -> (Database, Database) {
    let (source, target) = (world.source("source").await, world.target("target").await);
    for database in [&source, &target] {
        database.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    }
    world.write("set.pgshovel", &format!("database {{ dsn: \"{}\" }}\ntables {{ name: \"t\" primary_keys: \"id\" }}\n", source.dsn()));
    world.write("relay.yaml", "stream:\n  path: file.wasm\n  grants: { files: { path: ./stream, mode: read-write } }\n");
    world.write("replicate.yaml", &crate::replicate::setup::configuration(&target.uri(), ""));
    std::fs::create_dir_all(world.folder().join("stream")).unwrap();
    (source, target)
}

/// All nodes below `path`, read by one who may.
async fn tree(client: &zookeeper::Client, path: &str) -> Vec<String> {
    let (mut open, mut nodes) = (vec![path.to_owned()], Vec::new());
    while let Some(path) = open.pop() {
        open.extend(client.list_children(&path).await.unwrap().into_iter().map(|name| format!("{path}/{name}")));
        nodes.push(path);
    }
    nodes
}

/// Whatever way a process is known by: all nodes that it makes, those of leaders and of
/// changes in flight too, are closed to others, and all works as ever.
#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_are_closed_to_all_but_their_creator() {
    type Dress = fn(&Setting, Program) -> Program;
    let digest: Dress = |_, program| program.env("PGSHOVEL_ZOOKEEPER_AUTH", ALICE);
    let sasl: Dress = |_, program| program.env("PGSHOVEL_ZOOKEEPER_AUTH", "sasl:alice:alice-secret");
    let certificate: Dress = |setting, program| {
        program.env("PGSHOVEL_ZOOKEEPER_TLS_CERT", &setting.ours.certificate).env("PGSHOVEL_ZOOKEEPER_TLS_KEY", &setting.ours.key)
    };
    for (name, secure, dress) in
        [("digest", false, digest), ("sasl", false, sasl), ("certificate", true, certificate), ("sasl by TLS", true, sasl)]
    {
        let setting = Setting::new();
        let world = &setting.world;
        let (source, target) = prepare(world).await;
        let run = |words: &[&str]| dress(&setting, if secure { setting.secure(words) } else { setting.pgshovel(words) });
        // Not a word of open nodes: the harness allows that one only for the server that tests share.
        let ended = run(&["cluster", "initialize"]).run().await;
        assert!(ended.code == Some(0) && !ended.stderr.contains(OPEN), "{name}: {ended:?}");
        run(&["set", "create", "s", "set.pgshovel"]).succeeds().await;
        let mut relay = run(&["relay", "relay.yaml", "s"]).start().await;
        let mut worker = run(&["replicate", "replicate.yaml", "s"]).start().await;
        source.execute("INSERT INTO t SELECT generate_series(1, 100)").await;
        target.equals(&source, "public.t").await;
        relay.logs("leading").await;
        worker.logs("leading").await;

        let stranger = setting.client(Some("mallory:secret")).await;
        let cluster = format!("/{}", world.cluster());
        let inside = format!("{cluster}/leaders/s");
        for path in [cluster.clone(), format!("{cluster}/sets"), format!("{cluster}/sets/s"), format!("{cluster}/pending"), inside.clone()]
        {
            assert_eq!(stranger.get_data(&path).await.unwrap_err(), zookeeper::Error::NoAuth, "{name}: {path}");
            assert_eq!(stranger.set_data(&path, b"", None).await.unwrap_err(), zookeeper::Error::NoAuth, "{name}: {path}");
            assert_eq!(stranger.list_children(&path).await.unwrap_err(), zookeeper::Error::NoAuth, "{name}: {path}");
            let options = zookeeper::CreateMode::Persistent.with_acls(zookeeper::Acls::anyone_all());
            let created = stranger.create(&format!("{path}/ghost"), b"", &options).await;
            assert_eq!(created.map(drop).unwrap_err(), zookeeper::Error::NoAuth, "{name}: {path}");
        }
        if name == "digest" {
            let alice = setting.client(Some("alice:alice-secret")).await;
            let nodes = tree(&alice, &cluster).await;
            assert!(nodes.iter().filter(|path| path.starts_with(&inside)).count() == 3, "{nodes:?}");
            for path in nodes {
                let (acls, _) = alice.get_acl(&path).await.unwrap();
                assert!(acls.iter().all(|acl| acl.scheme() == "digest" && acl.id().starts_with("alice:")), "{path}: {acls:?}");
            }
        }
        let error = setting.pgshovel(&["set", "list"]).fails(3).await;
        assert!(
            error.contains("a process without credentials") && error.contains(&cluster) && error.contains("--zookeeper-auth-file"),
            "{error}"
        );
        let ended = relay.terminate().await;
        assert!(ended.code == Some(0) && !ended.stderr.contains(OPEN), "{name}: {}", ended.stderr);
        assert!(!ended.stderr.contains("alice-secret"));
        assert_eq!(worker.terminate().await.code, Some(0));
        run(&["set", "drop", "s"]).succeeds().await;
    }
}

/// A cluster that was made without credentials says so, and an upgrade closes it: whoever
/// runs on without is shut out and says why; nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_closes_what_was_open() {
    let setting = Setting::new();
    let world = &setting.world;
    let (source, target) = prepare(world).await;
    let ended = setting.pgshovel(&["cluster", "initialize"]).run().await;
    assert!(ended.code == Some(0) && ended.stderr.contains(OPEN) && ended.stderr.contains("--zookeeper-auth-file"), "{ended:?}");
    setting.pgshovel(&["set", "create", "s", "set.pgshovel"]).succeeds().await;
    let mut relay = setting.pgshovel(&["relay", "relay.yaml", "s"]).start().await;
    let mut worker = setting.pgshovel(&["replicate", "replicate.yaml", "s"]).start().await;
    for process in [&mut relay, &mut worker] {
        process.logs(OPEN).await;
        process.logs("leading").await;
    }
    source.execute("INSERT INTO t VALUES (1)").await;
    target.equals(&source, "public.t").await;
    for (words, code) in [(&["set", "check", "s"][..], 0), (&["cluster", "upgrade"], 0)] {
        let ended = setting.pgshovel(words).run().await;
        assert!(ended.code == Some(code) && ended.stderr.contains(OPEN), "{words:?}: {ended:?}");
    }

    let auth = world.write("auth", &format!("# who we are\n{ALICE}\n"));
    std::fs::set_permissions(&auth, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let known = |words: &[&str]| setting.pgshovel(words).env("PGSHOVEL_ZOOKEEPER_AUTH_FILE", &auth);
    let planned = known(&["cluster", "upgrade", "--dry-run"]).succeeds().await;
    assert!(planned.contains("digest user \"alice\" alone"), "{planned}");
    setting.pgshovel(&["set", "list"]).succeeds().await;
    let done = known(&["cluster", "upgrade"]).succeeds().await;
    // The cluster, sets, s, pending, leaders, s, and the two that lead.
    assert!(done.contains("the 8 nodes") && done.contains("; 8 had another ACL before"), "{done}");
    let again = known(&["cluster", "upgrade"]).succeeds().await;
    assert!(again.contains("; 0 had another ACL before"), "{again}");

    // The relay hears no more of the set, and ends. The worker asks nothing more, until its next start.
    let ended = relay.wait().await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("a process without credentials"), "{}", ended.stderr);
    assert_eq!(worker.terminate().await.code, Some(0));
    for words in [["relay", "relay.yaml", "s"], ["replicate", "replicate.yaml", "s"]] {
        let error = setting.pgshovel(&words).fails(3).await;
        assert!(error.contains("a process without credentials"), "{error}");
    }
    // Whoever is known goes on.
    let relay = known(&["relay", "relay.yaml", "s"]).start().await;
    let worker = known(&["replicate", "replicate.yaml", "s"]).start().await;
    source.execute("INSERT INTO t VALUES (2)").await;
    target.equals(&source, "public.t").await;
    for process in [relay, worker] {
        let ended = process.terminate().await;
        assert!(ended.code == Some(0) && !ended.stderr.contains(OPEN), "{ended:?}");
    }
    // A new password: both for a while, then the new one alone.
    let new = "digest:alice:new-secret";
    let as_both = |words: &[&str]| setting.pgshovel(words).env("PGSHOVEL_ZOOKEEPER_AUTH", format!("{ALICE}\n{new}"));
    let as_new = |words: &[&str]| setting.pgshovel(words).env("PGSHOVEL_ZOOKEEPER_AUTH", new);
    as_new(&["set", "list"]).fails(3).await;
    as_both(&["cluster", "upgrade"]).succeeds().await;
    as_new(&["set", "list"]).succeeds().await;
    as_new(&["cluster", "upgrade"]).succeeds().await;
    known(&["set", "list"]).fails(3).await;
}

/// Wrong users and passwords: one message with the remedy, 3, and nothing is created.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_the_user_is_told_so() {
    let setting = Setting::new();
    let world = &setting.world;
    setting.pgshovel(&["cluster", "initialize"]).env("PGSHOVEL_ZOOKEEPER_AUTH", ALICE).succeeds().await;
    let refused = async |credentials: &str, code: i32, texts: &[&str]| {
        for words in [&["set", "list"][..], &["cluster", "initialize"], &["cluster", "upgrade"]] {
            let error = setting.pgshovel(words).env("PGSHOVEL_ZOOKEEPER_AUTH", credentials).fails(code).await;
            assert!(texts.iter().all(|text| error.contains(text)), "{words:?}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    };
    refused("digest:alice:hunter2", 3, &["digest user \"alice\"", "--zookeeper-auth-file"]).await;
    refused("sasl:alice:hunter2", 3, &["refuses SASL user \"alice\"", "--zookeeper-auth-file"]).await;
    refused("sasl:bob:bob-secret", 3, &["keeps SASL user \"bob\" from the node /c"]).await;
    refused("hunter2", 3, &["PGSHOVEL_ZOOKEEPER_AUTH, line 1: it is not digest:USER:PASSWORD"]).await;
    refused("kerberos:a:hunter2", 3, &["it is not digest:USER:PASSWORD or sasl:USER:PASSWORD"]).await;
    let missing = setting.pgshovel(&["set", "list", "--zookeeper-auth-file", "absent"]).fails(3).await;
    assert!(missing.contains("--zookeeper-auth-file: cannot read absent"), "{missing}");
    world.write("auth", ALICE);
    let wide = setting.pgshovel(&["set", "list", "--zookeeper-auth-file", "auth"]).allow("run chmod 600").run().await;
    assert!(wide.code == Some(0) && wide.stderr.contains("run chmod 600"), "{wide:?}");
    let both = setting.pgshovel(&["set", "list", "--zookeeper-auth-file", "auth"]).env("PGSHOVEL_ZOOKEEPER_AUTH", ALICE).fails(2).await;
    assert!(both.contains("are both given"), "{both}");

    // A server that knows no SASL lets whoever asks for it pass as nobody, and says nothing.
    let simple = serve(world, "simple", Security::default());
    let words = ["cluster", "initialize"];
    let error = reaching(world, &simple.hosts(), &words).env("PGSHOVEL_ZOOKEEPER_AUTH", "sasl:alice:alice-secret").fails(3).await;
    assert!(error.contains("takes no notice of SASL user \"alice\"") && error.contains("authProvider.sasl"), "{error}");
    let client = zookeeper::Client::connect(&simple.hosts()).await.unwrap();
    assert_eq!(client.list_children("/").await.unwrap(), ["zookeeper"]);

    // And one that serves nobody without it.
    let strict = serve(world, "strict", Security { users: USERS, demands_sasl: true, ..Security::default() });
    let error = reaching(world, &strict.hosts(), &words).fails(3).await;
    assert!(error.contains("refuses a process without credentials") && error.contains("--zookeeper-auth-file"), "{error}");
    reaching(world, &strict.hosts(), &words).env("PGSHOVEL_ZOOKEEPER_AUTH", "sasl:alice:alice-secret").succeeds().await;
}

/// Certificates that will not do: each is told apart, with the remedy, by the exit code of
/// configuration. Before, there was no TLS.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_will_not_do_is_told_what_is_wrong() {
    let setting = Setting::with(|authority, certificate| Security {
        tls: Some((authority, certificate)),
        demands_certificate: true,
        ..Security::default()
    });
    let Setting { world, server, authority, ca, ours } = &setting;
    let words = ["cluster", "initialize"];
    let with = |program: Program, certificate: &Path, key: &Path| {
        program.env("PGSHOVEL_ZOOKEEPER_TLS_CERT", certificate).env("PGSHOVEL_ZOOKEEPER_TLS_KEY", key)
    };
    let says = async |program: Program, code: i32, text: &str| {
        let error = program.fails(code).await;
        let last = error.lines().last().unwrap_or_default();
        assert!(last.contains(text), "{text}: {error}");
    };
    // Ours.
    says(setting.secure(&words), 3, "give --zookeeper-tls-cert and --zookeeper-tls-key").await;
    let strangers = Certificate::authority("strangers").unwrap();
    let stranger = pem(world, &strangers.issue(&HERE).unwrap(), "stranger");
    let strangers = pem(world, &strangers, "strangers").certificate;
    says(with(setting.secure(&words), &stranger.certificate, &stranger.key), 3, "stranger.crt (").await;
    let over = authority.issue(&Wanted { days: (-2, -1), ..HERE }).unwrap();
    let expired = pem(world, &over, "expired");
    says(with(setting.secure(&words), &expired.certificate, &expired.key), 3, "see that it has not expired").await;
    says(with(setting.secure(&words), &ours.certificate, &stranger.key), 3, "does not fit the certificate in").await;
    let garbage = world.write("garbage.pem", "-----BEGIN CERTIFICATE-----\nhunter2\n");
    says(with(setting.secure(&words), &garbage, &ours.key), 3, "--zookeeper-tls-cert").await;
    says(with(setting.secure(&words), &ours.certificate, &garbage), 3, "it holds no private key in PEM").await;
    says(with(setting.secure(&words), Path::new("absent.pem"), &ours.key), 3, "--zookeeper-tls-cert: cannot read absent.pem").await;
    says(setting.secure(&words).env("PGSHOVEL_ZOOKEEPER_TLS_KEY", &ours.key), 2, "without --zookeeper-tls-cert").await;
    says(setting.secure(&words).env("PGSHOVEL_ZOOKEEPER_TLS_CA", &ours.key), 3, "it holds no certificate in PEM").await;
    // The server's.
    let known = |program: Program| with(program, &ours.certificate, &ours.key);
    says(known(setting.secure(&words)).env("PGSHOVEL_ZOOKEEPER_TLS_CA", strangers), 3, "give --zookeeper-tls-ca the CA that has").await;
    let other = authority.issue(&Wanted { names: &["elsewhere.example"], ..HERE }).unwrap();
    let renewed = serve(world, "expired", Security { tls: Some((authority, &over)), ..Security::default() });
    says(setting.secure_at(&renewed, &words), 3, "has expired: renew it on the server").await;
    let renamed = serve(world, "renamed", Security { tls: Some((authority, &other)), ..Security::default() });
    says(setting.secure_at(&renamed, &words), 3, "has a certificate for another name").await;
    let own = Certificate::self_signed(&HERE).unwrap();
    let selfish = serve(world, "selfish", Security { tls: Some((authority, &own)), ..Security::default() });
    // Known as an authority, and not known at all.
    let trusted = pem(world, &own, "own").certificate;
    says(setting.secure_at(&selfish, &words).env("PGSHOVEL_ZOOKEEPER_TLS_CA", trusted), 3, "signs itself").await;
    says(setting.secure_at(&selfish, &words), 3, "--zookeeper-tls-ca").await;
    // The port.
    says(reaching(world, &server.hosts(), &words).env("PGSHOVEL_ZOOKEEPER_TLS_CA", ca), 3, "does not speak TLS on this port").await;
    says(reaching(world, &server.secure_hosts().unwrap(), &words), 4, "whether it wants TLS (--zookeeper-tls-ca)").await;
    says(reaching(world, &format!("tcp://{}", server.hosts()), &words), 2, "TLS is switched on by --zookeeper-tls-ca").await;
    // Nothing was made by any of them.
    let client = zookeeper::Client::connect(&server.hosts()).await.unwrap();
    assert_eq!(client.list_children("/").await.unwrap(), ["zookeeper"]);
    known(setting.secure(&words)).succeeds().await;
}
