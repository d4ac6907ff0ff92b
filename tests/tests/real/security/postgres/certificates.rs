//! Which certificates are taken, and what is said of the others.

use super::*;

/// Everything but the certificate decides by these.
const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
const ACCESS: &str = "hostssl all only_tls 127.0.0.1/32 trust\nhostnossl all only_clear 127.0.0.1/32 trust\n\
     host all only_tls 127.0.0.1/32 reject\nhost all only_clear 127.0.0.1/32 reject";

/// What psql makes of it.
fn as_psql(setting: &Setting, dsn: &str) -> Option<bool> {
    let output = setting
        .server
        .client("psql", "postgres")
        .args(["-XAtc", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", dsn])
        .output()
        .unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim() == "t")
}

/// We connect where psql connects, and by TLS where it does.
///
/// Before, `allow`, `verify-ca`, `verify-full`, `sslrootcert` and client's certificates were
/// unknown; `prefer` failed at a private authority, as did `require`.
#[tokio::test]
async fn each_mode_means_what_libpq_means_by_it() {
    let mut setting = Setting::new();
    setting.execute("CREATE ROLE only_tls LOGIN; CREATE ROLE only_clear LOGIN").await;
    let stranger = Certificate::authority("stranger").unwrap();
    let kinds = [
        ("none", None),
        ("good", Some(setting.authority.issue(&GOOD).unwrap())),
        ("named by its common name", Some(setting.authority.issue(&Wanted { common_name: NAME, ..Wanted::default() }).unwrap())),
        (
            "of another name",
            Some(setting.authority.issue(&Wanted { common_name: NAME, names: &["other.test"], ..Wanted::default() }).unwrap()),
        ),
        ("ended", Some(setting.authority.issue(&Wanted { days: (-30, -1), ..GOOD }).unwrap())),
        ("not begun", Some(setting.authority.issue(&Wanted { days: (1, 30), ..GOOD }).unwrap())),
        ("of a stranger", Some(stranger.issue(&GOOD).unwrap())),
        ("self-signed", Some(Certificate::self_signed(&GOOD).unwrap())),
    ];
    let (mut compared, mut connected) = (0, 0);
    for (index, (kind, certificate)) in kinds.iter().enumerate() {
        let mut roots = vec![String::new(), setting.root()];
        let mut users = vec!["postgres"];
        if let Some(certificate) = certificate {
            // Whoever trusts a certificate itself needs no authority.
            certificate.write(setting.world.folder(), "own").unwrap();
            roots.push(format!("sslrootcert={}", setting.file("own.crt").display()));
            setting.server.secure(certificate, &setting.authority, if index == 1 { ACCESS } else { "" }).unwrap();
        }
        if *kind == "good" {
            users.extend(["only_tls", "only_clear"]);
        }
        for (mode, root, user) in MODES
            .iter()
            .flat_map(|mode| roots.iter().flat_map(move |root| [(mode, root)]))
            .flat_map(|(mode, root)| users.iter().map(move |user| (mode, root, user)))
        {
            let dsn = setting.dsn_of(user, &format!("sslmode={mode} {root}"));
            let (ours, theirs) = (by_tls(&dsn).await, as_psql(&setting, &dsn));
            assert_eq!(ours.as_ref().ok(), theirs.as_ref(), "certificate {kind}: {dsn}: {ours:?}");
            if let Err(error) = ours {
                assert_eq!(error.next, Next::Configure, "{dsn}: {error}");
            }
            compared += 1;
            connected += u32::from(theirs.is_some());
        }
    }
    assert!(connected > compared / 3 && connected < compared, "{connected} of {compared} connect");
}

/// Each certificate that is refused is named, with what to do, and at once.
///
/// Before, a relay tried again for ever, saying "invalid peer certificate: UnknownIssuer".
#[tokio::test]
async fn a_refused_certificate_is_explained() {
    let mut setting = Setting::new();
    let full = setting.dsn(&format!("sslmode=verify-full {}", setting.root()));
    refused(&full, &["takes no TLS connections", "sslmode=verify-full", "ssl = on"]).await;
    for (certificate, words) in [
        (
            setting.authority.issue(&Wanted { names: &["other.test", "10.0.0.5"], ..GOOD }),
            ["\"other.test\", \"10.0.0.5\", and not for \"db.test\"", "sslmode=verify-ca"],
        ),
        (setting.authority.issue(&Wanted { days: (-30, -1), ..GOOD }), ["CN=server", "ended on"]),
        (setting.authority.issue(&Wanted { days: (1, 30), ..GOOD }), ["begins on", "clock"]),
        (Certificate::self_signed(&GOOD), ["is signed by itself", "sslrootcert=FILE"]),
        (Certificate::authority("a stranger").unwrap().issue(&GOOD), ["is signed by \"CN=a stranger\", whom", "ca.crt does not hold"]),
    ] {
        setting.server.secure(&certificate.unwrap(), &setting.authority, "").unwrap();
        refused(&full, &words).await;
    }
    // The system trusts none of ours.
    let system = setting.dsn("sslrootcert=system");
    refused(&system, &["the system's certificates does not hold", "sslrootcert=FILE"]).await;
    refused(&setting.dsn("sslrootcert=system sslmode=require"), &["sslmode has to be verify-full"]).await;
}

/// A wrong file is one message that names it, and nothing has changed.
///
/// Before, none of the keywords was known.
#[tokio::test]
async fn wrong_files_are_named() {
    let setting = Setting::secure("");
    let world = &setting.world;
    setting.authority.issue(&Wanted { common_name: "postgres", ..Wanted::default() }).unwrap().write(world.folder(), "ours").unwrap();
    setting.authority.issue(&GOOD).unwrap().write(world.folder(), "another").unwrap();
    let encrypted = setting.authority.issue(&GOOD).unwrap();
    encrypted.write(world.folder(), "encrypted").unwrap();
    let key = encrypted.encrypted_key_pem("sesame").unwrap();
    std::fs::write(setting.file("encrypted.key"), key).unwrap();
    world.write("garbage.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    world.write("empty.crt", "");
    std::fs::copy(setting.file("ours.key"), setting.file("open.key")).unwrap();
    std::fs::set_permissions(setting.file("open.key"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let at = |name: &str| setting.file(name).display().to_string();
    let ours = format!("sslcert={} sslkey={}", at("ours.crt"), at("ours.key"));
    let encrypted = format!("sslcert={} sslkey={}", at("encrypted.crt"), at("encrypted.key"));
    for (more, words) in [
        (format!("sslmode=require sslrootcert={}", at("absent.crt")), [at("absent.crt"), "(sslrootcert)".into()]),
        (format!("sslmode=verify-ca sslrootcert={}", at("garbage.crt")), [at("garbage.crt"), "cannot read".into()]),
        (format!("sslmode=verify-ca sslrootcert={}", at("empty.crt")), [at("empty.crt"), "no certificate".into()]),
        (format!("sslmode=verify-ca sslrootcert={}", world.folder().display()), ["no file".into(), "(sslrootcert)".into()]),
        (format!("sslmode=require sslcert={} sslkey={}", at("ours.crt"), at("absent.key")), [at("absent.key"), "(sslkey)".into()]),
        (
            format!("sslmode=require sslcert={} sslkey={}", at("ours.crt"), at("another.key")),
            [at("another.key"), "do not belong together".into()],
        ),
        (format!("sslmode=require sslcert={} sslkey={}", at("ours.crt"), at("open.key")), [at("open.key"), "chmod 600".into()]),
        (format!("sslmode=require {encrypted}"), [at("encrypted.key"), "sslpassword=".into()]),
        (format!("sslmode=require {encrypted} sslpassword=parsley"), [at("encrypted.key"), "sslpassword=".into()]),
        ("sslmode=verify".into(), ["sslmode takes".into(), "verify-full".into()]),
    ] {
        refused(&setting.dsn(&more), &words.each_ref().map(String::as_str)).await;
    }
    for more in [format!("sslmode=require {ours}"), format!("sslmode=require {encrypted} sslpassword=sesame")] {
        assert!(by_tls(&setting.dsn(&more)).await.unwrap(), "{more}");
    }
}

/// A server that wants certificates of its clients gets them, and says which it does not like.
///
/// Before, there were none.
#[tokio::test]
async fn a_client_is_known_by_its_certificate() {
    let setting = Setting::secure("hostssl all holder 127.0.0.1/32 cert");
    setting.execute("CREATE ROLE holder LOGIN").await;
    let holder = Wanted { common_name: "holder", ..Wanted::default() };
    setting.authority.issue(&holder).unwrap().write(setting.world.folder(), "ours").unwrap();
    Certificate::authority("stranger").unwrap().issue(&holder).unwrap().write(setting.world.folder(), "strange").unwrap();
    let dsn = |name: &str| {
        let files =
            format!("sslcert={} sslkey={}", setting.file(&format!("{name}.crt")).display(), setting.file(&format!("{name}.key")).display());
        setting.dsn_of("holder", &format!("sslmode=verify-full {} {files}", setting.root()))
    };
    assert!(by_tls(&dsn("ours")).await.unwrap());
    refused(&dsn("strange"), &["strange.crt", "ssl_ca_file"]).await;
    refused(&setting.dsn_of("holder", "sslmode=require"), &["valid client certificate", "sslcert=FILE"]).await;
}

/// Before, a relay waited for ever for a certificate to become good.
#[tokio::test]
async fn the_commands_end_with_the_code_of_configuration() {
    let setting = Setting::secure("");
    let world = World::start().await;
    world.zookeeper().await;
    let app = world.source_of(&setting.server, "app").await;
    app.execute("CREATE TABLE a (id int PRIMARY KEY)").await;
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    let write = |more: &str| {
        let dsn = format!("{} dbname={} {more}", setting.dsn(""), app.name());
        world.write("s.pgshovel", &format!("database {{ dsn: {dsn:?} }}\ntables {{ name: \"a\" primary_keys: \"id\" }}\n"));
    };
    std::fs::create_dir_all(world.folder().join("stream")).unwrap();
    world.write("relay.yaml", "stream:\n  path: file.wasm\n  grants: { files: { path: ./stream, mode: read-write } }\n");
    // A wrong root: nothing is made.
    Certificate::authority("other").unwrap().write(world.folder(), "other").unwrap();
    write("sslmode=verify-full sslrootcert=other.crt");
    let said = world.pgshovel(["set", "create", "s", "s.pgshovel"]).fails(3).await;
    assert!(said.contains("is signed by \"CN=tests\", whom other.crt does not hold"), "{said}");
    assert_eq!(app.value("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'pgshovel%'").await.as_deref(), Some("0"));
    // The right one: all goes on, until it is taken away.
    setting.authority.write(world.folder(), "trusted").unwrap();
    write("sslmode=verify-full sslrootcert=trusted.crt");
    world.pgshovel(["set", "create", "s", "s.pgshovel"]).succeeds().await;
    let relay = world.pgshovel(["relay", "relay.yaml", "s"]).start().await;
    app.execute("INSERT INTO a VALUES (1)").await;
    pgshovel_reads(&app).await;
    let ssl = "SELECT bool_and(ssl) AND count(*) > 1 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'pgshovel relay%'";
    assert_eq!(app.value(ssl).await.as_deref(), Some("t"));
    assert_eq!(relay.terminate().await.code, Some(0));
    std::fs::copy(world.folder().join("other.crt"), world.folder().join("trusted.crt")).unwrap();
    let said = world.pgshovel(["relay", "relay.yaml", "s"]).fails(3).await;
    assert!(said.contains("whom trusted.crt does not hold"), "{said}");
    // And for a plugin's grant.
    let target = world.target("target").await;
    target.execute("CREATE TABLE a (id int PRIMARY KEY)").await;
    let grant = format!("postgresql://postgres@127.0.0.1:{}/{}?sslmode=require", target.port(), target.name());
    world.write("replicate.yaml", &crate::replicate::setup::configuration(&grant, ""));
    let said = world.pgshovel(["replicate", "replicate.yaml", "s"]).fails(3).await;
    assert!(said.contains("takes no TLS connections"), "{said}");
}

/// The relay's sessions are there.
async fn pgshovel_reads(app: &tests::harness::Database) {
    tests::harness::eventually("the relay's sessions", std::time::Duration::from_secs(60), || async {
        let count = app.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgshovel relay%'").await;
        if count.as_deref().is_some_and(|count| count.parse::<u32>().unwrap() > 1) { Ok(()) } else { Err(format!("{count:?} sessions")) }
    })
    .await;
}
