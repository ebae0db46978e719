//! Where runs are streamed to.

use std::ffi::OsString;
use std::time::Duration;

use super::netrc;
use crate::tracker::Error;
use crate::url::Url;
use crate::variables::{NoText, Variables};
use crate::{Patience, Token};

/// A server of Weights & Biases, and the key of a user there.
#[derive(Clone, Debug)]
pub struct WandbServer {
    pub(super) address: Url,
    pub(super) key: Token,
    pub(super) patience: Patience,
    pub(super) interval: Duration,
    pub(super) heartbeat: Duration,
    pub(super) closing: Duration,
}

impl WandbServer {
    /// The server at `address`, such as `https://api.wandb.ai`, for the user with this key.
    ///
    /// # Errors
    /// If there cannot be such an address or key, or the key would be sent unencrypted to another machine.
    pub fn new(address: &str, key: &str) -> Result<Self, Error> {
        Ok(Self::at(checked(address)?, netrc::token(key, "WANDB_API_KEY")?))
    }

    fn at(address: Url, key: Token) -> Self {
        // A server that is away for minutes is asked once a minute.
        let patience = Patience { longest_wait: Duration::from_secs(60), ..Patience::default() };
        let [interval, heartbeat, closing] = [15, 30, 120].map(Duration::from_secs);
        Self { address, key, patience, interval, heartbeat, closing }
    }

    /// Other timeouts. The number of attempts has no meaning here: while a run goes on, attempts do.
    #[must_use]
    pub fn patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Another time between requests than the 15 s of the official client.
    #[must_use]
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Another time after which a run that has nothing to say says that it lives, instead of the 30 s of the official client.
    #[must_use]
    pub fn heartbeat(self, heartbeat: Duration) -> Self {
        Self { heartbeat, ..self }
    }

    /// How long a run that ended waits until all is sent, instead of two minutes; a server that has never answered is not
    /// waited for.
    #[must_use]
    pub fn closing(self, closing: Duration) -> Self {
        Self { closing, ..self }
    }
}

/// What becomes of a run at Weights & Biases.
#[derive(Clone, Debug)]
pub enum WandbMode {
    /// Nothing.
    Disabled,
    /// Its run directory waits for `wandb sync`.
    Offline,
    /// It is streamed while it goes on; the run directory is written too.
    Online(WandbServer),
}

impl WandbMode {
    /// What the environment says: `WANDB_MODE` (online, offline or disabled; without it online if there is a key),
    /// `WANDB_API_KEY`, `WANDB_BASE_URL`. Where no key is set, it is the password of the server's host in the file that
    /// `NETRC` names, or in `~/.netrc`, where `wandb login` puts it; another file's `default` is nobody's key.
    ///
    /// # Errors
    /// If one of them cannot be what it should be.
    pub fn from_env() -> Result<Self, Error> {
        Self::of_variables(&Variables::of_process())
    }

    /// As [`from_env`](Self::from_env), with the variables that `read` gives, and nothing else that the system says.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_variables(read: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        Self::of_variables(&Variables::new(read))
    }

    fn of_variables<R: Fn(&str) -> Option<OsString>>(variables: &Variables<R>) -> Result<Self, Error> {
        let fault = |what, name: &str, reason| Error::Setting { what, name: name.into(), reason };
        let text = |name| variables.text(name).map_err(|NoText(name)| fault("the variable", name, NoText::REASON));
        let mode = text("WANDB_MODE")?;
        match mode.as_deref() {
            Some("disabled") => return Ok(Self::Disabled),
            Some("offline") => return Ok(Self::Offline),
            Some("online") | None => {}
            Some(other) => return Err(fault("WANDB_MODE", other, "must be online, offline or disabled")),
        }
        let key = text("WANDB_API_KEY")?.map(|key| netrc::token(&key, "WANDB_API_KEY")).transpose()?;
        let address = checked(&text("WANDB_BASE_URL")?.unwrap_or_else(|| "https://api.wandb.ai".into()))?;
        let key = key.map_or_else(|| netrc::key(variables, address.host()), |key| Ok(Some(key)))?;
        match (key, mode) {
            (Some(key), _) => Ok(Self::Online(WandbServer::at(address, key))),
            (None, None) => Ok(Self::Offline),
            (None, Some(mode)) => Err(fault("WANDB_MODE", &mode, "needs a key in WANDB_API_KEY or ~/.netrc")),
        }
    }
}

/// An address that a key may be sent to.
fn checked(address: &str) -> Result<Url, Error> {
    let fault = |(name, reason)| Error::Setting { what: "WANDB_BASE_URL", name, reason };
    let address = Url::of_server(address).map_err(fault)?;
    if address.scheme() != "https" && !address.is_loopback() {
        return Err(fault((address.to_string(), "must start with https://, since the key is sent there")));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(variables: &[(&str, &str)]) -> Result<String, String> {
        let read = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        match WandbMode::from_variables(read) {
            Ok(WandbMode::Online(server)) => Ok(server.address.whole()),
            Ok(other) => Ok(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_environment_decides_what_is_sent_where() {
        let key = ("WANDB_API_KEY", "5ecre7");
        for (variables, expected) in [
            (&[][..], "Offline"),
            (&[("WANDB_MODE", ""), ("WANDB_API_KEY", "")], "Offline"),
            (&[key], "https://api.wandb.ai/"),
            (&[key, ("WANDB_MODE", "offline")], "Offline"),
            (&[key, ("WANDB_MODE", "disabled")], "Disabled"),
            (&[key, ("WANDB_MODE", "online"), ("WANDB_BASE_URL", "http://127.0.0.1:9/w/")], "http://127.0.0.1:9/w"),
        ] {
            assert_eq!(mode(variables).unwrap(), expected);
        }
        for (variables, words) in [
            (&[("WANDB_MODE", "online")][..], "WANDB_MODE \"online\" needs a key in WANDB_API_KEY or ~/.netrc"),
            (&[key, ("WANDB_MODE", "live")], "must be online, offline or disabled"),
            (&[("WANDB_API_KEY", "5ecre7 x")], "WANDB_API_KEY holds no token"),
            (&[key, ("WANDB_BASE_URL", "http://wandb.example")], "must start with https://"),
            (&[key, ("WANDB_BASE_URL", "https://me:5ecre7@wandb.example")], "no user and password"),
        ] {
            let error = mode(variables).unwrap_err();
            assert!(error.contains(words) && !error.contains("5ecre7"), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let (home, other) = (folder.path().to_str().unwrap(), folder.path().join("other"));
        let home = (crate::variables::HOME, home);
        assert_eq!(mode(&[home]).unwrap(), "Offline");
        std::fs::write(folder.path().join(".netrc"), "machine api.wandb.ai login user password 5ecre7").unwrap();
        std::fs::write(&other, "machine w.example:8080 password 5ecre7\nmachine 127.0.0.1 password \"a b\"").unwrap();
        let named = ("NETRC", "~/other");
        for (variables, expected) in [
            (&[home][..], "https://api.wandb.ai/"),
            (&[home, ("WANDB_MODE", "offline")], "Offline"),
            (&[home, named], "Offline"),
            (&[home, ("WANDB_BASE_URL", "https://w.example:8080")], "Offline"),
            (&[home, named, ("WANDB_BASE_URL", "https://w.example:8080")], "https://w.example:8080/"),
            (&[home, ("NETRC", "/no/such/file")], "Offline"),
        ] {
            assert_eq!(mode(variables).unwrap(), expected, "{variables:?}");
        }
        for (variables, words) in [
            (&[home, named, ("WANDB_MODE", "online")][..], "needs a key"),
            (&[home, named, ("WANDB_BASE_URL", "http://127.0.0.1")], "other holds no token"),
        ] {
            let error = mode(variables).unwrap_err();
            assert!(error.contains(words) && !error.contains("a b"), "{error}");
        }
        let server = WandbServer::new("https://api.wandb.ai", "5ecre7").unwrap();
        assert!(!format!("{server:?}").contains("5ecre7"));
    }
}
