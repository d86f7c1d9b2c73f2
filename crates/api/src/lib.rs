//! taskiq-flow-api
