//! The embedded S3: a small, real S3 that keeps its objects on disk, encrypted under envelope keys.
//!
//! - [`model`]: what is remembered about buckets and objects.
//! - [`vault`]: keys, envelopes and the encrypted files.
//! - [`store`]: the folder on disk and the index over it.
//! - [`conditions`], [`error`]: S3's rules for conditional requests, and its error documents.
//! - [`service`]: S3's operations.

pub mod conditions;
pub mod error;
pub mod model;
pub mod service;
pub mod store;
pub mod vault;
