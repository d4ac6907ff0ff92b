//! What is wrong with a grant, as an operator sees it.

use super::*;

fn wrong(value: serde_json::Value, expected: &str) {
    let problem = grant(value).unwrap_err();
    let text = format!("{}: {}", crate::yaml::join(&problem.path), problem.message);
    assert_eq!(text, expected);
}

const ORIGINS: &str = "write a list of the servers that it may ask, such as origins: [\"https://search.example:9200/index/\"]";
const ORIGIN: &str = "write a scheme, a host and what else bounds it, such as https://search.example:9200/index/";

#[test]
fn grants_are_read() {
    let one = grant(json!({
        "origins": ["https://a.example/x", "http://[::1]:8080"], "addresses": ["10.0.0.0/8", "::1"], "ca": "ca.pem", "certificate": "c.pem",
        "key": "k.pem", "headers": { "x-api-key": "${env:SECRET}" }, "basic": { "user": "app", "password": "${env:SECRET}" },
        "connect": "1s", "first_byte": "2s", "between_bytes": "3s",
    }));
    let Ok(Resources::One(one)) = one else { panic!("{one:?}") };
    let shown = format!("{one:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(one.origins[0].to_string(), "https://a.example/x/");
    assert_eq!(one.ca.as_deref(), Some(Path::new("/nowhere/ca.pem")));
    assert_eq!(one.headers[0].1.expose(), "hunter2");
    let two = grant(json!({ "a": { "origins": ["https://a.example"] }, "b": { "origins": ["https://b.example"] } })).unwrap();
    assert!(matches!(two, Resources::Named(two) if two.len() == 2));
    for way in [
        json!({ "bearer": "${env:SECRET}" }),
        json!({ "bearer": { "file": "token" } }),
        json!({ "oauth2": { "token_url": "https://id.example/token", "client_id": "a", "client_secret": "${env:SECRET}", "scope": "b" } }),
        json!({ "aws": { "service": "s3", "region": "eu-central-1", "credentials": "environment" } }),
        json!({ "aws": { "service": "s3", "region": "eu-central-1", "credentials": { "access_key_id": "a", "secret_access_key": "${env:SECRET}" } } }),
        json!({ "aws": { "service": "s3", "region": "eu-central-1", "credentials": { "profile": "app", "file": "credentials" } } }),
    ] {
        let mut value = json!({ "origins": ["https://a.example"] });
        value.as_object_mut().unwrap().extend(way.as_object().unwrap().clone());
        let shown = format!("{:?}", grant(value).map_err(|problem| problem.message).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn mistakes_are_named() {
    wrong(json!({}), &format!(": the key `origins` is missing; {ORIGINS}"));
    wrong(
        json!(null),
        ": has no value; write a map with the keys `origins`, `addresses`, `ca`, `certificate`, `key`, `headers`, `basic`, `bearer`, `oauth2`, `aws`, `connect`, `first_byte`, `between_bytes`",
    );
    wrong(json!({ "origins": [] }), &format!("origins: names nothing; {ORIGINS}"));
    wrong(json!({ "origins": "https://a.example" }), &format!("origins: is a text; {ORIGINS}"));
    wrong(json!({ "origins": ["/index/"] }), &format!("origins[0]: has no scheme; {ORIGIN}"));
    wrong(json!({ "origins": ["https:///index/"] }), &format!("origins[0]: has a host that is empty; {ORIGIN}"));
    wrong(
        json!({ "origins": ["https://a", "https://u:p@b"] }),
        &format!("origins[1]: has a user in front of the host; only the host's own authentication is sent; {ORIGIN}"),
    );
    wrong(json!({ "orgins": ["https://a"] }), "orgins: unknown key; did you mean `origins`?");
    wrong(json!({ "origins": ["https://a"], "adresses": ["10.0.0.0/8"] }), "adresses: unknown key; did you mean `addresses`?");
    wrong(
        json!({ "search": { "origins": ["https://a"], "kerberos": {} } }),
        "search.kerberos: unknown key; the keys here are `origins`, `addresses`, `ca`, `certificate`, `key`, `headers`, `basic`, `bearer`, `oauth2`, `aws`, `connect`, `first_byte`, `between_bytes`",
    );
    wrong(
        json!({ "origins": ["https://a"], "addresses": ["a"] }),
        "addresses[0]: \"a\" is no address; write an address or a network by number, such as 10.1.2.3 or 10.0.0.0/8",
    );
    wrong(json!({ "origins": ["https://a"], "certificate": "c" }), ": has a certificate and no key; write key: FILE too");
    wrong(
        json!({ "origins": ["https://a"], "headers": { "Host": "b" } }),
        "headers.Host: is a header that belongs to the connection; remove it",
    );
    wrong(
        json!({ "origins": ["https://a"], "headers": { "x": "a\nb" } }),
        "headers.x: has a character that no header may have, such as the end of a line; remove it",
    );
    wrong(
        json!({ "origins": ["https://a"], "bearer": "a", "basic": { "user": "a", "password": "b" } }),
        ": has two ways of authentication, `basic` and `bearer`; keep one of them",
    );
    wrong(
        json!({ "origins": ["https://a"], "bearer": "a", "headers": { "Authorization": "b" } }),
        ": sets the header authorization in two ways; write it under headers, or one of basic, bearer, oauth2 and aws",
    );
    wrong(
        json!({ "origins": ["https://a"], "aws": { "service": "s3", "region": "r", "credentials": "magic" } }),
        "aws.credentials: \"magic\" is no source of credentials; write environment, instance, { profile: NAME, file: FILE }, or { access_key_id: ID, secret_access_key: SECRET }",
    );
    wrong(
        json!({ "a": { "origins": ["https://a.example/x"] }, "b": { "origins": ["https://A.example:443/x/"] } }),
        ": `a` and `b` grant https://a.example/x/ both; name it in one of them, or with different paths",
    );
}
