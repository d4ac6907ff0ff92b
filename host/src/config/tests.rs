//! Every kind of mistake gives one message, as an operator sees it.

use std::time::Duration;

use crate::capabilities::Grants;
use expect_test::{Expect, expect};

use super::*;

fn path() -> &'static Path {
    Path::new("conf/app.yaml")
}

fn relay_of(text: &str) -> Result<RelayConfiguration> {
    parse(path(), text, |root| Ok(RelayConfiguration { stream: section::required(root, "stream", path())? }))
}

fn transforms_of(text: &str) -> Result<Vec<Section>> {
    parse(path(), text, |root| section::list(root, "transforms", path()))
}

fn refused(text: &str, expected: Expect) {
    let error = relay_of(text).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    expected.assert_eq(&error.message);
}

#[test]
fn a_whole_file() {
    let text = r#"
stream:
  path: file.wasm
  configuration: { segment: 64, ratio: 0.5, names: [a, "$${b}", null], on: true }
  grants:
    files: { path: ./stream, mode: read-write }
    kafka: { bootstrap.servers: "a:1", sasl.password: 12345, enable.x: true }
    postgres:
      warehouse: postgresql://u:hunter2@db/app
      audit: host=/run/pg dbname=b
  limits: { memory: 64MiB, call: 1500ms, compile: 2m, connections: 3 }
  sha256: "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeFF"
target: { path: x }
"#;
    let section = relay_of(text).unwrap().stream;
    assert_eq!(section.name, "stream");
    assert_eq!(section.folder(), Path::new("conf"));
    assert_eq!(section.configuration.to_string(), r#"{"segment":64,"ratio":0.5,"names":["a","${b}",null],"on":true}"#);
    assert_eq!(
        section.limits,
        Limits { memory: 64 << 20, call: Duration::from_millis(1500), compile: Duration::from_secs(120), connections: 3 }
    );
    assert_eq!(section.sha256.map(|digest| (digest[1], digest[31])), Some((0x11, 0xff)));
    assert_eq!(section.grants.files.as_ref().unwrap().path, Path::new("conf/./stream"));
    assert_eq!(section.grants.kafka.pick("kafka", None).unwrap().0["sasl.password"], "12345");
    assert_eq!(section.grants.postgres.pick("postgres", Some("audit")).unwrap().expose(), "host=/run/pg dbname=b");
    let shown = format!("{section:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("12345"), "{shown}");
}

#[test]
fn defaults() {
    let section = relay_of("stream: { path: a.wasm, grants: , configuration: }").unwrap().stream;
    assert_eq!(section.configuration.to_string(), "{}");
    assert_eq!((section.grants, section.limits, section.sha256), (Grants::default(), Limits::default(), None));
    assert_eq!(transforms_of("stream: { path: a }").unwrap(), []);
    let transforms = transforms_of("transforms: [{ path: a }, { path: b }]").unwrap();
    assert_eq!(transforms[1].name, "transforms[1]");
}

#[test]
fn no_yaml() {
    refused("", expect!["conf/app.yaml: the file is empty; it takes a section `stream`, such as stream: { path: file.wasm }"]);
    refused("# nothing\n", expect!["conf/app.yaml: the file is empty; it takes a section `stream`, such as stream: { path: file.wasm }"]);
    refused(
        "stream:\n\tpath: a\n",
        expect![
            "conf/app.yaml:2:1: not valid YAML: found character that cannot start any token; check the indentation, the colons and the quotes around it"
        ],
    );
    refused(
        "stream: {\n",
        expect![
            "conf/app.yaml:2:1: not valid YAML: did not find expected node content; check the indentation, the colons and the quotes around it"
        ],
    );
    refused(
        "stream: { path: a }\nstream: { path: b }\n",
        expect![[
            r#"conf/app.yaml:1:1: not valid YAML: duplicate entry with key "stream"; check the indentation, the colons and the quotes around it"#
        ]],
    );
    refused("- 1\n", expect!["conf/app.yaml:1:1: is a list; write a map with the keys `stream`, `loader`, `target`, `transforms`"]);
    refused("just text", expect!["conf/app.yaml:1:1: is a text; write a map with the keys `stream`, `loader`, `target`, `transforms`"]);
    refused(
        "stream: { path: a }\n---\nb: 1\n",
        expect![
            "conf/app.yaml: not valid YAML: deserializing from YAML containing more than one document is not supported; check the indentation, the colons and the quotes around it"
        ],
    );
}

#[test]
fn keys() {
    refused("streem: { path: a }\n", expect!["conf/app.yaml:1:1: streem: unknown key; did you mean `stream`?"]);
    refused("stream:\n  paht: a\n", expect!["conf/app.yaml:2:3: stream.paht: unknown key; did you mean `path`?"]);
    refused(
        "stream:\n  path: a\n  topic: b\n",
        expect!["conf/app.yaml:3:3: stream.topic: unknown key; the keys here are `path`, `configuration`, `grants`, `limits`, `sha256`"],
    );
    refused("loader: { path: a }\n", expect!["conf/app.yaml:1:1: the key `stream` is missing; write stream: { path: file.wasm }"]);
    refused(
        "stream: {}\n",
        expect!["conf/app.yaml:1:9: stream: the key `path` is missing; write the path of a component, such as path: file.wasm"],
    );
    refused("stream:\n", expect!["conf/app.yaml:1:1: the key `stream` is missing; write stream: { path: file.wasm }"]);
    refused("stream: { path: a, 5: b }\n", expect!["conf/app.yaml:1:9: stream: a key of this map is the number 5; put it in quotes"]);
    refused(
        "stream: { path: a, grants: { http: x } }\n",
        expect![
            "conf/app.yaml:1:36: stream.grants.http: is a text; write a map with the keys `origins`, `addresses`, `ca`, `certificate`, `key`, `headers`, `basic`, `bearer`, `oauth2`, `aws`, `connect`, `first_byte`, `between_bytes`"
        ],
    );
}

#[test]
fn kinds() {
    refused(
        "stream: file.wasm\n",
        expect!["conf/app.yaml:1:9: stream: is a text; write a map with the keys `path`, `configuration`, `grants`, `limits`, `sha256`"],
    );
    refused(
        "stream: { path: 5 }\n",
        expect!["conf/app.yaml:1:17: stream.path: is the number 5; write the path of a component, such as path: file.wasm"],
    );
    refused(
        "stream: { path: ' ' }\n",
        expect!["conf/app.yaml:1:17: stream.path: is an empty text; write the path of a component, such as path: file.wasm"],
    );
    refused(
        "stream: { path: a, configuration: [1] }\n",
        expect!["conf/app.yaml:1:35: stream.configuration: is a list; write a map, which the plugin gets as JSON"],
    );
    refused(
        "stream: { path: a, configuration: { a: [1, !x b] } }\n",
        expect!["conf/app.yaml:1:44: stream.configuration.a[1]: has the YAML tag !x; remove the tag, which JSON does not have"],
    );
    refused(
        "stream: { path: a, configuration: { a: .nan } }\n",
        expect!["conf/app.yaml:1:40: stream.configuration.a: is the number .nan; JSON has no such number; put it in quotes"],
    );
    refused(
        "stream: { path: a, configuration: { a: { 5: b } } }\n",
        expect!["conf/app.yaml:1:40: stream.configuration.a: a key of this map is the number 5; put it in quotes"],
    );
    let error = transforms_of("transforms: { path: a }").unwrap_err();
    expect!["conf/app.yaml:1:13: transforms: is a map; write a list, one item per plugin, such as - path: ./redact.wasm"]
        .assert_eq(&error.message);
    let error = transforms_of("transforms:\n- path: a\n- path: b\n  limits:\n    memory: 1\n").unwrap_err();
    expect!["conf/app.yaml:5:13: transforms[1].limits.memory: is the number 1; write a number with B, KiB, MiB or GiB, such as 64MiB"]
        .assert_eq(&error.message);
}

#[test]
fn limits() {
    refused(
        "stream:\n  path: a\n  limits: { memory: 64MB }\n",
        expect![[
            r#"conf/app.yaml:3:21: stream.limits.memory: "64MB" is not a size; write a number with B, KiB, MiB or GiB, such as 64MiB"#
        ]],
    );
    refused(
        "stream:\n  path: a\n  limits: { memory: 8GiB }\n",
        expect!["conf/app.yaml:3:21: stream.limits.memory: 8GiB is out of bounds; write a size from 1MiB to 4GiB"],
    );
    refused(
        "stream:\n  path: a\n  limits: { call: 30 }\n",
        expect!["conf/app.yaml:3:19: stream.limits.call: is the number 30; write a number with ms, s, m or h, such as 30s"],
    );
    refused(
        "stream:\n  path: a\n  limits: { call: 0s }\n",
        expect!["conf/app.yaml:3:19: stream.limits.call: 0s is out of bounds; write a duration from 10ms to 86400s"],
    );
    refused(
        "stream:\n  path: a\n  limits: { connections: 0 }\n",
        expect!["conf/app.yaml:3:26: stream.limits.connections: 0 is out of bounds; write a number from 1 to 1000"],
    );
    refused(
        "stream:\n  path: a\n  limits: { connections: many }\n",
        expect!["conf/app.yaml:3:26: stream.limits.connections: is a text; write a whole number from 1 to 1000"],
    );
    refused(
        "stream:\n  path: a\n  limits: { time: 3s }\n",
        expect!["conf/app.yaml:3:13: stream.limits.time: unknown key; the keys here are `memory`, `call`, `compile`, `connections`"],
    );
    refused(
        "stream: { path: a, sha256: abc }\n",
        expect![[
            r#"conf/app.yaml:1:28: stream.sha256: "abc" is not a SHA-256; write the 64 hexadecimal digits that `sha256sum` or `pgshovel plugin inspect` prints, in quotes"#
        ]],
    );
}

#[test]
fn grants() {
    refused(
        "stream: { path: a, grants: { postgres: [x] } }\n",
        expect![
            "conf/app.yaml:1:40: stream.grants.postgres: is a list; write a connection string, such as postgresql://app@localhost:5432/app"
        ],
    );
    refused(
        "stream: { path: a, grants: { postgres: host=a password=hunter2 port=x } }\n",
        expect![
            "conf/app.yaml:1:40: stream.grants.postgres: the connection string of the database is not valid: invalid value for option `port`; it takes libpq's form, such as host=localhost port=5432 dbname=app user=app, or postgresql://app@localhost:5432/app"
        ],
    );
    refused(
        "stream: { path: a, grants: { postgres: {} } }\n",
        expect!["conf/app.yaml:1:40: stream.grants.postgres: grants nothing; remove it, or write a map from names to resources"],
    );
    refused(
        "stream: { path: a, grants: { postgres: { 'a b': host=x } } }\n",
        expect!["conf/app.yaml:1:42: stream.grants.postgres.a b: is not a name; write letters, digits, - and _"],
    );
    refused(
        "stream: { path: a, grants: { kafka: { security.protocol: ssl } } }\n",
        expect!["conf/app.yaml:1:37: stream.grants.kafka: the key `bootstrap.servers` is missing; write bootstrap.servers: localhost:9092"],
    );
    refused(
        "stream: { path: a, grants: { kafka: { bootstrap.servers: [a] } } }\n",
        expect!["conf/app.yaml:1:58: stream.grants.kafka.bootstrap.servers: is a list; write the value of this property of librdkafka"],
    );
    refused(
        "stream: { path: a, grants: { files: /tmp } }\n",
        expect!["conf/app.yaml:1:37: stream.grants.files: is a text; write a map with the keys `path`, `mode`, `size`"],
    );
    refused(
        "stream: { path: a, grants: { files: { path: /tmp } } }\n",
        expect!["conf/app.yaml:1:37: stream.grants.files: the key `mode` is missing; write mode: read-only or mode: read-write"],
    );
    refused(
        "stream: { path: a, grants: { files: { path: /tmp, mode: rw } } }\n",
        expect![[r#"conf/app.yaml:1:57: stream.grants.files.mode: "rw" is not a mode; write mode: read-only or mode: read-write"#]],
    );
    refused(
        "stream:\n  path: a\n  grants:\n    postgres: ${env:PGSHOVEL_TEST_UNSET}\n",
        expect![
            "conf/app.yaml:4:15: stream.grants.postgres: the environment variable PGSHOVEL_TEST_UNSET is not set, or not UTF-8; set it, or remove ${env:PGSHOVEL_TEST_UNSET}"
        ],
    );
    refused(
        "stream: { path: a, grants: { kafka: '${file:no/such}' } }\n",
        expect!["conf/app.yaml:1:37: stream.grants.kafka: cannot read the file conf/no/such: No such file or directory (os error 2)"],
    );
}

#[test]
fn no_file() {
    let message = |path: &str| relay(Path::new(path)).unwrap_err().message;
    expect!["/nonexistent/a.yaml: cannot read the configuration: No such file or directory (os error 2); give the path of a YAML file"]
        .assert_eq(&message("/nonexistent/a.yaml"));
    expect!["/: not a file; give the path of a YAML file"].assert_eq(&message("/"));
}

#[test]
fn positions_survive_aliases() {
    refused(
        "a: &a { path: 5 }\n",
        expect!["conf/app.yaml:1:1: a: unknown key; the keys here are `stream`, `loader`, `target`, `transforms`"],
    );
    refused(
        "stream: &s\n  path: 5\nloader: *s\n",
        expect!["conf/app.yaml:2:9: stream.path: is the number 5; write the path of a component, such as path: file.wasm"],
    );
}
