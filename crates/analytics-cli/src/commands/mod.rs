//! One file a command.

pub(crate) mod dead_letters;
pub(crate) mod demo;
pub(crate) mod drain;
pub(crate) mod erase;
pub(crate) mod integrations;
pub(crate) mod purge;
pub(crate) mod sandbox;
pub(crate) mod send;
pub(crate) mod status;
pub(crate) mod validate;
pub(crate) mod worker;
