//! taskiq-flow-security

pub mod https;
pub mod rate_limit;
