//! When faults were at work, and how late a refresh may therefore be.

use std::time::Duration;

use frontstream::model::Timestamp;

/// The times in which a fault was at work or the system recovered from one; those that touch are one.
#[derive(Debug)]
pub(super) struct Disturbed(Vec<(Timestamp, Timestamp)>);

impl Disturbed {
    pub(super) fn new(times: &[(Timestamp, Timestamp)]) -> Self {
        let mut times = times.to_vec();
        times.sort_unstable();
        let mut merged: Vec<(Timestamp, Timestamp)> = Vec::new();
        for (from, until) in times {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(until),
                _ => merged.push((from, until)),
            }
        }
        Self(merged)
    }

    /// Returns when a window must be out that opened at `opened` and is due at `due`: as late as the last disturbance that it
    /// meets on its way is over.
    pub(super) fn due(&self, opened: Timestamp, due: Timestamp, slack: Duration) -> Timestamp {
        let mut put_off = due;
        for (from, until) in &self.0 {
            if *from <= put_off.plus(slack) && opened <= *until {
                put_off = put_off.max(*until);
            }
        }
        put_off
    }
}
