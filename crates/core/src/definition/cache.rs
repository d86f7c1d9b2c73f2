//! Values that are kept for later runs.

use std::time::Duration;

use crate::expr::Expr;

/// That the values of a task are kept, and taken again where the same is asked for; inside a map and the like: those of
/// its items.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    /// How long a value is good; none: as long as it is kept.
    pub ttl: Option<Duration>,
    /// What a value depends on, over what the body is given; none: all that it is given.
    pub key: Option<Expr>,
    /// Another text makes all values that were kept so far count no longer.
    pub version: Option<String>,
}
