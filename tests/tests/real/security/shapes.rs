//! Components that harm by what they are, before any of their code runs: hand-made ones.

use std::fmt::Write as _;

use tests::harness::World;

use super::limits::{MEMORY_MIB, Outcome, fails, run};

/// A stream, as far as one can see from outside.
const EXPORT: &str = "(instance $nothing) (export \"pgshovel:plugin/stream-reader@0.2.0\" (instance $nothing))";

/// Writes a component, and the section that names it.
fn component(world: &World, name: &str, body: &str, limits: &str) -> String {
    let bytes = wat::parse_str(format!("(component {body} {EXPORT})")).unwrap();
    std::fs::write(world.folder().join(format!("{name}.wasm")), bytes).unwrap();
    format!("{{ path: ./{name}.wasm, limits: {{ {limits} }} }}")
}

const BRANCH: &str = "(block (br_if 0 (local.get 0)))";

fn times(count: usize, item: &str) -> String {
    item.repeat(count)
}

/// Each holds twice the one before.
fn nested(levels: usize) -> String {
    let mut inner = "(core module $m (global i32 (i32.const 0))) (core instance (instantiate $m))".to_owned();
    for level in 0..levels {
        let mut outer = String::new();
        let _ = write!(outer, "(component $c{level} {inner}) (instance (instantiate $c{level})) (instance (instantiate $c{level}))");
        inner = outer;
    }
    inner
}

/// Before: 200 instances of a module with a million globals took 3.3 GiB of the host, with
/// `memory: 1MiB`; instances, memories and tables were bounded by 10,000 each.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_component_is_made_of_is_bounded() {
    let world = World::without_servers();
    let module = |content: &str| format!("(core module $m {content})");
    let instances = |count: usize| times(count, "(core instance (instantiate $m))");
    let globals = |count: usize| times(count, "(global i64 (i64.const 0))");
    let fewer = "build it with fewer";
    for (name, body, says) in [
        ("instances", module("") + &instances(101), ["instance count too high at 101", fewer]),
        ("nested", nested(12), ["instance count too high", fewer]),
        ("memories", module("(memory 0)") + &instances(17), ["memory count too high at 17", fewer]),
        ("tables", module(&times(11, "(table 0 funcref)")) + &instances(10), ["table count too high", fewer]),
        ("globals", module(&globals(900_000)) + &instances(50), ["instance count too high at 3", fewer]),
        ("functions", module(&times(900_000, "(func)")), ["compiling it takes about", "raise limits.memory"]),
        (
            "branches",
            module(&format!("(func (param i32) {})", times(300_000, BRANCH))),
            ["compiling it takes about", "raise limits.memory"],
        ),
        ("table", module("(table 3000000 funcref)") + &instances(1), ["needs more than its 16MiB of memory", "raise limits.memory"]),
        (
            "types",
            module(&times(900_000, "(type (func (param i32 i64)))")) + &instances(1),
            ["its interface differs", "build the plugin again"],
        ),
        ("memory", module("(memory 300)") + &instances(1), ["needs more than its 16MiB of memory", "raise limits.memory"]),
    ] {
        fails(&world, name, &component(&world, name, &body, &format!("memory: {MEMORY_MIB}MiB")), 3, &says).await;
    }
}

/// Before: a function with 600,000 branches was compiled for up to 170 s, whatever `call` said.
#[tokio::test(flavor = "multi_thread")]
async fn compiling_takes_no_longer_than_it_may() {
    let world = World::without_servers();
    let body = format!("(core module $m (func (param i32) {}))", times(300_000, BRANCH));
    let Outcome { ended, took, .. } = run(&world, "slow", &component(&world, "slow", &body, "memory: 2GiB, compile: 1s")).await;
    for text in ["compiling it takes more than 1s", "raise limits.compile in the section `stream`"] {
        assert!(ended.code == Some(3) && ended.stderr.contains(text), "{}", ended.stderr);
    }
    assert!(took.as_secs() < 20, "{took:?}");
}

/// A file has a size before it is read, or no end at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_as_far_as_a_component_may_be_large() {
    let world = World::without_servers();
    let file = world.folder().join("large.wasm");
    std::fs::File::create(&file).unwrap().set_len(3 << 30).unwrap();
    fails(&world, "large", "{ path: ./large.wasm }", 3, &["the file is too large"]).await;
    for path in ["large.wasm", "/dev/zero"] {
        let said = world.pgshovel(["plugin", "inspect", path]).fails(3).await;
        assert!(said.contains("the file is too large"), "{said}");
    }
}
