//! reseal rewrites existing S3 objects under a new server-side encryption mode.
pub mod local_s3;
