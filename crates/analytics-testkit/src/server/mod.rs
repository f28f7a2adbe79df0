//! What every scripted vendor shares: the server loop, the faults, the record
//! of what came in. A vendor adds only its rules, as an implementation of
//! [`Vendor`].

mod answer;
mod fault;
mod listener;
mod record;
mod remembered;
mod request;
mod scripted;
mod sink;

pub use answer::Answer;
pub use fault::{Fault, FaultRule, Faults};
pub use record::{Counts, Keep, Received, Record, RecordedRequest, Violation, ViolationKind};
pub use remembered::Remembered;
pub(crate) use request::media_type;
pub use request::{BodyProblem, Request};
pub use scripted::{Scripted, ServerOptions, Vendor};
pub use sink::Sink;
