//! A wall clock that is set back while a lane works. Pauses are told by it,
//! for they outlive the process: all of them would last longer by as much.

use std::time::Duration;

use analytics_spec::Timestamp;

use super::{Running, before, between};

/// By less than this every clock is wrong now and then.
const STEP: Duration = Duration::from_secs(1);

impl Running {
    /// Looks at the clock, and if it went back, ends every pause as much
    /// earlier. It says less than it did the last time, or than the time until
    /// which the lane has just slept.
    pub(super) fn heed_clock(&mut self, slept_until: Option<Timestamp>) {
        let now = self.now();
        let least = slept_until.map_or(self.seen_at, |until| until.max(self.seen_at));
        self.seen_at = now;
        let step = between(now, least);
        if step < STEP {
            return;
        }
        tracing::warn!(integration = %self.lane.name, by = ?step, "the clock was set back");
        self.is_set_back = true;
        self.schedule.set_back(step);
        self.condition.set_back(step);
        for time in [
            &mut self.store_paused_until,
            &mut self.lingering_since,
            &mut self.full_since,
        ] {
            *time = time.map(|time| before(time, step));
        }
    }
}
