//! taskiq-flow-engine
