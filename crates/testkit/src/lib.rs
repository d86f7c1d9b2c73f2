//! taskiq-flow-testkit
