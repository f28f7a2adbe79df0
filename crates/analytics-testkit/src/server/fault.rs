//! How a server fails when it is told to.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::answer::Answer;
use super::request::Request;

/// One way to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Answers this; the vendor never sees the request.
    Answer(Answer),
    /// The connection is reset; the vendor never sees the request.
    Reset,
    /// No answer ever comes; the vendor never sees the request.
    Hang,
    /// The vendor takes the request, then the client hears this instead.
    AcceptThenAnswer(Answer),
    /// The vendor takes the request, then the connection is reset: how a
    /// client comes to send twice what was taken once.
    AcceptThenReset,
    /// The vendor takes the request, then no answer ever comes.
    AcceptThenHang,
    /// The vendor takes the request and answers; the connection ends in the
    /// middle of its body.
    AcceptThenTruncate,
    /// The request waits, then all goes on as usual.
    Delay(Duration),
}

impl Fault {
    /// A status with an empty body.
    pub fn status(code: u16) -> Self {
        Self::Answer(Answer::empty(code))
    }

    /// A 429 with `Retry-After` in seconds.
    pub fn retry_after(seconds: u64) -> Self {
        Self::Answer(Answer::empty(429).header("retry-after", seconds.to_string()))
    }

    /// The vendor takes the request, and the client is told this status.
    pub fn accept_then_status(code: u16) -> Self {
        Self::AcceptThenAnswer(Answer::empty(code))
    }

    /// The same with one more header, where the fault is an answer.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        match self {
            Self::Answer(answer) => Self::Answer(answer.header(name, value)),
            Self::AcceptThenAnswer(answer) => Self::AcceptThenAnswer(answer.header(name, value)),
            other => other,
        }
    }

    /// Injected into this many requests.
    pub fn times(self, count: u64) -> FaultRule {
        FaultRule::from(self).times(count)
    }

    /// Injected into every request until [`Faults::clear`].
    pub fn always(self) -> FaultRule {
        FaultRule::from(self).always()
    }

    /// Injected only where the path begins like this.
    pub fn on(self, path: &str) -> FaultRule {
        FaultRule::from(self).on(path)
    }

    /// Injected only where this holds.
    pub fn when(self, holds: impl Fn(&Request) -> bool + Send + Sync + 'static) -> FaultRule {
        FaultRule::from(self).when(holds)
    }

    /// Whether the vendor gets to see the request.
    pub(crate) fn lets_the_vendor_see(&self) -> bool {
        match self {
            Self::Answer(_) | Self::Reset | Self::Hang => false,
            Self::AcceptThenAnswer(_)
            | Self::AcceptThenReset
            | Self::AcceptThenHang
            | Self::AcceptThenTruncate
            | Self::Delay(_) => true,
        }
    }
}

type Condition = Arc<dyn Fn(&Request) -> bool + Send + Sync>;

/// A [`Fault`], how often it is injected, and into which requests.
#[derive(Clone)]
pub struct FaultRule {
    fault: Fault,
    left: Option<u64>,
    path: Option<String>,
    condition: Option<Condition>,
}

impl From<Fault> for FaultRule {
    fn from(fault: Fault) -> Self {
        Self {
            fault,
            left: Some(1),
            path: None,
            condition: None,
        }
    }
}

impl fmt::Debug for FaultRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultRule")
            .field("fault", &self.fault)
            .field("left", &self.left)
            .field("path", &self.path)
            .field("conditional", &self.condition.is_some())
            .finish()
    }
}

impl FaultRule {
    /// Injected into this many requests.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.left = Some(count);
        self
    }

    /// Injected into every request until [`Faults::clear`].
    #[must_use]
    pub fn always(mut self) -> Self {
        self.left = None;
        self
    }

    /// Injected only where the path begins like this.
    #[must_use]
    pub fn on(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// Injected only where this holds.
    #[must_use]
    pub fn when(mut self, holds: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        self.condition = Some(Arc::new(holds));
        self
    }

    fn matches(&self, request: &Request) -> bool {
        self.path
            .as_ref()
            .is_none_or(|path| request.path.starts_with(path.as_str()))
            && self.condition.as_ref().is_none_or(|holds| holds(request))
    }
}

/// The faults that a server still has to inject.
///
/// Scripted faults come first: the earliest pushed that matches is taken. Where
/// none matches, [`Faults::random`] may strike.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    script: Arc<Mutex<Script>>,
}

#[derive(Debug, Default)]
struct Script {
    rules: VecDeque<FaultRule>,
    random: Option<Random>,
}

#[derive(Debug)]
struct Random {
    probability: f64,
    generator: fastrand::Rng,
    faults: Vec<Fault>,
}

impl Faults {
    /// Adds a fault, or a rule, to the end of the script.
    pub fn push(&self, rule: impl Into<FaultRule>) {
        let rule = rule.into();
        if rule.left != Some(0) {
            self.lock().rules.push_back(rule);
        }
    }

    /// From now on this share of requests fails, each in one of the ways in
    /// which a vendor or a network does: 500, 503, 429, a reset before or
    /// after the vendor took the request, a cut answer. The same seed gives
    /// the same sequence.
    ///
    /// Nothing hangs: how long a client waits is the client's to say. Use
    /// [`Faults::random_of`] for that.
    pub fn random(&self, probability: f64, seed: u64) {
        self.random_of(
            probability,
            seed,
            [
                Fault::status(500),
                Fault::status(503),
                Fault::retry_after(0),
                Fault::Reset,
                Fault::AcceptThenReset,
                Fault::AcceptThenTruncate,
                Fault::accept_then_status(502),
            ],
        );
    }

    /// As [`Faults::random`], with a choice of one's own.
    pub fn random_of(&self, probability: f64, seed: u64, faults: impl IntoIterator<Item = Fault>) {
        self.lock().random = Some(Random {
            probability,
            generator: fastrand::Rng::with_seed(seed),
            faults: faults.into_iter().collect(),
        });
    }

    /// No fault from here on.
    pub fn clear(&self) {
        *self.lock() = Script::default();
    }

    /// How many scripted rules are not used up.
    pub fn pending(&self) -> usize {
        self.lock().rules.len()
    }

    /// The fault for this request.
    pub(crate) fn take(&self, request: &Request) -> Option<Fault> {
        let mut script = self.lock();
        let place = script.rules.iter().position(|rule| rule.matches(request));
        if let Some(place) = place {
            let rule = script.rules.get_mut(place)?;
            let fault = rule.fault.clone();
            if let Some(left) = rule.left.as_mut() {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    script.rules.remove(place);
                }
            }
            return Some(fault);
        }
        let random = script.random.as_mut()?;
        if random.generator.f64() >= random.probability {
            return None;
        }
        random.generator.choice(&random.faults).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Script> {
        // A condition that panicked has left the script as it was.
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(faults: &Faults, path: &str) -> Option<Fault> {
        faults.take(&Request::new("POST", path))
    }

    #[test]
    fn faults_are_used_up_in_order() {
        let faults = Faults::default();
        faults.push(Fault::status(503).times(2));
        faults.push(Fault::Reset);
        faults.push(Fault::Hang.times(0));
        assert_eq!(taken(&faults, "/"), Some(Fault::status(503)));
        assert_eq!(taken(&faults, "/"), Some(Fault::status(503)));
        assert_eq!(taken(&faults, "/"), Some(Fault::Reset));
        assert_eq!(taken(&faults, "/"), None);
        assert_eq!(faults.pending(), 0);
    }

    #[test]
    fn a_rule_waits_for_what_it_matches() {
        let faults = Faults::default();
        faults.push(Fault::status(500).on("/v1/batch"));
        faults.push(Fault::Hang.when(|request| request.method == "GET"));
        assert_eq!(taken(&faults, "/v1/track"), None);
        assert_eq!(taken(&faults, "/v1/batch"), Some(Fault::status(500)));
        assert_eq!(faults.take(&Request::new("GET", "/")), Some(Fault::Hang));
    }

    #[test]
    fn always_lasts_until_it_is_cleared() {
        let faults = Faults::default();
        faults.push(Fault::status(500).always());
        for _ in 0..50 {
            assert!(taken(&faults, "/").is_some());
        }
        faults.clear();
        assert_eq!(taken(&faults, "/"), None);
    }

    #[test]
    fn a_seed_gives_a_sequence_and_a_share() {
        let sequence = |seed| {
            let faults = Faults::default();
            faults.random(0.3, seed);
            (0..1000).map(|_| taken(&faults, "/")).collect::<Vec<_>>()
        };
        let first = sequence(7);
        assert_eq!(first, sequence(7));
        assert_ne!(first, sequence(8));
        let share = first.iter().flatten().count();
        assert!((250..350).contains(&share), "{share}");
    }
}
