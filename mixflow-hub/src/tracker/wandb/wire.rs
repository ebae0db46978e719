//! One request to a server of Weights & Biases.

use std::io::Read;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::WandbServer;
use crate::agent::{NoAnswer, agent};
use crate::patience::retry_after;
use crate::url::Url;

/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// A server, and connections to it. Redirects are not followed.
#[derive(Debug)]
pub(super) struct Wire {
    server: WandbServer,
    agent: Agent,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The reason, for the user.
    pub(super) reason: String,
    /// Whether to ask again.
    pub(super) transient: bool,
    /// How long the server asks to wait.
    pub(super) after: Option<Duration>,
}

impl Refusal {
    pub(super) fn permanent(reason: String) -> Self {
        Self { reason, transient: false, after: None }
    }
}

impl Wire {
    pub(super) fn new(server: WandbServer) -> Self {
        let agent = agent(&server.patience, &server.address);
        Self { server, agent }
    }

    pub(super) fn server(&self) -> &WandbServer {
        &self.server
    }

    /// The address of a path at the server.
    pub(super) fn address(&self, path: &str) -> Url {
        self.server.address.with(path)
    }

    /// Posts JSON to an address of the server, with the key; the answer, which is JSON.
    pub(super) fn post(&self, address: &Url, body: &Value) -> Result<Value, Refusal> {
        let request = self.agent.post(address.whole()).header("Content-Type", "application/json");
        // The user that all keys belong to.
        let request = request.header("Authorization", self.server.key.basic("api"));
        let answer = self.judge(address, request.send(body.to_string()))?;
        serde_json::from_str(&answer)
            .map_err(|_| Refusal::permanent(format!("{address} does not answer as Weights & Biases does")))
    }

    /// Puts a file to an address that the server named, with the headers that it asks for and without the key.
    pub(super) fn put(&self, address: &Url, headers: &[(String, String)], file: &[u8]) -> Result<(), Refusal> {
        if self.server.address.scheme() == "https" && address.scheme() != "https" {
            return Err(Refusal::permanent(format!("{address}, where files should go, is not encrypted")));
        }
        let request = self.agent.put(address.whole());
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        self.judge(address, request.send(file)).map(drop)
    }

    /// What the server answers, if that is no refusal.
    fn judge(&self, address: &Url, answer: Result<Response<Body>, ureq::Error>) -> Result<String, Refusal> {
        let host = address.host();
        let answer = answer.map_err(|error| {
            // A network that is away comes back while the run goes on.
            let (kind, reason) = NoAnswer::of(&error);
            let reason = format!("cannot reach {host}: {}", self.quote(&reason));
            Refusal { reason, transient: kind != NoAnswer::Permanent, after: None }
        })?;
        let status = answer.status();
        let after = answer.headers().get("retry-after").and_then(|header| header.to_str().ok());
        let after = after.and_then(|header| retry_after(header, SystemTime::now()));
        let mut text = vec![];
        let read = answer.into_body().into_reader().take(MAX_ANSWER).read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text).into_owned();
        if status.is_success() {
            return match read {
                Ok(_) => Ok(text),
                Err(error) => {
                    let reason = format!("cannot reach {host}: {}", self.quote(&error.to_string()));
                    Err(Refusal { reason, transient: true, after })
                }
            };
        }
        let said = self.quote(&message(&text));
        let said = if said.is_empty() { said } else { format!(" ({said})") };
        let reason = match status.as_u16() {
            401 if address.same_origin(&self.server.address) => {
                format!("{host} does not accept the key in WANDB_API_KEY{said}")
            }
            status => format!("{address} answered {status}{said}"),
        };
        // Storage servers refuse addresses that have expired; the server gives new ones.
        let expired = status.as_u16() == 403 && !address.same_origin(&self.server.address);
        let transient = expired || matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502..=599);
        Err(Refusal { reason, transient, after })
    }

    /// A server's words in our message: short, on one line, without the key.
    pub(super) fn quote(&self, text: &str) -> String {
        let plain: String = text.chars().filter(|letter| !letter.is_control()).take(200).collect();
        self.server.key.hide_in(&plain)
    }
}

/// What an answer says went wrong: a message of GraphQL, an error of other requests, nothing of pages for browsers.
pub(super) fn message(text: &str) -> String {
    let answer: Value = serde_json::from_str(text).unwrap_or_default();
    let known = [&answer["errors"][0]["message"], &answer["error"], &answer["message"]];
    known.into_iter().find_map(Value::as_str).unwrap_or_default().into()
}
