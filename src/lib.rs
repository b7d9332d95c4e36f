//! reseal rewrites existing S3 objects under a new server-side encryption mode.

// Nouns
pub mod encryption;
pub mod event;
pub mod exit;
pub mod object;
pub mod outcome;
// Deciding: pure
pub mod manifest;
// Mechanisms: each knows the nouns and one outside thing
pub mod journal;
pub mod local_s3;
// Telling: these know events only
pub mod metrics;
pub mod progress;
pub mod report;
