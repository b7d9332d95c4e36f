//! Everything that is tested through the library's front or over files of the repository, as one binary.

mod bad_input;
mod commands;
mod crash;
mod dashboards;
mod exit_codes;
mod faults;
mod modes;
mod moto;
mod operators;
mod readme;
mod support;
