//! Pipelines as DAGs of tasks, shown and guarded over HTTP and WebSocket.
//!
//! The names are those of the security guide: a [`TaskiqFlowConfig`], an [`InMemoryBroker`], [`Taskiq`] around it,
//! and [`create_visualization_api`], which puts engine, store, guard and routes together.
//!
//! ```no_run
//! use taskiq_flow::config::{ApiKey, Permission};
//! use taskiq_flow::{InMemoryBroker, TaskiqFlowConfig, create_visualization_api};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = TaskiqFlowConfig::builder()
//!     .api_keys([("admin-key", ApiKey::new("admin").permissions([Permission::Admin]))])
//!     .build();
//! let api = create_visualization_api(InMemoryBroker::new(), config)
//!     .load("pipelines")?
//!     .start()
//!     .await?;
//! api.serve().await?;
//! # Ok(())
//! # }
//! ```

pub mod config;
mod files;
mod firings;
pub mod pipeline;
pub mod posture;
mod reload;
mod security_state;
mod server;
pub mod task;
mod tls;

pub use config::TaskiqFlowConfig;
pub use files::{LoadError, load_file, load_files};
pub use reload::Reload;
pub use server::{
    Api, ServeError, Server, StartError, Taskiq, bind, create_visualization_api, open_store, stop_signal,
};
pub use task::task;
pub use taskiq_flow_api as api;
pub use taskiq_flow_broker as broker;
pub use taskiq_flow_broker::InMemoryBroker;
pub use taskiq_flow_core as core;
pub use taskiq_flow_engine as engine;
pub use taskiq_flow_security as security;
pub use taskiq_flow_store as store;
pub use tls::{TlsError, TlsFiles, TlsReloader, client_identity};
