//! The host of a URL, in one form only: whoever checks it and whoever dials it must
//! not read it differently.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A name in lower case and without a dot at its end, or an address by number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    Name(String),
    Address(IpAddr),
}

/// See RFC 1035.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

impl Host {
    /// Reads what stands between `//` and the port. The error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            let address: Ipv6Addr = inner.parse().map_err(|_| "is no IPv6 address")?;
            return Ok(Self::Address(IpAddr::V6(address)));
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err("is empty");
        }
        if !text.is_ascii() {
            return Err("is not in ASCII; write an international name in the form that begins with xn--");
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')) {
            return Err("has characters that no name of a host has");
        }
        let last = text.rsplit('.').next().unwrap_or(text);
        if is_number(last) {
            // `2130706433`, `0177.0.0.1` and `0x7f.1` are loopback for some programs only.
            let address: Ipv4Addr =
                text.parse().map_err(|_| "is a number that programs read differently; write an address as 192.0.2.1")?;
            return Ok(Self::Address(IpAddr::V4(address)));
        }
        if text.len() > NAME_BYTES_MAX || text.split('.').any(|label| label.is_empty() || label.len() > LABEL_BYTES_MAX) {
            return Err("is no name of a host: a part of it is empty or too long");
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }
}

/// As the WHATWG URL standard has it: such a last part makes the host an IPv4 address.
fn is_number(label: &str) -> bool {
    let digits = label.bytes().all(|byte| byte.is_ascii_digit());
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    digits || hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_form() {
        for (text, expected) in [
            ("Search.Example", "search.example"),
            ("search.example.", "search.example"),
            ("a_b-c.d", "a_b-c.d"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("[::FFFF:127.0.0.1]", "[::ffff:127.0.0.1]"),
            ("0x7f.example", "0x7f.example"),
        ] {
            assert_eq!(Host::parse(text).map(|host| host.to_string()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn tricks_are_refused() {
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a..",
            "2130706433",
            "017700000001",
            "0x7f000001",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "127.1",
            "127.0.0.01",
            "1.2.3.4.5",
            "a.1",
            "a.0x",
            "[::1",
            "::1",
            "[fe80::1%eth0]",
            "[127.0.0.1]",
            "user@host",
            "ho st",
            "host\\",
            "host%00",
            "host%2e",
            "bücher.example",
            "ⓛocalhost",
            "127。0。0。1",
            "host:80",
            "a/b",
            "a#b",
            "a?b",
        ] {
            assert!(Host::parse(text).is_err(), "{text:?}");
        }
        assert!(Host::parse(&"a".repeat(64)).is_err() && Host::parse(&"a.".repeat(127)).is_ok() && Host::parse(&"a.".repeat(128)).is_err());
    }
}
