//! taskiq-flow-security
