//! Everything that is tested through the library's front or over files of the repository, as one binary.

mod dashboards;
mod modes;
mod operators;
mod support;
