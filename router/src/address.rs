//! Which addresses are never asked: those at which clouds answer with credentials, and those that name no one host.
//! Private ranges and loopback are where inference servers live, so they are allowed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address that is not to be asked, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forbidden {
    /// The address.
    pub address: IpAddr,
    /// What it is.
    pub what: &'static str,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, which is never asked", self.address, self.what)
    }
}

/// Metadata services outside of link-local: Alibaba Cloud, Azure's wire server, Oracle Cloud.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// The metadata service of Google Compute Engine on IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);

/// Why an address is not to be asked; `None` = it may be.
#[must_use]
pub fn forbidden(address: IpAddr) -> Option<Forbidden> {
    let what = match address {
        IpAddr::V4(v4) => of_v4(v4),
        IpAddr::V6(v6) => of_v6(v6),
    };
    what.map(|what| Forbidden { address, what })
}

fn of_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("an address of no host"),
        [169, 254, ..] => Some("a link-local address"),
        [224..=239, ..] => Some("a multicast address"),
        [240..=255, ..] => Some("a reserved address"),
        _ if METADATA_V4.contains(&address) => Some("a metadata service"),
        _ => None,
    }
}

fn of_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_loopback() {
        return None;
    }
    let segments = address.segments();
    match segments[0] {
        0xfe80..=0xfebf => return Some("a link-local address"),
        0xff00..=0xffff => return Some("a multicast address"),
        // Amazon's: metadata (`::254`), time, names, and the credentials of pods (`::23`).
        0xfd00 if segments[1] == 0xec2 => return Some("a metadata service"),
        _ if address == METADATA_V6 => return Some("a metadata service"),
        _ => {}
    }
    inside(&segments).and_then(of_v4)
}

/// The IPv4 address that an IPv6 one stands for: mapped (`::ffff:0:0/96`, also in its translated form), compatible
/// (`::/96`, which holds `::`), NAT64 (`64:ff9b::/96`, and the local `64:ff9b:1::/48`), and 6to4 (`2002::/16`).
fn inside(segments: &[u16; 8]) -> Option<Ipv4Addr> {
    let (high, low) = match *segments {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_asked_and_what_is_not() {
        for allowed in [
            "127.0.0.1",
            "10.0.0.4",
            "172.16.3.1",
            "192.168.1.9",
            "100.64.0.7",
            "8.8.8.8",
            "::1",
            "fd00::1",
            "2001:db8::5",
            "::ffff:10.0.0.4",
        ] {
            assert_eq!(forbidden(allowed.parse().unwrap()), None, "{allowed}");
        }
        for refused in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "64:ff9b:1::169.254.169.254",
            "fd20:ce::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(forbidden(refused.parse().unwrap()).is_some(), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn an_address_in_another_form_is_the_same_address(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let (high, low) = ((bits >> 16) as u16, bits as u16);
            let plain = forbidden(v4.into()).map(|found| found.what);
            let other = |address: Ipv6Addr| forbidden(address.into()).map(|found| found.what);
            prop_assert_eq!(other(v4.to_ipv6_mapped()), plain);
            prop_assert_eq!(other(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low)), plain);
            prop_assert_eq!(other(Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1)), plain);
        }

        #[test]
        fn no_link_local_address_passes(low: u16, v6: [u16; 7], first in 0xfe80_u16..=0xfebf) {
            let [a, b, c, d, e, f, g] = v6;
            prop_assert!(forbidden(Ipv6Addr::new(first, a, b, c, d, e, f, g).into()).is_some());
            let [third, fourth] = low.to_be_bytes();
            prop_assert!(forbidden(Ipv4Addr::new(169, 254, third, fourth).into()).is_some());
        }
    }
}
