//! What answers look like. Each shape is described to clients by its OpenAPI schema.

mod cache;
mod dead_letter;
mod forecast;
mod pipeline;
mod run;
mod schedule;
mod security;
mod statistics;
mod webhook;

pub(crate) use cache::{CacheDocument, CacheRemoval};
pub(crate) use dead_letter::DeadLetterList;
pub(crate) use forecast::{EstimateDocument, SpeedUpDocument, WhatIfDocument};
pub(crate) use pipeline::{
    CriticalPathDocument, ParallelGroups, PipelineDocument, PipelineList, PipelineRow, Registration,
};
pub(crate) use run::{Accepted, EventList, Finished, ItemList, LogList, RunDocument, RunList, SignalTaken};
pub(crate) use schedule::{
    BackfillDocument, BackfillTimeDocument, FiringList, ScheduleDocument, ScheduleList,
};
pub(crate) use security::{
    AclDocument, AclList, AclRow, IssuedKeyDocument, KeyDocument, KeyList, RevocationDocument, RevocationList,
};
pub(crate) use statistics::StatisticsDocument;
pub(crate) use webhook::{DeliveryList, TestedWebhook, WebhookList};
