//! Everything that is tested through the library's front or over files of the repository, as one binary.

mod answers;
mod archived;
mod bad_input;
mod closure;
mod commands;
mod crash;
mod damage;
mod dashboards;
mod drain;
mod exit_codes;
mod faithless;
mod faults;
mod former_report;
mod modes;
mod moto;
mod multipart;
mod operators;
mod pinned;
mod preflight;
mod probe;
mod readme;
mod requests;
mod requests_each;
mod state_s3;
mod support;
mod versions;
