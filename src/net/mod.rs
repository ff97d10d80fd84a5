//! Descriptors: operations on sockets, transports, which are read from and written to for a protocol of the host, servers, datagram
//! endpoints, and addresses.

mod accept;
pub(crate) mod address;
pub(crate) mod connect;
pub(crate) mod connection;
pub mod datagram;
pub(crate) mod endpoint;
pub(crate) mod file;
mod life;
pub(crate) mod listen;
pub(crate) mod pipe;
pub mod protocol;
mod read;
pub mod resolver;
mod sendfile;
pub(crate) mod serve;
pub mod server;
mod sigpipe;
pub(crate) mod sock;
pub mod stream;
pub(crate) mod text;
pub mod transport;
mod write;
mod write_queue;
