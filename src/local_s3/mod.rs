//! The embedded S3: a small, real S3 that keeps its objects encrypted on disk.
pub mod conditions;
pub mod error;
pub mod vault;
