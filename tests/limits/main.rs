//! Limits of the built program: shared between replicas, without their storage, and of pipelines.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod quotas;
mod redis;
mod support;
