//! taskiq-flow-macros
