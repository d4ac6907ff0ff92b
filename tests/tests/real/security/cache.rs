//! The folder of compiled plugins: what lies in it runs in the host.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tests::harness::{Ended, World};
use tests::paths;

const COMPONENT: &str = "(component (instance $nothing) (export \"pgshovel:plugin/stream-reader@0.2.0\" (instance $nothing)))";
/// What the component above comes to.
const IS_COMPONENT: &str = "its interface differs";
/// What the probe comes to.
const IS_PROBE: &str = "line one";

async fn run(world: &World, component: &str, more: &str, cache: &Path) -> Ended {
    let section = format!("{{ path: {component}, configuration: {{ next: stop }}, grants: {{ postgres: \"host=/nowhere\"{more} }}");
    world.write("stream.yaml", &format!("stream: {section}\n"));
    world.pgshovel(["stream", "lint", "stream.yaml", "set", "--wait", "1"]).env("PGSHOVEL_CACHE_DIR", cache).run().await
}

/// The one entry of a cache; beside it lie figures of how it was used.
fn entry(cache: &Path) -> Option<PathBuf> {
    let mut folders = vec![cache.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_none() {
                found.push(path);
            }
        }
    }
    assert!(found.len() <= 1, "{found:?}");
    found.pop()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Before: with the entry of another component in its place, that one ran under the
/// `sha256` of the first.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_pinned_is_not_taken_from_the_cache() {
    let world = World::without_servers();
    let other = world.folder().join("other.wasm");
    fs::write(&other, wat::parse_str(COMPONENT).unwrap()).unwrap();
    let [first, second] = ["first", "second"].map(|name| world.folder().join(name));
    assert!(run(&world, "probe.wasm", " }", &first).await.stderr.contains(IS_PROBE));
    assert!(run(&world, "./other.wasm", " }", &second).await.stderr.contains(IS_COMPONENT));
    fs::copy(entry(&second).unwrap(), entry(&first).unwrap()).unwrap();
    // It is the cache that decides for what is not pinned.
    let fooled = run(&world, "probe.wasm", " }", &first).await;
    assert!(fooled.stderr.contains(IS_COMPONENT), "{}", fooled.stderr);
    let inspected =
        world.pgshovel(["plugin", "inspect", "--format", "json", paths::plugins().unwrap().join("probe.wasm").to_str().unwrap()]);
    let inspected: serde_json::Value = serde_json::from_str(&inspected.succeeds().await).unwrap();
    let pinned = format!(" }}, sha256: {}", inspected["sha256"]);
    let ended = run(&world, "probe.wasm", &pinned, &first).await;
    assert!(ended.stderr.contains(IS_PROBE) && !ended.stderr.contains(IS_COMPONENT), "{}", ended.stderr);
}

/// Before: it was 0755 with entries of 0644, wherever it was, and whoever owned it.
#[tokio::test(flavor = "multi_thread")]
async fn the_cache_is_its_users_alone() {
    let world = World::without_servers();
    let cache = world.folder().join("cache");
    run(&world, "probe.wasm", " }", &cache).await;
    assert!(entry(&cache).is_some());
    let compiled = cache.join("compiled-plugins");
    assert_eq!([mode(&cache), mode(&compiled)], [0o700, 0o700]);
    // One that a version before made is closed.
    fs::set_permissions(&compiled, fs::Permissions::from_mode(0o755)).unwrap();
    run(&world, "probe.wasm", " }", &cache).await;
    assert_eq!(mode(&compiled), 0o700);
    // One that others may write in is not used, nor one that lies in such a folder.
    for (open, at) in [(0o770, &compiled), (0o777, &compiled), (0o777, &cache)] {
        fs::remove_file(entry(&cache).unwrap()).unwrap();
        fs::set_permissions(at, fs::Permissions::from_mode(open)).unwrap();
        let ended = run(&world, "probe.wasm", " }", &cache).await;
        assert!(ended.stderr.contains("others may write in") && ended.stderr.contains("--cache-dir"), "{}", ended.stderr);
        assert!(ended.stderr.contains(IS_PROBE) && entry(&cache).is_none(), "{}", ended.stderr);
        fs::set_permissions(at, fs::Permissions::from_mode(0o700)).unwrap();
        run(&world, "probe.wasm", " }", &cache).await;
        assert!(entry(&cache).is_some());
    }
}

/// Before: a plugin that was granted a folder with the cache in it chose what ran in the host.
#[tokio::test(flavor = "multi_thread")]
async fn no_grant_contains_the_cache() {
    let world = World::without_servers();
    let cache = world.folder().join("home/cache");
    for granted in ["./home", "./home/cache/compiled-plugins/below", "./home/../home"] {
        let more = format!(", files: {{ path: {granted}, mode: read-write }} }}");
        let ended = run(&world, "probe.wasm", &more, &cache).await;
        assert_eq!(ended.code, Some(3), "{}", ended.stderr);
        for text in ["stream.yaml: stream.grants.files", "lie one in the other", "--cache-dir"] {
            assert!(ended.stderr.contains(text), "{text}: {}", ended.stderr);
        }
    }
    let ended = run(&world, "probe.wasm", ", files: { path: ./home/stream, mode: read-write } }", &cache).await;
    assert!(ended.stderr.contains(IS_PROBE), "{}", ended.stderr);
}
