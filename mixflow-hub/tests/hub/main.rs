//! Downloads, uploads and trackers over a real wire: a server on loopback that speaks as the Hub does, and fails as one can.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(feature = "pipeline")]
#[path = "../../../tests/it/allocation.rs"]
mod allocation;
mod answers;
#[cfg(feature = "pipeline")]
mod collection;
mod download;
mod failures;
#[cfg(feature = "pipeline")]
mod fetch;
#[cfg(feature = "t2i")]
mod minit2i;
mod parallel;
#[cfg(feature = "pipeline")]
mod pipeline;
#[cfg(feature = "pipeline")]
mod publication;
mod python;
mod server;
mod shared;
#[cfg(feature = "xet")]
mod store;
#[cfg(feature = "pipeline")]
mod systems;
#[cfg(feature = "t2i")]
mod text;
mod tls;
mod tracker;
mod upload;
