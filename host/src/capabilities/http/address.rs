//! Addresses by number: which of them a plugin reaches only where they are granted.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network, such as `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

/// What an address is good for where it is not on the public internet.
const SPECIAL_V4: [(Ipv4Addr, u32, &str); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "an unspecified address"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "a private address"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "an address behind a carrier's NAT"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "a loopback address"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "a link-local address"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "a private address"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "an address for protocols"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "an address for documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "an address of 6to4"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "a private address"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "an address for benchmarks"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "an address for documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "an address for documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "a multicast address"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "a reserved address"),
];

/// The first that fits counts. What is outside of `2000::/3` and not named here is refused too.
const SPECIAL_V6: [(Ipv6Addr, u32, &str); 17] = [
    (Ipv6Addr::UNSPECIFIED, 128, "an unspecified address"),
    (Ipv6Addr::LOCALHOST, 128, "a loopback address"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, "an IPv4 address that is mapped into IPv6"),
    (Ipv6Addr::UNSPECIFIED, 96, "an IPv4-compatible address"),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, "an address of NAT64"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "an address of a local NAT64"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, "an address of Teredo"),
    (Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48, "an address for benchmarks"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "an address for documentation"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "an address for protocols"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "an address of 6to4"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "an address for documentation"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "a private address"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "a link-local address"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "a site-local address"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "a multicast address"),
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16, "an address of segment routing"),
];

const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Why the address may not be dialled; nothing for an address of the public internet.
#[must_use]
pub fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => SPECIAL_V4.iter().find(|(network, bits, _)| within_v4(address, *network, *bits)).map(|(.., what)| *what),
        IpAddr::V6(address) => {
            let named = SPECIAL_V6.iter().find(|(network, bits, _)| within_v6(address, *network, *bits)).map(|(.., what)| *what);
            let global = within_v6(address, GLOBAL_V6.0, GLOBAL_V6.1);
            named.or((!global).then_some("a reserved address"))
        }
    }
}

fn within_v4(address: Ipv4Addr, network: Ipv4Addr, bits: u32) -> bool {
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    (address.to_bits() ^ network.to_bits()) & mask == 0
}

fn within_v6(address: Ipv6Addr, network: Ipv6Addr, bits: u32) -> bool {
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    (address.to_bits() ^ network.to_bits()) & mask == 0
}

impl Network {
    /// Reads `10.0.0.0/8`, `fd00::/8` or one address. The error says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let remedy = "write an address or a network by number, such as 10.1.2.3 or 10.0.0.0/8";
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| format!("{text:?} is no address; {remedy}"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let digits = |bits: &str| (!bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit())).then(|| bits.parse().ok())?;
        let bits = match bits {
            None => most,
            Some(bits) => {
                digits(bits).filter(|bits| *bits <= most).ok_or_else(|| format!("{text:?} is no network; write /0 to /{most} behind it"))?
            }
        };
        let network = Self { address, bits };
        let first = network.first();
        if first != address {
            return Err(format!(
                "{text:?} is an address within a network; write {first}/{bits} for the network, or {address} for the address"
            ));
        }
        Ok(network)
    }

    fn first(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & u32::MAX.checked_shl(32 - self.bits).unwrap_or(0))),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & u128::MAX.checked_shl(128 - self.bits).unwrap_or(0))),
        }
    }

    /// An IPv4 network does not hold addresses that are mapped into IPv6.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => within_v4(address, network, self.bits),
            (IpAddr::V6(network), IpAddr::V6(address)) => within_v6(address, network, self.bits),
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_not_on_the_public_internet_is_named() {
        for (text, expected) in [
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("10.255.255.255", "private"),
            ("100.64.0.1", "carrier"),
            ("127.8.9.10", "loopback"),
            ("169.254.169.254", "link-local"),
            ("172.31.0.1", "private"),
            ("192.168.0.1", "private"),
            ("192.0.2.1", "documentation"),
            ("198.19.0.1", "benchmarks"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "reserved"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::ffff:8.8.8.8", "mapped"),
            ("::127.0.0.1", "IPv4-compatible"),
            ("64:ff9b::7f00:1", "NAT64"),
            ("64:ff9b:1::7f00:1", "local NAT64"),
            ("2001::1", "Teredo"),
            ("2001:db8::1", "documentation"),
            ("2002:7f00:1::1", "6to4"),
            ("3fff::1", "documentation"),
            ("fd00::1", "private"),
            ("fe80::1", "link-local"),
            ("ff02::1", "multicast"),
            ("100::1", "reserved"),
            ("4000::1", "reserved"),
        ] {
            let found = special(address(text));
            assert!(found.is_some_and(|what| what.contains(expected)), "{text}: {found:?}");
        }
        for text in ["8.8.8.8", "100.63.255.255", "100.128.0.0", "172.32.0.1", "9.255.255.255", "2a00:1450::1", "2606:4700::1111"] {
            assert_eq!(special(address(text)), None, "{text}");
        }
    }

    #[test]
    fn networks_are_read_strictly() {
        for text in ["10.0.0.0/8", "127.0.0.1/32", "0.0.0.0/0", "fd00::/8", "::/0"] {
            assert_eq!(Network::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Network::parse("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
        for text in ["", "10", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.1.0.0/8", "010.0.0.0/8", "localhost", "fd00::1/8"] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
        assert!(!Network::parse("127.0.0.0/8").unwrap().contains(address("::ffff:127.0.0.1")));
        assert!(Network::parse("0.0.0.0/0").unwrap().contains(address("255.1.2.3")));
    }

    proptest! {
        /// An IPv4 address that hides in an IPv6 one is never taken for a public one.
        #[test]
        fn no_address_hides_in_another(bits: u32) {
            let [a, b, c, d] = bits.to_be_bytes();
            let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
            for hidden in [
                Ipv4Addr::from_bits(bits).to_ipv6_mapped(),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, pair(a, b), pair(c, d)),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, pair(a, b), pair(c, d)),
                Ipv6Addr::new(0x2002, pair(a, b), pair(c, d), 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, !pair(a, b), !pair(c, d)),
            ] {
                prop_assert!(special(IpAddr::V6(hidden)).is_some());
            }
        }

        #[test]
        fn a_network_holds_what_begins_like_it(bits: u32, length in 0_u32..=32, other: u32) {
            let first = IpAddr::V4(Ipv4Addr::from_bits(bits & u32::MAX.checked_shl(32 - length).unwrap_or(0)));
            let network = Network::parse(&format!("{first}/{length}")).unwrap();
            let same = length == 0 || (bits >> (32 - length)) == (other >> (32 - length));
            prop_assert_eq!(network.contains(IpAddr::V4(Ipv4Addr::from_bits(other))), same);
        }
    }
}
