//! `/healthz` while others hold as many connections as they can.

use std::time::{Duration, Instant};

use tests::harness::World;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const CLIENTS: usize = 500;

/// Before: 64 clients that sent a byte every half second kept it away for more than 20 s,
/// and a liveness probe would have ended the process.
#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_keep_nobody_away() {
    let world = World::without_servers();
    world.write("relay.yaml", "stream: { path: file.wasm, grants: { files: { path: ./stream, mode: read-write } } }\n");
    let relay = world.pgshovel(["relay", "relay.yaml", "nothing", "--listen", "127.0.0.1:0"]);
    // It waits for what is not there.
    let mut relay = relay.env("PGSHOVEL_ZOOKEEPER_HOSTS", "127.0.0.1:1").allow("").start().await;
    let line: serde_json::Value = serde_json::from_str(&relay.logs("serving /healthz").await).unwrap();
    let address = line["address"].as_str().unwrap().to_owned();
    let slow: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let address = address.clone();
            tokio::spawn(async move {
                loop {
                    let Ok(mut stream) = TcpStream::connect(&address).await else { continue };
                    while stream.write_all(b"G").await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..5 {
        let asked = Instant::now();
        let (code, _) = relay.get("/healthz").await;
        assert_eq!(code, 200);
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    slow.iter().for_each(tokio::task::JoinHandle::abort);
    relay.kill().await;
}
