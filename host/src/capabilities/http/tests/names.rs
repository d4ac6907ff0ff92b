//! Names that lead elsewhere.

use super::*;

async fn led(answers: &[&[&str]], addresses: &[&str]) -> Refusal {
    let mut grant = json!({ "origins": ["http://search.example/"], "connect": "500ms" });
    if !addresses.is_empty() {
        grant["addresses"] = json!(addresses);
    }
    let plugin = Plugin::new(grant, &Names::of(answers));
    let refusal = plugin.get("http://search.example/").await.unwrap_err();
    plugin.unharmed().await;
    refusal
}

#[tokio::test]
async fn a_name_that_leads_inside() {
    for address in [
        "127.0.0.1",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "2001::1",
        "fd00::1",
        "fe80::1",
        "ff02::1",
        "192.0.2.1",
        "2001:db8::1",
    ] {
        let refusal = led(&[&[address]], &[]).await;
        assert_eq!(refusal.code, Code::Prohibited, "{address}: {refusal}");
        let remedy = format!("addresses: [\"{}\"]", address.parse::<IpAddr>().unwrap());
        assert!(refusal.misconfigured && refusal.text.ends_with(&remedy), "{refusal}");
    }
    // Another network does not help, nor the address in another form.
    assert_eq!(led(&[&["127.0.0.1"]], &["10.0.0.0/8"]).await.code, Code::Prohibited);
    assert_eq!(led(&[&["::ffff:127.0.0.1"]], &["127.0.0.0/8"]).await.code, Code::Prohibited);
    assert_eq!(led(&[&[]], &[]).await.code, Code::DnsError);
    assert_eq!(led(&[], &[]).await.code, Code::DnsError);
}

#[tokio::test]
async fn an_address_that_is_granted_by_number() {
    let port = answering(OK).await;
    let grant = json!({ "origins": [format!("http://search.example:{port}/")], "addresses": ["127.0.0.1/32"] });
    // What may not be dialled is passed over.
    let plugin = Plugin::new(grant, &Names::of(&[&["10.0.0.1", "::1", "127.0.0.1"]]));
    plugin.get(&format!("http://search.example:{port}/")).await.unwrap();
    plugin.unharmed().await;
}

/// The second answer would lead inside: nobody asks a second time for one connection, and a
/// new connection is checked anew.
#[tokio::test]
async fn a_name_that_changes_between_check_and_dial() {
    let port = serve(|mut stream| async move {
        read_head(&mut stream).await;
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
    })
    .await;
    let grant = json!({ "origins": [format!("http://search.example:{port}/")], "addresses": ["127.0.0.1"] });
    let plugin = Plugin::new(grant, &Names::of(&[&["127.0.0.1"], &["127.0.0.2"]]));
    let url = format!("http://search.example:{port}/");
    plugin.get(&url).await.unwrap();
    let refusal = plugin.get(&url).await.unwrap_err();
    assert_eq!(refusal.code, Code::Prohibited, "{refusal}");
    assert!(plugin.client.was_misconfigured() && !plugin.client.was_misconfigured());
    plugin.unharmed().await;
}

/// Says nothing.
#[derive(Debug)]
struct Mute;

impl Resolve for Mute {
    fn resolve(&self, _: &str) -> Addresses {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_name_that_nobody_answers_for() {
    let resolver: Arc<dyn Resolve> = Arc::new(Mute);
    let plugin = Plugin::new(json!({ "origins": ["http://search.example/"], "connect": "100ms" }), &resolver);
    assert_eq!(plugin.get("http://search.example/").await.unwrap_err().code, Code::DnsTimeout);
    plugin.unharmed().await;
}
