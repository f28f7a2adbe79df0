//! JSON as it comes, [read strictly](from_slice()), and as it goes,
//! [written](write()) as `serde_json` writes it, only faster.

mod key;
mod read;
mod text;
mod write;

pub use read::{Strict, from_slice};
pub use write::write;
