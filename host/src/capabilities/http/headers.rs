//! Which headers belong to whom.

use http::header::{self, HeaderMap, HeaderName};

/// Beside these, all whose names begin with `proxy-`.
const HOSTS: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
    HeaderName::from_static("http2-settings"),
];

/// A header of the connection, which no plugin sends and none is shown.
#[must_use]
pub fn is_hosts(name: &HeaderName) -> bool {
    HOSTS.contains(name) || name.as_str().starts_with("proxy-")
}

/// Removes what a server says of the connection and not of the answer.
pub fn clean(headers: &mut HeaderMap) {
    let hosts: Vec<HeaderName> = headers.keys().filter(|name| is_hosts(name)).cloned().collect();
    for name in hosts {
        headers.remove(name);
    }
}

/// What a plugin may not say of the connection.
pub fn check(headers: &HeaderMap) -> Result<(), &'static str> {
    if headers.keys().any(is_hosts) {
        return Err("has a header of the connection, which belongs to the host");
    }
    if headers.get_all(header::TE).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"trailers")) {
        return Err("has a header `te` that asks for something else than `trailers`");
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next();
    let digits = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    if lengths.next().is_some() || length.is_some_and(|length| !digits(length.as_bytes())) {
        return Err("has a header `content-length` that is no number");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_connection_belong_to_the_host() {
        let refused = |pairs: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            check(&headers).is_err()
        };
        for name in ["Host", "connection", "Proxy-Authorization", "proxy-connection", "proxy-anything", "transfer-encoding", "upgrade"] {
            assert!(refused(&[(name, "x")]), "{name}");
        }
        assert!(refused(&[("te", "gzip")]) && refused(&[("te", "trailers, gzip")]) && !refused(&[("te", "trailers")]));
        assert!(refused(&[("content-length", "1"), ("content-length", "1")]) && refused(&[("content-length", "+1")]));
        assert!(!refused(&[("content-length", "1"), ("x-any", "y"), ("cookie", "a")]));
    }
}
