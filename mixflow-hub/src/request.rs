//! Requests to the Hub and to the servers that it sends us to.

use std::io::Read;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use ureq::Body;
use ureq::http::{HeaderMap, Response, StatusCode};

use crate::agent::NoAnswer;
use crate::patience::{reset, retry_after};
use crate::progress::{Progress, TransferProgress};
use crate::url::Url;
use crate::{Client, Commit, Error, Repository, Revision};

/// Largest answer that is not a file's content, bytes.
const MAX_ANSWER: u64 = 64 << 20;

/// Largest body of a refusal that is looked at, bytes.
const MAX_COMPLAINT: u64 = 1 << 16;

/// Servers that we are sent through for one request.
pub(crate) const MAX_REDIRECTS: usize = 8;

/// How often to look whether a wait has been cut short.
const LOOK: Duration = Duration::from_millis(50);

/// What a request is about, for errors.
pub(crate) struct Subject<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) revision: &'a Revision,
    /// The file; none of a request about the repository as a whole.
    pub(crate) file: Option<&'a str>,
}

/// Why a request failed.
pub(crate) struct RequestError {
    pub(crate) error: Box<Error>,
    /// Whether to ask again.
    pub(crate) transient: bool,
    /// How long the server asks to wait.
    pub(crate) after: Option<Duration>,
    /// The server that was asked, where it is not the Hub.
    pub(crate) elsewhere: Option<String>,
    /// The commit that was asked about, where the server told.
    pub(crate) commit: Option<Commit>,
}

impl RequestError {
    pub(crate) fn permanent(error: Error) -> Self {
        Self { error: Box::new(error), transient: false, after: None, elsewhere: None, commit: None }
    }

    pub(crate) fn transient(error: Error) -> Self {
        Self { transient: true, ..Self::permanent(error) }
    }
}

impl From<RequestError> for Error {
    fn from(failure: RequestError) -> Self {
        *failure.error
    }
}

/// Which request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// `HEAD`; a redirect to another host is an answer.
    Head,
    /// `GET` of everything from this byte on.
    Get(u64),
    /// `GET` of everything from one byte to before another.
    Part(u64, u64),
}

/// An answer, and who gave it.
pub(crate) struct Answer {
    pub(crate) url: Url,
    pub(crate) response: Response<Body>,
    /// Headers of the Hub's own answers, where it sent us elsewhere.
    pub(crate) hub: Vec<HeaderMap>,
}

impl Answer {
    /// A header: of the answer, or of the redirects that led to it.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = std::iter::once(self.response.headers()).chain(self.hub.iter().rev());
        all.filter_map(|headers| text(headers, name)).next()
    }

    /// The body of an answer, which must be UTF-8 of at most 64 MiB.
    pub(crate) fn text(self) -> Result<String, RequestError> {
        let Self { url, response, .. } = self;
        let mut bytes = Vec::new();
        let read = response.into_body().into_reader().take(MAX_ANSWER + 1).read_to_end(&mut bytes);
        read.map_err(|error| RequestError::transient(network_error(&url, &error.to_string())))?;
        let fault = |reason: &str| RequestError::permanent(protocol(&url, reason));
        if bytes.len() as u64 > MAX_ANSWER {
            return Err(fault("the answer is too long"));
        }
        String::from_utf8(bytes).map_err(|_| fault("the answer is no text"))
    }
}

impl Client {
    /// The text that the Hub answers with, and the address of the next page where there is one.
    pub(crate) fn page(
        &self,
        url: &Url,
        subject: &Subject<'_>,
        progress: Progress<'_>,
    ) -> Result<(String, Option<Url>), Error> {
        Ok(self.patiently(progress, || {
            let answer = self.ask(Ask::Get(0), url, subject)?;
            let next = answer.header("link").and_then(next_page);
            let next = next.map(|next| url.join(&next)).transpose();
            let next =
                next.map_err(|reason| RequestError::permanent(protocol(url, &format!("the next page {reason}"))))?;
            // A page elsewhere would get the token.
            if next.as_ref().is_some_and(|next| !next.same_origin(url)) {
                return Err(RequestError::permanent(protocol(url, "the next page is on another server")));
            }
            Ok((answer.text()?, next))
        })?)
    }

    /// The JSON that the Hub answers with.
    pub(crate) fn json(&self, url: &Url, subject: &Subject<'_>, progress: Progress<'_>) -> Result<Value, Error> {
        let (text, _) = self.page(url, subject, progress)?;
        serde_json::from_str(&text).map_err(|_| protocol(url, "the answer is no JSON"))
    }

    /// Repeats `attempt` while its failures are transient, as often as [`Patience`](crate::Patience) says.
    pub(crate) fn patiently<T>(
        &self,
        progress: Progress<'_>,
        mut attempt: impl FnMut() -> Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        let mut failures = 0;
        loop {
            let failure = match attempt() {
                Ok(result) => return Ok(result),
                Err(failure) => failure,
            };
            failures += 1;
            self.wait(failure, failures, progress)?;
        }
    }

    /// Waits until it is time for another attempt; or gives the failure back, if there is none to be made.
    pub(crate) fn wait(
        &self,
        failure: RequestError,
        failures: u32,
        progress: Progress<'_>,
    ) -> Result<(), RequestError> {
        if !failure.transient || failures >= self.patience.attempts {
            return Err(failure);
        }
        // Some servers ask for no time at all, or for a moment that is past, as long as they are busy.
        let wait = self.patience.wait(failures).max(failure.after.unwrap_or_default());
        if wait > self.patience.longest_wait {
            // What another server allows no token changes.
            let token = self.token.is_some() || failure.elsewhere.is_some();
            let host = failure.elsewhere.unwrap_or_else(|| self.endpoint.to_string());
            return Err(RequestError::permanent(Error::Busy { host, after: wait, token }));
        }
        progress(TransferProgress::Retrying { reason: &failure.error.to_string(), wait });
        let end = Instant::now() + wait;
        while !self.is_stopped() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK));
        }
        Err(failure)
    }

    /// Asks once, going where the answers lead. The token goes to the endpoint's own host only.
    pub(crate) fn ask(&self, ask: Ask, url: &Url, subject: &Subject<'_>) -> Result<Answer, RequestError> {
        let (start, mut url, mut hub) = (url, url.clone(), vec![]);
        for _ in 0..=MAX_REDIRECTS {
            let ours = self.endpoint.owns(&url);
            let mut request = match ask {
                Ask::Head => self.agent.head(url.whole()),
                Ask::Get(0) => self.agent.get(url.whole()),
                Ask::Get(from) => self.agent.get(url.whole()).header("Range", format!("bytes={from}-")),
                Ask::Part(from, to) => self.agent.get(url.whole()).header("Range", format!("bytes={from}-{}", to - 1)),
            };
            if let Some(token) = self.token.as_ref().filter(|_| ours) {
                request = request.header("Authorization", token.header());
            }
            let response = request.call().map_err(|error| self.unreachable(&url, &error))?;
            if !response.status().is_redirection() {
                return self.judge(Answer { url, response, hub }, ours, subject);
            }
            let there = url.redirect(text(response.headers(), "location"));
            let there = there.map_err(|reason| RequestError::permanent(protocol(&url, &reason)))?;
            self.answered.store(true, Ordering::Relaxed);
            if ask == Ask::Head && !there.same_origin(start) {
                return Ok(Answer { url, response, hub });
            }
            if ours {
                hub.push(response.headers().clone());
            }
            url = there;
        }
        Err(RequestError::permanent(protocol(&url, "it redirects in a circle")))
    }

    /// The answer, if its status is a success; else the error that the status stands for.
    pub(crate) fn judge(&self, answer: Answer, ours: bool, subject: &Subject<'_>) -> Result<Answer, RequestError> {
        self.answered.store(true, Ordering::Relaxed);
        let status = answer.response.status();
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(answer);
        }
        let Answer { url, response, .. } = answer;
        let (parts, body) = response.into_parts();
        let headers = &parts.headers;
        let code = text(headers, "x-error-code").unwrap_or_default();
        let message = match text(headers, "x-error-message") {
            Some(message) => self.quote(message),
            None => self.quote(&complaint(body)),
        };
        let after = text(headers, "retry-after").and_then(|header| retry_after(header, SystemTime::now()));
        let after = after.or_else(|| reset(text(headers, "ratelimit").filter(|_| status.as_u16() == 429)?));
        let (repository, revision) = (subject.repository.clone(), subject.revision.clone());
        let (token, endpoint) = (self.token.is_some(), self.endpoint.to_string());
        let (address, number) = (url.to_string(), status.as_u16());
        let error = match (number, code) {
            // What a storage server says is not about the repository.
            _ if !ours => Error::Status { address, status: number, message },
            (401, _) if self.is_expired() => Error::ExpiredToken { endpoint },
            (401 | 403, "GatedRepo") => {
                Error::Gated { page: self.endpoint.page(&repository).to_string(), repository, token }
            }
            (404, "RepoNotFound") => Error::NoRepository { repository, endpoint, token },
            // Of a repository that is private or missing the Hub says "Invalid username or password." to those who have
            // named none.
            (401, _) if !token => Error::NoRepository { repository, endpoint, token },
            (401, "RepoNotFound") if !message.starts_with("Invalid") => {
                Error::NoRepository { repository, endpoint, token }
            }
            (401, "" | "RepoNotFound") => Error::BadToken { endpoint },
            (404, "RevisionNotFound") => Error::NoRevision { repository, revision },
            (404, "EntryNotFound") => {
                let file = subject.file.unwrap_or("such file").into();
                Error::NoFile { repository, revision, file, known: vec![] }
            }
            // It is closed to everybody, by its owner or by the Hub.
            (403, _) if !token || message == "Access to this resource is disabled." => {
                Error::Status { address, status: number, message }
            }
            (401 | 403, _) => Error::Forbidden { address, message },
            _ => Error::Status { address, status: number, message },
        };
        // A storage server refuses addresses that have expired; the Hub gives a new one.
        let transient = matches!(number, 408 | 429 | 500 | 502 | 503 | 504) || (!ours && number == 403);
        Err(RequestError {
            error: Box::new(error),
            transient,
            after,
            elsewhere: (!ours).then(|| url.host().into()),
            commit: text(headers, "x-repo-commit").and_then(Commit::parse),
        })
    }

    pub(crate) fn unreachable(&self, url: &Url, error: &ureq::Error) -> RequestError {
        let (kind, reason) = NoAnswer::of(error);
        let reason = network_error(url, &self.quote(&reason));
        match kind {
            NoAnswer::Transient => RequestError::transient(reason),
            // Where an answer came before there is a network.
            NoAnswer::Unknown if self.answered.load(Ordering::Relaxed) => RequestError::transient(reason),
            NoAnswer::Unknown | NoAnswer::Permanent => RequestError::permanent(reason),
        }
    }

    /// A server's words in our message: short, on one line, without the token.
    pub(crate) fn quote(&self, text: &str) -> String {
        let plain: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
        self.token.as_ref().map_or(plain.clone(), |token| token.hide_in(&plain))
    }
}

/// The error of a server that does not answer.
fn network_error(url: &Url, reason: &str) -> Error {
    Error::Network { host: url.host().into(), reason: reason.into() }
}

/// The error of an answer that the Hub would not give.
pub(crate) fn protocol(url: &Url, reason: &str) -> Error {
    Error::Protocol { address: url.to_string(), reason: reason.into() }
}

/// What the Hub says in the body of a refusal, where it says it there only.
fn complaint(body: Body) -> String {
    let mut bytes = vec![];
    // Words that do not come are not missed.
    let _ = body.into_reader().take(MAX_COMPLAINT).read_to_end(&mut bytes);
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let several = answer["errors"].as_array().into_iter().flatten().filter_map(|error| error["message"].as_str());
    match answer["error"].as_str().or(answer["message"].as_str()) {
        Some(said) => said.into(),
        None => several.collect::<Vec<_>>().join("; "),
    }
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The address of the next page in a `Link` header.
fn next_page(link: &str) -> Option<String> {
    let mut rest = link;
    while let Some((address, after)) = rest.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
        // The relations of a link end where the next one begins: an address, unlike them, may have commas.
        let relations = after.split_once('<').map_or(after, |(relations, _)| relations);
        let is_next = |relation: &str| relation.trim().trim_end_matches(',').replace('"', "") == "rel=next";
        if relations.split(';').any(is_next) {
            return Some(address.into());
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;
    use crate::{Cache, Endpoint};

    /// Once somebody has answered, a name that nobody knows is a resolver that is away.
    #[test]
    fn a_name_that_stops_resolving_is_asked_for_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        });
        let client = Client::new(endpoint, Cache::new("unused"));
        let (repository, main) = ("org/name".parse().unwrap(), Revision::default());
        let url = client.endpoint.revision(&repository, &main);
        let resolved = |client: &Client, url: &Url| client.unreachable(url, &ureq::Error::HostNotFound).transient;
        assert!(!resolved(&client, &url));
        client.json(&url, &Subject { repository: &repository, revision: &main, file: None }, &mut |_| {}).unwrap();
        // Of storage servers, which it leads to, as well.
        let storage = Url::parse("https://cdn.example/x").unwrap();
        assert!(resolved(&client, &url) && resolved(&client.stoppable(), &url) && resolved(&client, &storage));
    }

    #[test]
    fn the_next_page_is_found_among_links() {
        for (link, expected) in [
            ("<https://hub/tree?cursor=a>; rel=\"next\"", Some("https://hub/tree?cursor=a")),
            ("<https://hub/tree?expand=a,b&cursor=c,d>; rel=\"next\"", Some("https://hub/tree?expand=a,b&cursor=c,d")),
            ("<https://hub/1>; rel=\"prev\", <https://hub/a,b>; rel=\"next\"", Some("https://hub/a,b")),
            ("<https://hub/1,2>; rel=\"next\"; title=\"x\", <https://hub/9>; rel=\"last\"", Some("https://hub/1,2")),
            ("</tree?cursor=a>;rel=next", Some("/tree?cursor=a")),
            ("<https://hub/9>; rel=\"last\"", None),
            ("<https://hub/rel=next>; rel=\"last\"", None),
            ("https://hub/1; rel=\"next\"", None),
            ("", None),
        ] {
            assert_eq!(next_page(link).as_deref(), expected, "{link}");
        }
    }
}
