//! For authors of integrations: vendors that answer on loopback.
//!
//! A *scripted vendor* is an HTTP server on `127.0.0.1` that knows one vendor's
//! contract. It checks every request as strictly as the vendor documents,
//! answers as the vendor would, remembers what it received, and fails when it
//! is told to. [`ScriptedSegment`], [`ScriptedMixpanel`] and
//! [`ScriptedMailchimp`] are ready; a vendor of your own is an implementation
//! of [`Vendor`], a function from a request and a state to an answer.
//!
//! Where the vendor would take a request and then lose or bend what is in it,
//! the scripted vendor answers the same and writes down a [`Violation`]: a test
//! that ends with `assert!(vendor.violations().is_empty())` finds data that
//! production would have lost without a word.
//!
//! ```
//! use analytics_testkit::{Fault, ScriptedSegment, SegmentAccount};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let segment = ScriptedSegment::start(SegmentAccount::new("write-key")).await?;
//! segment.faults().push(Fault::status(503).times(2).on("/v1/batch"));
//!
//! // ... point an integration at `segment.base_url()` and send events ...
//!
//! assert!(segment.violations().is_empty());
//! assert_eq!(segment.received().len(), 0);
//! segment.shutdown().await;
//! # Ok(())
//! # }
//! ```

pub mod conformance;
pub mod server;
pub mod vendors;

pub use server::{
    Answer, Fault, FaultRule, Keep, Received, Request, Scripted, ServerOptions, Sink, Vendor,
    Violation, ViolationKind,
};
pub use vendors::{
    MailchimpAccount, MixpanelAccount, ScriptedMailchimp, ScriptedMixpanel, ScriptedSegment,
    SegmentAccount,
};
