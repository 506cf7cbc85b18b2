//! What a log may say of an address: the network it is in, not the machine.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network of an address: /24 of IPv4, /48 of IPv6. Enough to find a sender, too little to name a person.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Network(IpAddr);

/// Returns the network of `address`, for logs; an IPv4 address mapped into IPv6 counts as IPv4.
pub fn network(address: IpAddr) -> Network {
    Network(match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, 0))
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    })
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.0.is_ipv4() { 24 } else { 48 };
        write!(f, "{}/{bits}", self.0)
    }
}

/// The same as `Display`, so that no log can say more by using `?`.
impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_not_named() {
        let cases = [
            ("203.0.113.77", "203.0.113.0/24"),
            ("::ffff:203.0.113.77", "203.0.113.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
            ("::1", "::/48"),
        ];
        for (address, shown) in cases {
            let network = network(address.parse().unwrap());
            assert_eq!(network.to_string(), shown);
            assert_eq!(format!("{network:?}"), shown);
        }
    }
}
