//! The embedded S3: a small, real S3 that keeps its objects on disk, encrypted under envelope keys.
//!
//! - [`server`]: the handle and the thread behind it; `connections`; [`credentials`] of a folder.
//! - [`admin`]: serving and looking after keys, for the command line.
//! - `front`: one request in, one answer out; `access_log`. `in_process`, in tests: the same without a socket.
//! - `service`: S3's operations, behind s3s.
//! - `conditions`, `error`: S3's rules for conditional requests, and its error documents.
//! - [`sample`]: a bucket to show and to try things on.
//! - `model`: what is remembered about buckets and objects.
//! - `store`: the folder on disk and the index over it.
//! - [`vault`]: keys, envelopes and the encrypted files.

mod access_log;
pub mod admin;
mod conditions;
mod connections;
pub mod credentials;
mod error;
mod front;
#[cfg(test)]
pub(crate) mod in_process;
mod model;
pub mod sample;
pub mod server;
mod service;
mod store;
#[cfg(test)]
mod tests;
pub mod vault;
