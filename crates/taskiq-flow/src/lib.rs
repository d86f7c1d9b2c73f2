//! taskiq-flow
