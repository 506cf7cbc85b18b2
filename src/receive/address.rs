//! Whose request it is: the address of its connection, or what the proxies before us say of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// From which networks requests are taken, and whom we believe about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The networks that may send; empty: all.
    pub allowed: Vec<IpNet>,
    /// The networks of the proxies before us; empty: there are none, and what a request says of its way counts nothing.
    pub proxies: Vec<IpNet>,
    /// Where they write whom they had a request from. Only one: the other may come from the sender and be passed on as it is.
    pub header: Forwarded,
}

/// The header in which proxies write whom they had a request from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarded {
    /// `X-Forwarded-For`, what nginx, HAProxy, Envoy and the load balancers of clouds write.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Standard,
}

/// How many proxies in a row are looked behind; whoever has more has a loop.
const HOPS_MAX: usize = 16;

impl Settings {
    /// Says whether a request of `client` is taken. What a proxy of ours wrote and cannot be read may have been anybody's.
    pub fn is_allowed(&self, client: Result<IpAddr, IpAddr>) -> bool {
        self.allowed.is_empty() || client.is_ok_and(|client| contains(&self.allowed, client))
    }

    /// Returns the address that a request is from: that of the connection, unless it is a proxy of ours; then what this says,
    /// and so on from the right to the left, up to the first that is none of ours. Whatever stands left of that the sender wrote.
    ///
    /// Where a proxy says nothing, it is the sender.
    ///
    /// # Errors
    ///
    /// A proxy says something that cannot be read: its own address, which is what is known for certain.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Result<IpAddr, IpAddr> {
        let mut nearest = peer.to_canonical();
        if !contains(&self.proxies, nearest) {
            return Ok(nearest);
        }
        for hop in self.header.hops(headers).take(HOPS_MAX) {
            let address = hop.ok_or(nearest)?;
            nearest = address;
            if !contains(&self.proxies, nearest) {
                break;
            }
        }
        Ok(nearest)
    }
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

impl Forwarded {
    /// Returns what each proxy says, the last one first; `None` where that cannot be read.
    fn hops(self, headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
        const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
        let name = match self {
            Self::XForwardedFor => X_FORWARDED_FOR,
            Self::Standard => axum::http::header::FORWARDED,
        };
        let lines: Vec<_> = headers.get_all(name).iter().rev().collect();
        lines.into_iter().flat_map(move |line| match self {
            // Each element alone: what the sender wrote before it must not spoil what the proxy wrote.
            Self::XForwardedFor => {
                let elements = line.as_bytes().rsplit(|byte| *byte == b',').take(HOPS_MAX);
                let text = elements.map(|element| std::str::from_utf8(element).ok());
                text.map(|text| node(text?.trim())).collect()
            }
            Self::Standard => line.to_str().map_or_else(|_| vec![None], standard),
        })
    }
}

/// Reads a line of `Forwarded`, the last element first. One fault makes all of it unreadable: a quotation that the sender left
/// open takes in what the proxy wrote behind it.
fn standard(line: &str) -> Vec<Option<IpAddr>> {
    let mut hops = Vec::new();
    let mut rest = line;
    loop {
        match element(rest) {
            Some((hop, more)) => {
                hops.push(hop);
                match more {
                    Some(more) => rest = more,
                    None => break,
                }
            }
            None => return vec![None],
        }
    }
    hops.reverse();
    hops
}

/// What one element says, and what follows behind its comma.
type Element<'l> = (Option<IpAddr>, Option<&'l str>);

/// Reads `name=value;…` up to a comma or the end; `None` where it is not that.
fn element(line: &str) -> Option<Element<'_>> {
    let mut said = None;
    let mut rest = line.trim_start();
    loop {
        let (name, more) = rest.split_once('=')?;
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        let (value, more) = value(more)?;
        if name.eq_ignore_ascii_case("for") && said.replace(node(&value)).is_some() {
            return None;
        }
        let more = more.trim_start();
        match more.bytes().next() {
            None => return Some((said.flatten(), None)),
            Some(b',') => return Some((said.flatten(), Some(&more[1..]))),
            Some(b';') => rest = more[1..].trim_start(),
            Some(_) => return None,
        }
    }
}

/// Reads a token, or text in quotation marks without its escapes.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Beyond tokens, for those who forget the marks around an IPv6 address or a port.
        let is_value = |byte: u8| is_token(byte) || matches!(byte, b':' | b'[' | b']');
        let end = text
            .bytes()
            .position(|byte| !is_value(byte))
            .unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// Source: RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Reads an address with or without a port, an IPv6 one with or without brackets.
fn node(text: &str) -> Option<IpAddr> {
    let address = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| {
            let inside = text.strip_prefix('[')?.strip_suffix(']')?;
            inside.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        })
        .or_else(|| {
            // RFC 7239, section 6: a port may be made up, such as `_7f3`.
            let (address, port) = text.rsplit_once(':')?;
            let is_made_up = port
                .strip_prefix('_')
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_token));
            let address = match address.strip_prefix('[') {
                Some(inside) => inside.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
                None => address.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            };
            address.filter(|_| is_made_up)
        })?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const PROXY: &str = "10.1.2.3";

    fn settings(header: Forwarded) -> Settings {
        Settings {
            allowed: Vec::new(),
            proxies: ["10.0.0.0/8", "2001:db8:aa::/48"]
                .map(|text| text.parse().unwrap())
                .to_vec(),
            header,
        }
    }

    fn client(header: Forwarded, peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        let name = match header {
            Forwarded::XForwardedFor => "x-forwarded-for",
            Forwarded::Standard => "forwarded",
        };
        for line in lines {
            headers.append(name, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        settings(header)
            .client(peer.parse().unwrap(), &headers)
            .unwrap_or_else(|proxy| proxy)
            .to_string()
    }

    #[test]
    fn only_what_proxies_of_ours_say_is_believed_and_only_from_the_right() {
        #[rustfmt::skip]
        let cases: [(&str, &[&str], &str); 17] = [
            // From nobody of ours: whatever it says.
            ("203.0.113.7", &["198.51.100.1"], "203.0.113.7"),
            ("::ffff:203.0.113.7", &["198.51.100.1"], "203.0.113.7"),
            // From a proxy: what it wrote last.
            (PROXY, &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.1.2.3", &["198.51.100.1"], "198.51.100.1"),
            (PROXY, &["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
            (PROXY, &["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
            (PROXY, &["6.6.6.6, 198.51.100.1, 10.9.9.9,10.8.8.8"], "198.51.100.1"),
            (PROXY, &["198.51.100.1:4711"], "198.51.100.1"),
            (PROXY, &["2001:db8::1"], "2001:db8::1"),
            (PROXY, &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("2001:db8:aa::1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            // Nothing but ours: the outermost of them.
            (PROXY, &["10.9.9.9"], "10.9.9.9"),
            // What cannot be read: the proxy that wrote it.
            (PROXY, &[], PROXY),
            (PROXY, &["198.51.100.1, unknown"], PROXY),
            (PROXY, &["198.51.100.1, unknown, 10.9.9.9"], "10.9.9.9"),
            (PROXY, &["198.51.100.1,"], PROXY),
            // What the sender wrote before it spoils nothing.
            (PROXY, &["\u{ff}, 198.51.100.1"], "198.51.100.1"),
        ];
        for (peer, lines, expected) in cases {
            assert_eq!(
                client(Forwarded::XForwardedFor, peer, lines),
                expected,
                "{peer} {lines:?}"
            );
        }
    }

    #[test]
    fn the_standard_header_is_read_with_its_quotations() {
        #[rustfmt::skip]
        let cases: [(&[&str], &str); 16] = [
            (&["for=198.51.100.1"], "198.51.100.1"),
            (&["For=6.6.6.6, FOR=198.51.100.1;proto=https;by=10.0.0.1"], "198.51.100.1"),
            (&[r#"proto=http;for="[2001:db8::1]:4711""#], "2001:db8::1"),
            (&[r#"for="198.51.100.1:_7f3""#], "198.51.100.1"),
            (&["for=6.6.6.6", "for=198.51.100.1, for=10.9.9.9"], "198.51.100.1"),
            (&[r#"for=6.6.6.6;host="a,for=7.7.7.7", for=198.51.100.1"#], "198.51.100.1"),
            (&[r"for=[2001:db8::1]:80"], "2001:db8::1"),
            // Hidden, or not said.
            (&["for=198.51.100.1, for=unknown"], PROXY),
            (&["for=198.51.100.1, for=_hidden"], PROXY),
            (&["for=198.51.100.1, proto=http"], PROXY),
            // Quotations that the sender left open, so that what the proxy wrote lies in them.
            (&[r#"for=6.6.6.6, for=", for=198.51.100.1"#], PROXY),
            (&[r#"for=6.6.6.6, for=", for="[2001:db8::1]""#], PROXY),
            (&[r#"for=6.6.6.6;x="\", for="198.51.100.1"#], PROXY),
            // No elements.
            (&[""], PROXY),
            (&["for=198.51.100.1;for=6.6.6.6"], PROXY),
            (&["198.51.100.1"], PROXY),
        ];
        for (lines, expected) in cases {
            assert_eq!(client(Forwarded::Standard, PROXY, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn no_more_hops_are_looked_at_than_there_can_be_proxies() {
        let long = "10.9.9.9,".repeat(10_000) + "10.8.8.8";
        assert_eq!(client(Forwarded::XForwardedFor, PROXY, &[&long]), "10.9.9.9");
        let behind = "198.51.100.1".to_owned() + &",10.8.8.8".repeat(HOPS_MAX);
        assert_eq!(client(Forwarded::XForwardedFor, PROXY, &[&behind]), "10.8.8.8");
    }

    #[test]
    fn networks_that_are_listed_may_send() {
        let mut settings = Settings::default();
        let address = |text: &str| Ok(text.parse().unwrap());
        assert!(settings.is_allowed(address("203.0.113.7")), "no list, no limit");
        settings.allowed = vec![
            "203.0.113.0/24".parse().unwrap(),
            "2001:db8::/32".parse().unwrap(),
        ];
        assert!(settings.is_allowed(address("203.0.113.7")));
        assert!(settings.is_allowed(address("2001:db8:1::1")));
        assert!(!settings.is_allowed(address("203.0.114.7")));
        assert!(!settings.is_allowed(address("2001:db9::1")));
        let unreadable = Err("203.0.113.7".parse().unwrap());
        assert!(
            !settings.is_allowed(unreadable),
            "a proxy in the list vouches for nobody"
        );
    }

    proptest! {
        /// Whatever a sender writes before it, what our proxy appends decides, or nothing does.
        #[test]
        fn a_sender_cannot_choose_its_address(forged in "[ -~]{0,60}", comma in "(, ?|,)") {
            for (header, appended) in [
                (Forwarded::XForwardedFor, "198.51.100.1"),
                (Forwarded::Standard, "for=198.51.100.1"),
                (Forwarded::Standard, r#"for="198.51.100.1:80""#),
            ] {
                let seen = client(header, PROXY, &[&format!("{forged}{comma}{appended}")]);
                prop_assert!(["198.51.100.1", PROXY].contains(&seen.as_str()), "{seen}");
                let seen = client(header, PROXY, &[&forged, appended]);
                prop_assert_eq!(seen, "198.51.100.1");
            }
        }
    }
}
