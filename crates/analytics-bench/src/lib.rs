//! What this costs beside other clients, and where it goes.
//!
//! ```sh
//! cargo run --release -- compare --events 200000 --runs 5
//! ```
//!
//! delivers the same events by each *subject*, ours and others' clients, to a
//! *sink* on this machine, and says how many events a second each delivers, on
//! how much processor time, memory and traffic. Every run has a process of its
//! own, and so has its sink, so that none finds memory or connections that
//! another one has warmed up. Runs are interleaved, so that what else the
//! machine does meets all subjects alike.
//!
//! A subject's time begins before its first event is built and ends when its
//! last one was accepted: building events is part of the work, setting up
//! clients is not. The sink keeps count of every single event. A run in which
//! one is lost, or comes twice, is an error.
//!
//! | module | what is in it |
//! |---|---|
//! | [`mod@order`] | the event that all of them deliver |
//! | [`mod@subjects`] | ours, and the others |
//! | [`mod@sink`] | the server that takes everything |
//! | [`mod@process`] | runs in processes of their own |
//! | [`mod@compare`], [`mod@growth`], [`mod@latency`], [`mod@backlog`] | the commands |

pub mod backlog;
pub mod compare;
pub mod growth;
pub mod latency;
pub mod measure;
pub mod order;
pub mod process;
pub mod sink;
pub mod subjects;

/// What may go wrong in a benchmark is for people to read.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
