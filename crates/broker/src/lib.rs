//! taskiq-flow-broker
