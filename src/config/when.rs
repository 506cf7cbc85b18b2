//! Where in a topic to begin: `--from`.

use std::time::Duration;

use super::report::Wrong;
use super::value;
use crate::model::{Offset, Timestamp};

/// Where in a topic to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// At the first record retained.
    Beginning,
    /// After the last record.
    End,
    /// At this offset of each partition.
    Offset(Offset),
    /// At the first record not older than this.
    At(Timestamp),
    /// At the first record not older than this long ago.
    Ago(Duration),
}

/// Reads what `--from` takes.
pub(super) fn from(text: &str) -> Result<From, Wrong> {
    match text {
        "beginning" => return Ok(From::Beginning),
        "end" => return Ok(From::End),
        _ => {}
    }
    if let Ok(number) = text.parse::<i64>()
        && let Some(offset) = Offset::new(number)
    {
        return Ok(From::Offset(offset));
    }
    if let Ok(ago) = value::duration(text) {
        return Ok(From::Ago(ago));
    }
    rfc_3339(text).map(From::At).ok_or_else(|| {
        Wrong::new(
            "is no place in a topic",
            "write beginning, end, an offset (1200), a time (2026-11-24T10:00:00Z) or a duration ago (10m)",
        )
    })
}

/// Reads RFC 3339 in UTC, seconds or milliseconds: `2026-11-24T10:00:00Z`, `2026-11-24T10:00:00.250Z`.
fn rfc_3339(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix(['Z', 'z'])?.split_once(['T', 't'])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (time, millis) = match time.split_once('.') {
        Some((time, fraction)) => {
            let [millis] = numbers(fraction, '.', [3])?;
            (time, millis)
        }
        None => (time, 0),
    };
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let in_range = (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
    if !in_range || day < 1 || day > days_of_month(year, month) {
        return None;
    }
    let seconds = ((days_from_civil(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(Timestamp::from_millis(seconds * 1_000 + millis))
}

/// Reads numbers of fixed widths, separated.
fn numbers<const N: usize>(text: &str, separator: char, widths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut read = [0; N];
    for (slot, width) in read.iter_mut().zip(widths) {
        let part = parts.next()?;
        let digits = part.len() == width && part.bytes().all(|byte| byte.is_ascii_digit());
        *slot = digits.then(|| part.parse().ok()).flatten()?;
    }
    parts.next().is_none().then_some(read)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Turns a date of the proleptic Gregorian calendar into days since the Unix epoch.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", for years from 0.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_they_are_written() {
        for millis in [0, 951_782_400_000, 1_795_000_000_930, 4_107_542_399_999] {
            let at = Timestamp::from_millis(millis);
            assert_eq!(from(&at.to_string()).unwrap(), From::At(at));
        }
        assert_eq!(
            from("2026-11-18T11:06:40Z").unwrap(),
            From::At(Timestamp::from_millis(1_795_000_000_000))
        );
    }

    #[test]
    fn every_form_of_from() {
        assert_eq!(from("beginning").unwrap(), From::Beginning);
        assert_eq!(from("end").unwrap(), From::End);
        assert_eq!(from("1200").unwrap(), From::Offset(Offset::new(1_200).unwrap()));
        assert_eq!(from("10m").unwrap(), From::Ago(Duration::from_secs(600)));
        for bad in [
            "",
            "-1",
            "now",
            "2026-02-29T00:00:00Z",
            "2026-11-24T10:00:00",
            "2026-11-24",
            "2026-1-24T1:0:0Z",
        ] {
            assert!(from(bad).is_err(), "{bad:?}");
        }
    }
}
