//! Requests that carry something.

use std::io::Read;

use ureq::SendBody;

use crate::request::{Answer, MAX_REDIRECTS, RequestError, Subject, protocol, text};
use crate::url::Url;
use crate::{Client, Error};

/// What a server does with what we send may take this many times as long as any other answer.
pub(crate) const LONGER: u32 = 4;

/// Content type of requests by LFS.
pub(crate) const LFS: &str = "application/vnd.git-lfs+json";

impl Client {
    /// Posts `body`, of this content type. It goes along where the same server sends us on, and nowhere else.
    pub(crate) fn post(
        &self,
        url: &Url,
        kind: &str,
        body: &[u8],
        subject: &Subject<'_>,
    ) -> Result<Answer, RequestError> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let ours = self.endpoint.owns(&url);
            let mut request = self.agent.post(url.whole()).header("Content-Type", kind);
            if kind == LFS {
                request = request.header("Accept", LFS);
            }
            if let Some(token) = self.token.as_ref().filter(|_| ours) {
                request = request.header("Authorization", token.header());
            }
            let request = request.config().timeout_recv_response(Some(self.patience.silence * LONGER)).build();
            let response = request.send(body).map_err(|error| self.unreachable(&url, &error))?;
            if !response.status().is_redirection() {
                return self.judge(Answer { url, response, hub: vec![] }, ours, subject);
            }
            let location = text(response.headers(), "location").unwrap_or_default();
            let there = url.join(location).ok().filter(|there| there.same_origin(&url));
            // Any other redirect turns a request that carries something into one that carries nothing.
            let there = there.filter(|_| matches!(response.status().as_u16(), 307 | 308));
            url = there.ok_or_else(|| RequestError::permanent(protocol(&url, "it redirects what we send")))?;
        }
        Err(RequestError::permanent(protocol(&url, "it redirects in a circle")))
    }

    /// Puts `size` bytes of `body` there, with the headers that the server asked for.
    pub(crate) fn put(
        &self,
        url: &Url,
        headers: &[(String, String)],
        size: u64,
        body: &mut dyn Read,
        subject: &Subject<'_>,
    ) -> Result<Answer, RequestError> {
        let ours = self.endpoint.owns(url);
        let mut request = self.agent.put(url.whole()).header("Content-Length", size);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let asked = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        if let Some(token) = self.token.as_ref().filter(|_| ours && !asked) {
            request = request.header("Authorization", token.header());
        }
        let request = request.config().timeout_recv_response(Some(self.patience.silence * LONGER)).build();
        let response = request.send(SendBody::from_reader(body)).map_err(|error| self.unreachable(url, &error))?;
        if response.status().is_redirection() {
            return Err(RequestError::permanent(protocol(url, "it redirects what we send")));
        }
        self.judge(Answer { url: url.clone(), response, hub: vec![] }, ours, subject)
    }

    /// An address that the Hub gave for what we send.
    pub(crate) fn given(&self, href: &str, by: &Url) -> Result<Url, RequestError> {
        let fault = |reason| RequestError::permanent(protocol(by, &format!("it sends us to an address that {reason}")));
        self.endpoint.given(href).map_err(fault)
    }
}

/// The words of the Hub, if it refused with one of these statuses.
pub(crate) fn refusal(failure: &RequestError, refused: &[u16]) -> Option<String> {
    match &*failure.error {
        Error::Status { status, message, .. } if refused.contains(status) => Some(message.clone()),
        _ => None,
    }
}
