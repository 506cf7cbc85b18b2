//! When faults were at work, and how late a refresh may therefore be.

use std::time::Duration;

use frontstream::model::Timestamp;

/// How long after the faults that a window met by its own time others may begin that it waits for, too: faults that follow one
/// another without a pause would excuse everything. A partition that is not read is taken over anew after a minute.
const CHAINED_MAX: Duration = Duration::from_secs(60);

/// The times in which a fault was at work or the system recovered from one.
#[derive(Debug)]
pub(crate) struct Disturbed {
    /// By their beginning.
    each: Vec<(Timestamp, Timestamp)>,
}

impl Disturbed {
    pub(crate) fn new(times: &[(Timestamp, Timestamp)]) -> Self {
        let mut each = times.to_vec();
        each.sort_unstable();
        Self { each }
    }

    /// Returns when a window must be out that opened at `opened` and is due at `due`: as late as the last disturbance that it
    /// meets on its way is over; those that begin more than [`CHAINED_MAX`] after the ones that it met by its own time are not
    /// on its way.
    pub(super) fn due(&self, opened: Timestamp, due: Timestamp, slack: Duration) -> Timestamp {
        let meets = |(from, until): &(Timestamp, Timestamp), put_off: Timestamp| {
            *from <= put_off.plus(slack) && opened <= *until
        };
        let met = self.each.iter().filter(|time| meets(time, due));
        let Some(met) = met.map(|(_, until)| *until).max() else {
            return due;
        };
        let last = met.max(due).plus(CHAINED_MAX);
        let mut put_off = due;
        for time in &self.each {
            if time.0 <= last && meets(time, put_off) {
                put_off = put_off.max(time.1);
            }
        }
        put_off
    }

    /// Says whether nothing was at work between the two.
    pub(crate) fn is_calm(&self, from: Timestamp, until: Timestamp) -> bool {
        self.each
            .iter()
            .all(|(began, ended)| *ended < from || until < *began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_000 * seconds)
    }

    fn due(times: &[(i64, i64)], opened: i64, due: i64) -> i64 {
        let times: Vec<_> = times
            .iter()
            .map(|(from, until)| (at(*from), at(*until)))
            .collect();
        let put_off = Disturbed::new(&times).due(at(opened), at(due), Duration::from_secs(2));
        put_off.as_millis() / 1_000
    }

    #[test]
    fn a_window_waits_for_what_it_meets() {
        assert_eq!(due(&[], 10, 14), 14);
        assert_eq!(due(&[(0, 9), (17, 30)], 10, 14), 14, "over, and not begun");
        assert_eq!(due(&[(0, 11)], 10, 14), 14, "over in time");
        assert_eq!(due(&[(0, 20)], 10, 14), 20);
        assert_eq!(due(&[(12, 20), (19, 31)], 10, 14), 31, "the next one meanwhile");
        assert_eq!(due(&[(12, 20), (22, 31)], 10, 14), 31, "in its slack");
        assert_eq!(due(&[(12, 20), (23, 31)], 10, 14), 20);
    }

    /// Faults that overlap for five minutes excuse those that begin within a minute of what was there when the window was due.
    #[test]
    fn a_chain_of_faults_does_not_excuse_everything() {
        let chain: Vec<_> = (0..60).map(|n| (5 * n, 5 * n + 20)).collect();
        // The last one that begins within its slack is that of second 15.
        assert_eq!(due(&chain, 10, 14), 35 + 60 + 20);
        assert_eq!(due(&[(12, 20), (19, 300)], 10, 14), 300, "one that is long");
    }

    #[test]
    fn calm_is_what_touches_no_disturbance() {
        let disturbed = Disturbed::new(&[(at(10), at(20)), (at(15), at(30))]);
        for (from, until, is_calm) in [
            (1, 9, true),
            (1, 10, false),
            (31, 40, true),
            (30, 40, false),
            (1, 40, false),
            (22, 24, false),
        ] {
            assert_eq!(disturbed.is_calm(at(from), at(until)), is_calm, "{from}..{until}");
        }
    }
}
