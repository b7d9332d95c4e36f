//! reseal rewrites existing S3 objects under a new server-side encryption mode.
//!
//! This crate is the whole tool; the binary parses, runs, prints and exits. `README.md` is for whoever uses it,
//! `ARCHITECTURE.md` for whoever carries on. This page is the map.
//!
//! # Data flow
//!
//! ```text
//! Manifest ─rows→ settled already? skip ─→ reserve ─→ Task (look → Plan → rewrite → check) ─→ Journal ─Event→ Progress, Metrics, Summary
//!                                                               at the end: Manifest + Journal ─fold→ Report
//! ```
//!
//! Before it, once per job, the manifest is *prepared*: a validating pass over all of it gives the number of rows, the digest that
//! pins its content, and every fault with file and line.
//!
//! # Rooms, in reading order
//!
//! | room | what |
//! |---|---|
//! | *Nouns* | |
//! | [`object`] | one object: the manifest's row, and what a look at it told |
//! | [`encryption`] | the encryption an object is in, and the one we want |
//! | [`outcome`] | how a row ended, and the counts of many |
//! | [`event`] | everything that the engine tells |
//! | [`evidence`] | one rewrite, before and after |
//! | [`s3_error`] | what a store answered instead of doing what it was asked |
//! | [`exit`] | how a command ends |
//! | *Deciding*: no requests, no `async` | |
//! | [`manifest`] | manifests, inventories and reports, out of local files |
//! | [`selection`] | which of their rows are meant |
//! | [`plan`] | what to do with one object |
//! | [`retry`] | what an error means, and how long to wait |
//! | *Mechanisms*: each knows the nouns and one outside thing | |
//! | [`s3`] | the store, over the AWS SDK |
//! | [`checksum`] | the checksums that S3 keeps, computed |
//! | [`limiter`] | the budgets: what may be sent, and when |
//! | [`stall`] | that nothing goes on for the moment, and what is waited for |
//! | [`journal`] | the durable state of a job |
//! | [`control`] | the socket over which an operator reaches a run |
//! | [`http`] | HTTP that is not S3 |
//! | [`throttle`] | what comes before the job |
//! | [`local_s3`] | the embedded S3 |
//! | *Doing* | |
//! | [`probe`] | what a store does, tried on scratch keys |
//! | [`task`] | one row |
//! | [`engine`] | many rows |
//! | [`shutdown`] | being asked to stop |
//! | [`job`] | one run, from the configuration to the summary: the only wiring point |
//! | [`status`] | where a job stands, read from its state |
//! | [`demo`] | all of it on the embedded S3 |
//! | *Telling*: these know events, and not who sends them | |
//! | [`pace`] | progress, rate and remaining time, computed in one place |
//! | [`progress`] | the bar and the log lines |
//! | [`metrics`] | Prometheus |
//! | [`summary`] | what a run comes to |
//! | [`forecast`] | what a run would come to |
//! | [`report`] | the completion report, as S3 Batch Operations writes it |
//! | [`chain`] | evidence of rewrites, in files that are chained to one another |
//! | [`undo`] | what an undo comes to |
//! | [`verification`] | whether the target holds, and which keys may be retired |
//! | [`human`] | text for a person |
//! | *The edge* | |
//! | [`config`] | what the operator means |
//! | [`error`] | why a command did not do its work, and what to do about it |
//! | [`cli`] | what was typed |
//!
//! # Invariants
//!
//! - **Durable, then told.** No row's outcome is told before its record is on the disk.
//! - **Reserved, then started.** No row is started before the disk knows that it may be. What a crash leaves in doubt is looked at
//!   before anything is done to it.
//! - **Pinned.** An object is rewritten only under the ETag that was looked at, as the condition at both ends of the copy.
//! - **Checked.** What came back is held against the target: mode and key. Where the answer doesn't name them, a look decides.
//! - **Bounded.** Every queue, buffer and retry has a named bound; memory does not grow with the manifest.
//! - **A failed object is data, a failed job is an error.** The one is a row of the report, the other an exit code.
//! - **Secrets stay in.** A customer's key reaches no log line, error, report, journal or process list.
//! - The journal is the only state: resume, report and counts are folds over it, so that they can't disagree.
//! - The engine knows no listener, and no listener knows the engine.
//! - Only [`s3`] names the AWS SDK; only [`local_s3`] the server framework and the ciphers; only [`cli`] clap; only [`metrics`] the
//!   metrics crates. Nothing but [`cli`] writes to standard output, and only `main` exits.

// Nouns
pub mod bucket;
pub mod checkpoint;
pub mod object;
pub mod profile;

pub mod encryption;
pub mod outcome;

pub mod event;
pub mod evidence;
pub mod s3_error;
pub mod shard;

pub mod exit;

// Deciding: no requests, no async
pub mod closure;
pub mod deadline;
pub mod manifest;
pub mod plan;
pub mod retry;
pub mod selection;

// Mechanisms: each knows the nouns and one outside thing
pub mod s3;

pub mod checksum;
pub mod durable;
pub mod limiter;
pub mod stall;

pub mod control;
pub mod http;
pub mod throttle;

pub mod journal;
pub mod local_s3;

// Doing
pub mod listing;
pub mod probe;

pub mod task;

pub mod engine;
pub mod shutdown;

pub mod job;
pub mod status;

pub mod inventory;

pub mod demo;

// Telling: these know events only
pub mod pace;
pub mod progress;

pub mod metrics;
pub mod summary;

pub mod chain;
pub mod forecast;
pub mod report;
pub mod undo;
pub mod verification;

pub mod human;

// The edge
pub mod config;
pub mod error;

pub mod cli;

#[cfg(test)]
mod simulation;
