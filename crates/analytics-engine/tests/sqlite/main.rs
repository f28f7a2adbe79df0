//! The store in a directory.

mod basics;
mod erasing;
mod letters;
mod model;
mod opening;
mod power;
mod room;
mod support;
