//! One file a command.

pub(crate) mod demo;
pub(crate) mod integrations;
pub(crate) mod sandbox;
pub(crate) mod send;
pub(crate) mod validate;
