//! Descriptors: operations on sockets, and transports, which are read from and written to for a protocol of the host.

pub(crate) mod address;
pub(crate) mod pipe;
pub mod protocol;
mod read;
pub(crate) mod sock;
pub mod transport;
mod write;
mod write_queue;
