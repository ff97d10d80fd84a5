//! Descriptors: operations on sockets, transports, which are read from and written to for a protocol of the host, and addresses.

pub(crate) mod address;
pub(crate) mod pipe;
pub mod protocol;
mod read;
pub mod resolver;
pub(crate) mod sock;
pub(crate) mod text;
pub mod transport;
mod write;
mod write_queue;
