//! JSON as it comes and goes: [read strictly](from_slice), and
//! [written](write) as `serde_json` writes it, only faster.

mod read;
mod write;

pub use read::{Strict, from_slice};
pub use write::write;
