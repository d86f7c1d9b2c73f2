//! Private parsers, for fuzz targets. No part of the API: it changes at will.

pub use crate::jwt::jwks::fuzzing::{address, key_set};
