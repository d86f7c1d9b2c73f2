//! Where the state of a router begins: with the table of routes and the OpenAPI document in view.

use std::sync::LazyLock;

use serde_json::Value;
use taskiq_flow_engine::Engine;
use taskiq_flow_security::Administration;

use crate::openapi::document;
use crate::options::{ApiOptions, OptionsError};
use crate::routes::is_taken;
use crate::state::AppState;

/// Made when it is first asked for.
static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

impl AppState {
    /// What a router is made of.
    ///
    /// # Errors
    /// [`OptionsError`] names the option that does not fit.
    pub fn new(
        engine: Engine,
        administration: Administration,
        options: ApiOptions,
    ) -> Result<Self, OptionsError> {
        options.check(is_taken)?;
        Ok(Self::of(engine, administration, options, || &DOCUMENT))
    }
}
