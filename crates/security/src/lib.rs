//! Who may do what with TaskIQ-Flow: authentication, authorization, the HTTPS rule, rate limits and the audit log.
//!
//! The crate decides; it serves nothing. It knows `http` and `tower` types, no web framework, and neither pipelines
//! nor runs beyond their ids.
//!
//! | to | go to |
//! |---|---|
//! | read and check the configuration | [`settings`] |
//! | decide about a request or a socket | [`guard`] (which asks all of the following) |
//! | know who is asking | [`principal`], [`api_key`], [`jwt`], [`certificate`] |
//! | know what it may do | [`policy`], [`permission`], [`whitelist`] |
//! | know where it comes from, and whether by HTTPS | [`https`] |
//! | change keys and access lists while the server runs | [`administration`] |
//! | limit its rate | [`rate_limit`] |
//! | write down what happened | [`audit`] |
//! | answer a refused request | [`refusal`] |
//! | put all of it around a tower service | [`layer`] |

pub mod administration;
pub mod api_key;
pub mod audit;
pub mod certificate;
mod digest;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod guard;
pub mod https;
pub mod jwt;
pub mod layer;
pub mod networks;
pub mod permission;
pub mod policy;
pub mod principal;
pub mod rate_limit;
pub mod refusal;
pub mod settings;
pub mod whitelist;

pub use self::administration::Administration;
pub use self::audit::AuditLogger;
pub use self::guard::{Admission, Guard};
pub use self::permission::Permission;
pub use self::policy::{Permit, Resource};
pub use self::principal::Principal;
pub use self::refusal::{Refusal, RefusalKind};
pub use self::settings::{SecurityOptions, Settings};
