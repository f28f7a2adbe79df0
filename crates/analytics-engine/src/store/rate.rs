//! How much was delivered lately.

use analytics_spec::Timestamp;

/// Deliveries, counted by the minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rate {
    /// All of them.
    pub(crate) total: u64,
    /// The minute of the last ones, since 1970.
    pub(crate) minute: i64,
    /// How many there were in it.
    pub(crate) current: u64,
    /// How many there were in the minute before.
    pub(crate) previous: u64,
}

fn minute(now: Timestamp) -> i64 {
    now.as_second().div_euclid(60)
}

impl Rate {
    pub(crate) fn count(&mut self, deliveries: u64, now: Timestamp) {
        let now = minute(now);
        if now != self.minute {
            self.previous = if now == self.minute + 1 {
                self.current
            } else {
                0
            };
            self.current = 0;
            self.minute = now;
        }
        self.current += deliveries;
        self.total += deliveries;
    }

    /// Those of the last whole minute.
    pub(crate) fn last_minute(&self, now: Timestamp) -> u64 {
        match minute(now).checked_sub(self.minute) {
            Some(0) => self.previous,
            Some(1) => self.current,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_minutes_are_told() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut rate = Rate::default();
        rate.count(2, at(60));
        rate.count(3, at(119));
        assert_eq!(rate.last_minute(at(119)), 0);
        assert_eq!(rate.last_minute(at(120)), 5);
        rate.count(1, at(121));
        assert_eq!(rate.last_minute(at(179)), 5);
        assert_eq!(rate.last_minute(at(180)), 1);
        assert_eq!(rate.last_minute(at(240)), 0);
        rate.count(7, at(600));
        assert_eq!((rate.last_minute(at(600)), rate.total), (0, 13));
    }
}
