//! How what is kept becomes bytes, whichever store keeps them.

mod bytes;
mod events;
mod json;

pub(crate) use self::bytes::{Broken, Reader, Unwritable, Writer};
#[cfg(all(test, feature = "sqlite"))]
pub(crate) use self::json::MAX_DEPTH;
pub(crate) use self::json::Unreadable;
#[cfg(feature = "sqlite")]
pub(crate) use self::json::{MAX_BYTES, excess, from_json, to_json};
