//! Mapping an event when it is accepted, and not when it is sent: whoever
//! accepts it has it at hand, and what travels from there is a few bytes.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{AnyEvent, AnyInput, Delivery, Error, ErrorKind, Kind, Progress};

/// An event as its integration will send it; only the integration knows what
/// is in it. Cloning it is cheap.
#[derive(Clone)]
pub struct Prepared {
    parcel: Arc<dyn Any + Send + Sync>,
    bytes: usize,
}

impl Prepared {
    /// A parcel, of which about so many bytes will be sent.
    pub fn new(parcel: impl Any + Send + Sync, bytes: usize) -> Self {
        Self {
            parcel: Arc::new(parcel),
            bytes,
        }
    }

    /// The parcel, if it is one of this type.
    #[must_use]
    pub fn parcel<T: Any>(&self) -> Option<&T> {
        self.parcel.downcast_ref()
    }

    /// About how many bytes will be sent.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// One attempt to deliver an event that was prepared.
#[derive(Clone, Copy, Debug)]
pub struct PreparedAttempt<'a> {
    /// The event.
    pub prepared: &'a Prepared,
    /// Its kind.
    pub kind: Kind,
    /// Its message id.
    pub message_id: &'a str,
    /// Whose it is: each person by a number that is the same in all attempts
    /// of one call.
    pub people: &'a [u64],
    /// The event, if it is still at hand: for those who are told of failures.
    pub event: Option<&'a AnyEvent>,
    /// Which attempt this is, from 1.
    pub number: u32,
    /// What earlier attempts got through.
    pub progress: Progress,
    /// How long each request may take.
    pub timeout: Duration,
}

/// What an integration can do that maps events ahead of their delivery.
#[async_trait]
pub trait Prepare: Send + Sync {
    /// Checks the vendor's own rules, as
    /// [`validate`](crate::Integration::validate) does, and maps the event.
    ///
    /// - Is asked only for supported kinds, and inputs that are stamped and
    ///   satisfy the specification.
    /// - Is pure: the same input gives the same parcel.
    ///
    /// # Errors
    ///
    /// [`Validation`](ErrorKind::Validation) with every violation; or the event
    /// cannot be mapped. Both are for good.
    fn prepare(&self, input: &AnyInput) -> Result<Prepared, Error>;

    /// Makes one attempt to deliver several events that this very integration
    /// has prepared; otherwise as
    /// [`deliver_batch`](crate::Integration::deliver_batch).
    async fn deliver_prepared(
        &self,
        attempts: &[PreparedAttempt<'_>],
    ) -> Vec<Result<Delivery, Error>>;
}

/// The outcome of a parcel that is none of the integration's.
#[must_use]
pub fn not_its_own() -> Error {
    Error::new(
        ErrorKind::Internal,
        "the event was prepared by another integration",
    )
}
