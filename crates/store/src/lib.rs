//! taskiq-flow-store
