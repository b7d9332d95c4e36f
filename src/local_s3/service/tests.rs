//! The operations through real HTTP.
