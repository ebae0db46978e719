//! The crate `hf-hub` beside ours: one cache, and the faults of `mixflow-hub/tests/hub` where it meets them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "these servers can do more than is asked here")]

mod cache;
mod download;
mod publish;
#[path = "../../mixflow-hub/tests/hub/server/mod.rs"]
mod server;
#[path = "../../mixflow-hub/tests/hub/shared.rs"]
mod shared;

use hf_hub::repository::RepoTypeModel;
use hf_hub::{HFClient, HFClientSync, HFRepositorySync};

use crate::shared::Setting;

/// Their client of the same server and cache. Two attempts, soon after each other.
fn theirs(setting: &Setting, token: Option<&str>) -> HFClientSync {
    let client = HFClient::builder().endpoint(&setting.server.endpoint).cache_dir(setting.cache());
    let client = client.retry_max_attempts(2).retry_base_delay(std::time::Duration::from_millis(1));
    match token {
        Some(token) => client.token(token),
        None => client,
    }
    .build_sync()
    .unwrap()
}

fn model(setting: &Setting) -> HFRepositorySync<RepoTypeModel> {
    theirs(setting, None).model("org", "sit")
}
