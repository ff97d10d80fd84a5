//! Sockets: their addresses, and operations on their descriptors.

pub(crate) mod address;
pub(crate) mod sock;
