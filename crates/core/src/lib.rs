//! taskiq-flow-core
