//! Large files, by Xet: the Hub's own store, which keeps chunks of files, and each but once. Hugging Face's crate speaks
//! to it; whom, with which right and how long is said here.

mod upload;

use std::path::PathBuf;
use std::time::Duration;

use ::xet::XetError;
use ::xet::xet_session::{HeaderValue, XetConfig, XetSession, XetSessionBuilder};
use serde::Deserialize;

use crate::{Client, Token};

/// How often the progress is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// The right to write to the store, for a while.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grant {
    cas_url: String,
    access_token: String,
    exp: u64,
}

impl Client {
    /// What speaks to the store, as patient as we are. It reports to nobody, whatever the environment says.
    fn xet_session(&self) -> Result<XetSession, XetError> {
        // Another part of the program may have chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let span = |time: Duration| format!("{}ms", time.as_millis().max(1));
        let settings = [
            ("telemetry.enabled", "false".into()),
            ("client.retry_max_attempts", self.patience.attempts.to_string()),
            ("client.retry_base_delay", span(self.patience.first_wait)),
            ("client.retry_max_duration", span(self.patience.longest_wait)),
            ("client.connect_timeout", span(self.patience.connect)),
            ("client.read_timeout", span(self.patience.silence * crate::send::LONGER)),
        ];
        let mut config = XetConfig::new();
        for (name, value) in settings {
            config = config.with_config(name, value).map_err(|error| XetError::Configuration(error.to_string()))?;
        }
        let folder: PathBuf = self.cache.folder().join(".xet");
        XetSessionBuilder::new_with_config(config).with_cache_dir(folder).build()
    }
}

impl Token {
    /// The header that sends it, which shows itself to nobody.
    fn secret_value(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&self.header()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}
