//! Time and chance, injected: a retry schedule is tested without sleeping.

use std::{fmt::Debug, future::Future, pin::Pin, time::Duration};

use crate::Timestamp;

/// A pause that a [`Clock`] makes.
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// What retries need from the world around them.
pub trait Clock: Debug + Send + Sync {
    /// The current time.
    fn now(&self) -> Timestamp;

    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> Sleep<'_>;

    /// A number from `0.0` to below `1.0` that spreads retries over time.
    fn jitter(&self) -> f64;
}

/// The system's time, tokio's timer, and a fast random number generator.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct TokioClock;

#[cfg(feature = "tokio")]
impl TokioClock {
    /// The clock of a program that runs on tokio.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

#[cfg(feature = "tokio")]
impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn sleep(&self, duration: Duration) -> Sleep<'_> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn jitter(&self) -> f64 {
        fastrand::f64()
    }
}
