//! reseal rewrites existing S3 objects under a new server-side encryption mode.

// Nouns
pub mod encryption;
pub mod event;

pub mod exit;
pub mod object;
pub mod outcome;
pub mod s3_error;
// Deciding: pure
pub mod manifest;
pub mod plan;
pub mod retry;
// Mechanisms: each knows the nouns and one outside thing
pub mod journal;
pub mod limiter;
pub mod local_s3;
pub mod s3;
// Doing
pub mod demo;
pub mod engine;
pub mod job;
pub mod shutdown;
pub mod status;
pub mod task;
// The edge
pub mod cli;
pub mod config;
pub mod error;
// Telling: these know events only
pub mod human;
pub mod metrics;
pub mod pace;
pub mod progress;
pub mod report;
pub mod summary;
