//! Who asks: a server, a token, a cache, and patience.

use std::ffi::OsString;
#[cfg(feature = "xet")]
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use ureq::Agent;

use crate::agent::agent;
use crate::variables::{HOME, NoText, Variables};
#[cfg(feature = "xet")]
use crate::xet_access::XetAccess;
use crate::{Cache, Endpoint, Error, Patience, Token};

/// Access to one Hub and one cache.
///
/// Nothing is read from the environment but by [`from_env`](Self::from_env), and nothing is sent that was not asked for.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) endpoint: Endpoint,
    pub(crate) cache: Cache,
    pub(crate) token: Option<Token>,
    /// When the token ends, where that is known.
    token_end: Option<SystemTime>,
    pub(crate) offline: bool,
    pub(crate) patience: Patience,
    pub(crate) agent: Agent,
    /// Whether an answer has come: then there is a network.
    pub(crate) answered: Arc<AtomicBool>,
    #[cfg(feature = "xet")]
    pub(crate) xet: XetAccess,
    /// Where Xet keeps what is on its way.
    #[cfg(feature = "xet")]
    pub(crate) xet_folder: PathBuf,
    /// Any one that is set stops the client; the last is its own, those before are of the clients that it was made from.
    stopped: Vec<Arc<AtomicBool>>,
}

impl Client {
    /// A client without token.
    pub fn new(endpoint: Endpoint, cache: Cache) -> Self {
        let patience = Patience::default();
        let agent = agent(&patience, endpoint.address());
        Self {
            #[cfg(feature = "xet")]
            xet_folder: cache.folder().join(".xet"),
            endpoint,
            cache,
            token: None,
            token_end: None,
            offline: false,
            patience,
            agent,
            answered: Arc::default(),
            #[cfg(feature = "xet")]
            xet: XetAccess::default(),
            stopped: vec![Arc::default()],
        }
    }

    /// What the environment says, as to Python's `huggingface_hub`: `HF_ENDPOINT`, `HF_HUB_CACHE` or `HF_HOME`,
    /// `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN` or the token file unless `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set,
    /// `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`, `HF_HUB_DISABLE_XET`, `HF_XET_CACHE`. In paths, `~` and variables as `$HOME` are what they stand
    /// for. Without `HOME`, or `USERPROFILE` on Windows, it is the folder that the system has for the user.
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
        let path = |name| variables.path(name);
        let user = path("XDG_CACHE_HOME").or_else(|| Some(variables.home()?.join(".cache")));
        let home = path("HF_HOME").or_else(|| Some(user.as_ref()?.join("huggingface")));
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.or_else(|| Some(home.as_ref()?.join("hub"))).ok_or_else(|| Error::Name {
            what: "the variable",
            name: HOME.into(),
            reason: "is not set, and the system names no folder of yours: set it, or HF_HOME",
        })?;
        let notes = user.map(|user| user.join("mixflow/checked"));
        let endpoint = match variables.text("HF_ENDPOINT")? {
            Some(address) => Endpoint::new(&address)?,
            None => Endpoint::default(),
        };
        // Blanks are as good as nothing, as for Python.
        let named = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].map(|name| {
            let text = variables.text(name)?.filter(|text| !text.trim().is_empty());
            text.map(|text| Token::new(&text, name)).transpose()
        });
        let [token, older] = named;
        let file = path("HF_TOKEN_PATH").or_else(|| Some(home.as_ref()?.join("token")));
        let (token, end) = match (token?, older?) {
            _ if variables.flag("HF_HUB_DISABLE_IMPLICIT_TOKEN")? == Some(true) => (None, None),
            (None, None) => {
                let token = file.as_ref().map_or(Ok(None), |file| Token::read(file))?;
                let end =
                    token.as_ref().zip(file).and_then(|(token, file)| token.end(&file.with_file_name("stored_tokens")));
                (token, end)
            }
            (token, older) => (token.or(older), None),
        };
        let offline = variables.flag("HF_HUB_OFFLINE")?.or(variables.flag("TRANSFORMERS_OFFLINE")?).unwrap_or(false);
        #[cfg_attr(not(feature = "xet"), expect(unused_mut, reason = "the folder of Xet is set"))]
        let mut client = Self::new(endpoint, Cache::new(cache).with_notes(notes)).offline(offline);
        #[cfg(feature = "xet")]
        {
            // The cache may be one that others share, and that may only be read.
            let folder = path("HF_XET_CACHE").or_else(|| Some(home?.join("xet")));
            client.xet_folder = folder.unwrap_or(client.xet_folder);
            if variables.flag("HF_HUB_DISABLE_XET")? == Some(true) {
                client.xet.close();
            }
        }
        match token {
            Some(token) => Ok(Self { token_end: end, ..client.token(token)? }),
            None => Ok(client),
        }
    }

    /// The client with a token.
    ///
    /// # Errors
    /// [`Error::Unencrypted`], if the endpoint is neither `https` nor this machine.
    pub fn token(self, token: Token) -> Result<Self, Error> {
        if !self.endpoint.is_secret() {
            return Err(Error::Unencrypted { endpoint: self.endpoint.to_string() });
        }
        Ok(Self {
            token: Some(token),
            token_end: None,
            #[cfg(feature = "xet")]
            xet: self.xet.for_another(),
            ..self
        })
    }

    /// The client, which sends no request if `offline`: what is not cached is an error.
    #[must_use]
    pub fn offline(self, offline: bool) -> Self {
        Self { offline, ..self }
    }

    /// The client with other timeouts and retries.
    #[must_use]
    pub fn patience(self, patience: Patience) -> Self {
        let agent = agent(&patience, self.endpoint.address());
        Self {
            patience,
            agent,
            #[cfg(feature = "xet")]
            xet: self.xet.for_another(),
            ..self
        }
    }

    /// A client that can be stopped without stopping this one, and stops with it.
    pub(crate) fn stoppable(&self) -> Self {
        let mut inner = self.clone();
        inner.stopped.push(Arc::default());
        inner
    }

    /// Stops the client: it sends nothing more, and waits for nothing but an answer.
    pub(crate) fn stop(&self) {
        self.stopped.iter().next_back().inspect(|own| own.store(true, Ordering::Relaxed));
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.iter().any(|stopped| stopped.load(Ordering::Relaxed))
    }

    /// An error if the client is stopped, for what it did with a host.
    pub(crate) fn going(&self, host: &str) -> Result<(), Error> {
        let stopped = || Error::Network { host: host.into(), reason: "it was stopped".into() };
        if self.is_stopped() { Err(stopped()) } else { Ok(()) }
    }

    /// Whether the token is that of a login that is over.
    pub(crate) fn is_expired(&self) -> bool {
        self.token_end.is_some_and(|end| end <= SystemTime::now())
    }

    /// The cache that files go to.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The server that is asked.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl From<NoText> for Error {
    fn from(NoText(name): NoText) -> Self {
        Self::Name { what: "the variable", name: name.into(), reason: NoText::REASON }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn client(variables: &[(&str, &str)]) -> Result<Client, Error> {
        Client::from_variables(|name| Some(variables.iter().find(|(found, _)| *found == name)?.1.into()))
    }

    #[test]
    fn the_environment_is_read_as_by_huggingface_hub() {
        for (variables, cache) in [
            (vec![(HOME, "/u")], "/u/.cache/huggingface/hub"),
            (vec![(HOME, "/u"), ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (vec![(HOME, "/u"), ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")], "/h/hub"),
            (vec![(HOME, "/u"), ("HF_HOME", "~/h")], "/u/h/hub"),
            (vec![("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")], "/c"),
            (vec![("HF_HOME", "/h"), ("HF_HUB_CACHE", "")], "/h/hub"),
            (vec![("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/old"),
            (vec![(HOME, "/v"), ("U", "/u"), ("HF_HOME", "$U/h")], "/u/h/hub"),
            (vec![(HOME, "/v"), ("U", "/u"), ("JOB", "7"), ("HF_HUB_CACHE", "${U}/$JOB-c")], "/u/7-c"),
            (vec![(HOME, "/u"), ("HF_HUB_CACHE", "/c/$NONE/${NONE}$")], "/c/$NONE/${NONE}$"),
            (vec![(HOME, "/u"), ("HF_HUB_CACHE", "~/c")], "/u/c"),
        ] {
            let client = client(&variables).unwrap();
            assert_eq!(client.cache().folder(), Path::new(cache), "{variables:?}");
            assert_eq!(client.endpoint().to_string(), "https://huggingface.co");
            assert!(!client.offline && client.token.is_none());
        }
        let mirror = client(&[("HF_HOME", "/h"), ("HF_ENDPOINT", "https://mirror.example/")]).unwrap();
        assert_eq!(mirror.endpoint().to_string(), "https://mirror.example");
        for (value, offline) in [("1", true), ("True", true), ("YES", true), ("on", true), ("0", false), ("no", false)]
        {
            for name in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
                assert_eq!(client(&[("HF_HOME", "/h"), (name, value)]).unwrap().offline, offline);
            }
        }
        let both = [("HF_HOME", "/h"), ("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")];
        assert!(!client(&both).unwrap().offline);
    }

    #[cfg(feature = "xet")]
    #[test]
    fn xet_has_a_folder_beside_the_cache() {
        for (variables, expected) in [
            (vec![(HOME, "/u")], "/u/.cache/huggingface/xet"),
            (vec![("HF_HOME", "/h"), ("HF_HUB_CACHE", "/shared")], "/h/xet"),
            (vec![("HF_HOME", "/h"), ("HF_XET_CACHE", "/x")], "/x"),
            (vec![("HF_HUB_CACHE", "/c")], "/c/.xet"),
        ] {
            assert_eq!(client(&variables).unwrap().xet_folder, Path::new(expected), "{variables:?}");
        }
    }

    #[test]
    fn without_a_folder_of_the_user_nothing_goes_to_the_working_folder() {
        for variables in [&[][..], &[("HF_TOKEN_PATH", "/t")], &[(HOME, "")]] {
            let error = client(variables).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("the variable \"{HOME}\" is not set")) && error.ends_with("HF_HOME"),
                "{error}"
            );
        }
        // Nobody has logged in there.
        assert_eq!(client(&[("HF_HUB_CACHE", "/c")]).unwrap().token, None);
    }

    #[test]
    fn a_token_comes_from_the_variable_or_else_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let token = |variables: &[(&str, &str)]| client(variables).unwrap().token.map(|token| token.header());
        assert_eq!(token(&[("HF_HOME", home)]), None);
        fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(token(&[("HF_HOME", home)]).unwrap(), "Bearer hf_file");
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN", " hf_variable ")]).unwrap(), "Bearer hf_variable");
        let old = ("HUGGING_FACE_HUB_TOKEN", "hf_old");
        assert_eq!(token(&[("HF_HOME", home), old]).unwrap(), "Bearer hf_old");
        assert_eq!(token(&[("HF_HOME", home), old, ("HF_TOKEN", "hf_variable")]).unwrap(), "Bearer hf_variable");
        // Blanks are no token.
        assert_eq!(token(&[("HF_HOME", home), old, ("HF_TOKEN", " \n")]).unwrap(), "Bearer hf_old");
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN", "\t")]).unwrap(), "Bearer hf_file");
        let without = ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
        assert_eq!(token(&[("HF_HOME", home), old, ("HF_TOKEN", "hf_variable"), without]), None);
        let other = folder.path().join("other");
        fs::write(&other, "").unwrap();
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN_PATH", other.to_str().unwrap())]), None);
        assert!(matches!(client(&[("HF_HOME", home), ("HF_TOKEN", "a b")]), Err(Error::Token { .. })));
    }

    #[test]
    fn a_token_never_travels_in_the_clear_nor_shows() {
        let variables = [("HF_HOME", "/h"), ("HF_TOKEN", "hf_secret"), ("HF_ENDPOINT", "http://mirror.example")];
        let error = client(&variables).unwrap_err();
        assert!(matches!(error, Error::Unencrypted { .. }) && !format!("{error} {error:?}").contains("hf_secret"));
        let client = client(&[("HF_HOME", "/h"), ("HF_TOKEN", "hf_secret")]).unwrap();
        assert!(client.token.is_some() && !format!("{client:?}").contains("hf_secret"));
    }
}
