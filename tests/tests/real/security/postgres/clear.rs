//! What goes over the network as it is.

use super::*;

/// Rows that anybody on the way can read are warned of, once for each server. On this
/// machine itself nobody is on the way.
///
/// Before, nothing was logged.
#[tokio::test]
async fn what_is_not_encrypted_is_warned_of() {
    // The address by which other machines know this one.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").expect("this machine needs an address other than the loopback's");
    let address = socket.local_addr().unwrap().ip();
    let world = World::start().await;
    world.zookeeper().await;
    let listen = format!("listen_addresses = '127.0.0.1,{address}'");
    let mut server = Postgres::create(&world.fleet(), "clear", &[SETTINGS[0], &listen]).unwrap();
    server.stop().unwrap();
    server.admit(&format!("host all all {address}/32 trust")).unwrap();
    server.start().unwrap();
    let app = world.source_of(&server, "app").await;
    app.execute("CREATE TABLE a (id int PRIMARY KEY)").await;
    let write = |host: &str| {
        let dsn = app.dsn().replace("127.0.0.1", host);
        world.write("s.pgshovel", &format!("database {{ dsn: {dsn:?} }}\ntables {{ name: \"a\" primary_keys: \"id\" }}\n"));
    };
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    let warned = |ended: tests::harness::Ended| {
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stderr.matches("is not encrypted").count()
    };
    write("127.0.0.1");
    assert_eq!(warned(world.pgshovel(["set", "create", "s", "s.pgshovel"]).run().await), 0);
    write(&address.to_string());
    assert_eq!(warned(world.pgshovel(["set", "update", "s", "s.pgshovel"]).run().await), 1);
    let authority = Certificate::authority("tests").unwrap();
    server.secure(&authority.issue(&GOOD).unwrap(), &authority, "").unwrap();
    assert_eq!(warned(world.pgshovel(["set", "list"]).run().await), 0);
}
