//! Values as they are written, and how they become durations, sizes, numbers and addresses.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::report::{Origin, Wrong};

/// A value as it was written, before anybody knows what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Raw {
    /// Text without a type: from the environment, a flag or the table of defaults.
    Bare(String),
    /// A string of the file.
    Text(String),
    /// A whole number of the file.
    Whole(i64),
    /// Something no setting takes, by its name: "a date", "true".
    Other(String),
    /// An array of the file.
    List(Vec<Entry>),
    /// A table of the file.
    Table(Vec<(String, Entry)>),
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) raw: Raw,
    pub(crate) origin: Origin,
}

impl Raw {
    /// Names the type of the value, for a message. Never the value: it may be a secret in the wrong place.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Bare(_) | Self::Text(_) => "text",
            Self::Whole(_) => "a whole number",
            Self::Other(name) => name,
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }

    /// Returns text that was written as text.
    pub(crate) fn text(&self, example: &str) -> Result<&str, Wrong> {
        match self {
            Self::Bare(text) | Self::Text(text) => Ok(text),
            other @ (Self::Whole(_) | Self::Other(_) | Self::List(_) | Self::Table(_)) => Err(Wrong::new(
                format!("must be text, not {}", other.name()),
                format!("write it in quotes, such as {example}"),
            )),
        }
    }
}

/// Finds the name nearest to `text`, if one is near enough to be meant.
pub(crate) fn nearest<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Below 0.6 suggestions are noise: tried with the names of the table, one to three letters changed.
    const NEAR: f64 = 0.6;
    names
        .into_iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(text, name), name))
        .filter(|(near, _)| *near >= NEAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

const DURATION_HELP: &str =
    "write a whole number with its unit (ms, s, m, h or d), such as \"250ms\", \"5s\" or \"7d\"";

/// Reads a duration: a whole number and one unit.
///
/// # Errors
///
/// Says what is wrong with the text, for the person who wrote it.
pub fn duration(text: &str) -> Result<Duration, Wrong> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let millis_each = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    let millis = number
        .parse::<u64>()
        .ok()
        .filter(|_| millis_each != 0)
        .and_then(|number| number.checked_mul(millis_each));
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| Wrong::new(format!("is {text:?}, which is not a duration"), DURATION_HELP))
}

pub(crate) fn raw_duration(raw: &Raw, min: Duration, max: Duration) -> Result<Duration, Wrong> {
    if let Raw::Whole(number) = raw {
        let what = format!("is {number}, a number without a unit");
        return Err(Wrong::new(what, DURATION_HELP));
    }
    let value = duration(raw.text("\"5s\"")?)?;
    if value < min || value > max {
        return Err(Wrong::new(
            format!("is {}, out of range", written(value)),
            format!("choose from {} to {}", written(min), written(max)),
        ));
    }
    Ok(value)
}

/// Writes a duration as [`duration`] reads it, in the largest unit that divides it.
pub(crate) fn written(value: Duration) -> String {
    let millis = value.as_millis();
    [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")]
        .into_iter()
        .find(|(each, _)| millis >= *each && millis.is_multiple_of(*each))
        .map_or_else(
            || format!("{millis}ms"),
            |(each, unit)| format!("{}{unit}", millis / each),
        )
}

const BYTES_HELP: &str =
    "write a whole number of bytes, or one with KiB, MiB or GiB, such as \"64KiB\" or 65536";

/// Reads a number of bytes: a whole number, alone or with a binary unit.
fn bytes(text: &str) -> Result<u64, Wrong> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let each: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => 0,
    };
    number
        .parse::<u64>()
        .ok()
        .filter(|_| each != 0)
        .and_then(|number| number.checked_mul(each))
        .ok_or_else(|| Wrong::new(format!("is {text:?}, which is not a size"), BYTES_HELP))
}

pub(crate) fn raw_bytes(raw: &Raw, min: u64, max: u64) -> Result<u64, Wrong> {
    let value = match raw {
        Raw::Whole(number) => u64::try_from(*number)
            .map_err(|_| Wrong::new(format!("is {number}, which is not a size"), BYTES_HELP))?,
        Raw::Bare(_) | Raw::Text(_) | Raw::Other(_) | Raw::List(_) | Raw::Table(_) => {
            bytes(raw.text("\"1MiB\"")?)?
        }
    };
    if value < min || value > max {
        return Err(Wrong::new(
            format!("is {}, out of range", written_bytes(value)),
            format!("choose from {} to {}", written_bytes(min), written_bytes(max)),
        ));
    }
    Ok(value)
}

/// Writes a size as [`raw_bytes`] reads it, in the largest unit that divides it.
pub(crate) fn written_bytes(value: u64) -> String {
    [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| value >= 1 << shift && value.is_multiple_of(1 << shift))
        .map_or_else(
            || value.to_string(),
            |(shift, unit)| format!("{}{unit}", value >> shift),
        )
}

pub(crate) fn raw_count(raw: &Raw, min: u32, max: u32) -> Result<u32, Wrong> {
    let help = format!("write a whole number from {min} to {max}");
    let wrong = |what: String| Wrong::new(what, help.clone());
    let number = match raw {
        Raw::Whole(number) => *number,
        Raw::Bare(text) => text
            .parse::<i64>()
            .map_err(|_| wrong(format!("is {text:?}, which is not a whole number")))?,
        Raw::Text(text) => return Err(wrong(format!("must be a whole number, not the text {text:?}"))),
        other @ (Raw::Other(_) | Raw::List(_) | Raw::Table(_)) => {
            return Err(wrong(format!("must be a whole number, not {}", other.name())));
        }
    };
    u32::try_from(number)
        .ok()
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| wrong(format!("is {number}, out of range")))
}

pub(crate) fn address(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| {
        Wrong::new(
            format!("is {text:?}, which is not an IP address with a port"),
            "write it as \"127.0.0.1:8080\", \"0.0.0.0:8080\" (every interface) or \"[::]:8080\"",
        )
    })
}

const NETWORKS_HELP: &str =
    "write a list such as [\"203.0.113.0/24\", \"2001:db8::/32\"], in a variable with commas between";

/// Reads a list of networks: addresses with the number of bits that count, or alone for one of their own.
pub(crate) fn raw_networks(raw: &Raw) -> Result<Vec<IpNet>, Wrong> {
    match raw {
        Raw::Bare(text) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(network).collect()
        }
        Raw::List(list) => list
            .iter()
            .map(|entry| match &entry.raw {
                Raw::Text(text) => network(text),
                other @ (Raw::Bare(_) | Raw::Whole(_) | Raw::Other(_) | Raw::List(_) | Raw::Table(_)) => {
                    Err(Wrong::new(format!("holds {}", other.name()), NETWORKS_HELP))
                }
            })
            .collect(),
        other @ (Raw::Text(_) | Raw::Whole(_) | Raw::Other(_) | Raw::Table(_)) => Err(Wrong::new(
            format!("must be a list, not {}", other.name()),
            NETWORKS_HELP,
        )),
    }
}

fn network(text: &str) -> Result<IpNet, Wrong> {
    let alone = || text.parse::<IpAddr>().map(IpNet::from);
    let network = text
        .parse::<IpNet>()
        .or_else(|_| alone())
        .map_err(|_| Wrong::new(format!("has {text:?}, which is no network"), NETWORKS_HELP))?;
    // Connections over IPv4 are known by their IPv4 address, whatever socket they came in by.
    if let IpAddr::V6(address) = network.addr()
        && address.to_ipv4_mapped().is_some()
    {
        let what = format!("has {text:?}, an IPv4 network written as IPv6");
        return Err(Wrong::new(what, "write it as IPv4, such as \"203.0.113.0/24\""));
    }
    if network != network.trunc() {
        let what = format!(
            "has {text:?}, with bits beyond its first {}",
            network.prefix_len()
        );
        let help = format!("write {:?}, or more bits", network.trunc().to_string());
        return Err(Wrong::new(what, help));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_written_alone_or_with_their_bits() {
        let read = |text: &str| raw_networks(&Raw::Bare(text.to_owned()));
        let networks = read("203.0.113.0/24, 2001:db8::/32,198.51.100.7").unwrap();
        let written: Vec<_> = networks.iter().map(ToString::to_string).collect();
        assert_eq!(written, ["203.0.113.0/24", "2001:db8::/32", "198.51.100.7/32"]);
        assert_eq!(read("").unwrap(), []);
        for (text, help) in [
            ("203.0.113.7/24", "write \"203.0.113.0/24\", or more bits"),
            (
                "::ffff:203.0.113.0/120",
                "write it as IPv4, such as \"203.0.113.0/24\"",
            ),
            ("203.0.113.0/33", NETWORKS_HELP),
            ("front.com", NETWORKS_HELP),
            ("10.0.0.0/8 192.168.0.0/16", NETWORKS_HELP),
        ] {
            assert_eq!(read(text).unwrap_err().help, help, "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        let cases = [
            ("250ms", 250),
            ("5s", 5_000),
            ("10m", 600_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
        ];
        for (text, millis) in cases {
            let value = duration(text).unwrap();
            assert_eq!(value, Duration::from_millis(millis));
            assert_eq!(written(value), text);
        }
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "5 s",
            "5S",
            "1h30m",
            "99999999999999999999d",
            "٣s",
        ] {
            assert!(duration(text).is_err(), "{text:?}");
        }
        assert_eq!(written(Duration::ZERO), "0ms");
        assert_eq!(written(Duration::from_millis(2_500)), "2500ms");
    }

    #[test]
    fn sizes_are_binary() {
        for (text, value) in [
            ("0", 0),
            ("64KiB", 65_536),
            ("1MiB", 1 << 20),
            ("2GiB", 2 << 30),
            ("7B", 7),
        ] {
            assert_eq!(bytes(text).unwrap(), value);
        }
        for text in ["", "1MB", "1M", "1 MiB", "-1", "99999999999GiB"] {
            assert!(bytes(text).is_err(), "{text:?}");
        }
        assert_eq!(written_bytes(64 << 20), "64MiB");
        assert_eq!(written_bytes(1_000), "1000");
    }

    #[test]
    fn the_nearest_name_is_near() {
        let names = ["receiver.listen", "receiver.linger", "admin.listen"];
        assert_eq!(nearest("reciever.listen", names), Some("receiver.listen"));
        assert_eq!(nearest("receiver.lingr", names), Some("receiver.linger"));
        assert_eq!(nearest("colour", names), None);
    }
}
