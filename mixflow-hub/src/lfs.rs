//! Large files, by the protocol of git-lfs: <https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md>, and the
//! Hub's own transfer in parts.

use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::digest::{Digest, Hasher};
use crate::folder::Local;
use crate::patience::Pace;
use crate::portion::Portion;
use crate::progress::{Tell, TransferProgress};
use crate::request::{Failure, Subject, protocol, text};
use crate::send::LFS;
use crate::url::Url;
use crate::{Client, Error};

/// Ways to send a file, for the server to choose from.
const TRANSFERS: [&str; 2] = ["basic", "multipart"];

/// The Hub's own.
#[cfg(feature = "xet")]
const XET: &str = "xet";

/// Most parts of a file: those of S3, behind the Hub.
const MAX_PARTS: u64 = 10_000;

/// Headers that are ours to set.
const OURS: [&str; 5] = ["host", "content-length", "transfer-encoding", "connection", "expect"];

#[derive(Deserialize)]
struct Batch {
    transfer: Option<String>,
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    actions: Option<Actions>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: u16,
    message: String,
}

#[derive(Deserialize)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: Option<BTreeMap<String, Value>>,
}

/// What the server says where to send a file.
enum Way {
    /// Nowhere: it is there.
    There,
    /// To these addresses: where it goes, and who is told when it is there.
    Lfs(Action, Option<Action>),
    /// To the Hub's own store.
    #[cfg(feature = "xet")]
    Xet,
}

/// A file on its way to the store.
pub(crate) struct Sending<'a> {
    pub(crate) client: &'a Client,
    pub(crate) subject: &'a Subject<'a>,
    pub(crate) file: &'a Local,
    pub(crate) digest: &'a Digest,
}

impl Client {
    /// Puts a file into the server's store, unless it is there; gives the bytes that had to be sent.
    pub(crate) fn store(&self, file: &Local, subject: &Subject<'_>, tell: Tell<'_>) -> Result<u64, Error> {
        let sending = Sending { client: self, subject, file, digest: file.sha256()? };
        let sent = sending.run(tell).map_err(|failure| sending.unsent(*failure.error))?;
        tell(TransferProgress::Stored { file: &file.name });
        Ok(sent)
    }
}

impl Sending<'_> {
    /// Sends, as often as it takes. Before each attempt the server says whether the file is there, and gives new
    /// addresses: old ones expire. A file that it has refused is sent once more: the line may have changed it.
    fn run(&self, tell: Tell<'_>) -> Result<u64, Failure> {
        let (mut failures, mut refused) = (0, false);
        loop {
            let sent = match self.announce(tell)? {
                // If something was sent, it arrived, and only the answer was lost.
                Way::There => return Ok(if failures == 0 && !refused { 0 } else { self.file.size }),
                Way::Lfs(upload, verify) => self.send(&upload, tell).and_then(|()| match &verify {
                    Some(verify) => self.confirm(verify, tell),
                    None => Ok(()),
                }),
                #[cfg(feature = "xet")]
                Way::Xet => return crate::xet::send(self.client, self.subject, (self.file, self.digest), tell),
            };
            let Err(failure) = sent else { return Ok(self.file.size) };
            if failure.passing {
                failures += 1;
                self.client.wait(failure, failures, tell)?;
            } else if !refused && matches!(&*failure.error, Error::Status { status: 400..500, .. }) {
                tell(TransferProgress::Retrying { reason: &failure.error.to_string(), wait: Duration::ZERO });
                refused = true;
            } else {
                return Err(failure);
            }
        }
    }

    /// Asks where to send the file.
    fn announce(&self, tell: Tell<'_>) -> Result<Way, Failure> {
        let url = self.client.endpoint.batch(self.subject.repository);
        #[cfg(feature = "xet")]
        let other = (!self.client.way.is_closed()).then_some(XET);
        #[cfg(not(feature = "xet"))]
        let other = None;
        let transfers: Vec<&str> = TRANSFERS.into_iter().chain(other).collect();
        let body = json!({
            "operation": "upload",
            "transfers": transfers,
            "hash_algo": "sha256",
            "ref": { "name": self.subject.revision.as_str() },
            "objects": [{ "oid": self.digest.as_str(), "size": self.file.size }],
        });
        let body = body.to_string();
        let ask = || self.client.post(&url, LFS, body.as_bytes(), self.subject)?.text();
        let text = self.client.patiently(tell, ask)?;
        let fault = |reason: &str| Failure::lasting(protocol(&url, reason));
        let batch: Batch =
            serde_json::from_str(&text).map_err(|error| fault(&format!("it takes no files: {error}")))?;
        if let Some(other) = batch.transfer.as_ref().filter(|transfer| !transfers.contains(&transfer.as_str())) {
            return Err(fault(&format!("it takes large files by {other:?} only, not by LFS")));
        }
        let object = batch.objects.into_iter().find(|object| object.oid == self.digest.as_str());
        let object = object.ok_or_else(|| fault(&format!("it says nothing of {}", self.file.name)))?;
        if let Some(Refusal { code, message }) = object.error {
            let message = self.client.quote(&message);
            return Err(Failure::lasting(Error::Status { address: url.to_string(), status: code, message }));
        }
        // What is there that store finds out itself.
        #[cfg(feature = "xet")]
        if batch.transfer.as_deref() == Some(XET) {
            return Ok(Way::Xet);
        }
        let Some(Actions { upload: Some(upload), verify }) = object.actions else { return Ok(Way::There) };
        Ok(Way::Lfs(upload, verify))
    }

    /// Sends the file once, in one piece or in parts, as the headers say.
    fn send(&self, action: &Action, tell: Tell<'_>) -> Result<(), Failure> {
        let (name, size) = (&self.file.name, self.file.size);
        let announced = self.client.endpoint.batch(self.subject.repository);
        let url = self.client.given(&action.href, &announced)?;
        tell(TransferProgress::Sending { file: name, size });
        let headers = action.header.iter().flatten().map(|(name, value)| (name.to_lowercase(), value));
        let (parts, headers): (Vec<_>, Vec<_>) =
            headers.partition(|(name, _)| name == "chunk_size" || name.parse::<u64>().is_ok());
        if parts.is_empty() {
            let strings = headers.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_string())));
            let headers: Vec<_> = strings.filter(|(name, _)| !OURS.contains(&name.as_str())).collect();
            return self.part(&url, &headers, 0..size, Hasher::sha256(), &mut *tell).map(drop);
        }
        self.send_parts(&url, &parts.into_iter().collect(), &announced, tell)
    }

    /// Sends the file in parts, by the numbers that their addresses have in the headers; then `url` puts them together.
    fn send_parts(
        &self,
        url: &Url,
        parts: &BTreeMap<String, &Value>,
        announced: &Url,
        tell: Tell<'_>,
    ) -> Result<(), Failure> {
        let size = self.file.size;
        let fault = |reason: &str| Failure::lasting(protocol(announced, reason));
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let chunk = parts.get("chunk_size").and_then(|value| number(value)).filter(|chunk| *chunk > 0);
        let chunk = chunk.ok_or_else(|| fault("it does not say how large a part is"))?;
        let count = size.div_ceil(chunk);
        let mut addresses = BTreeMap::new();
        for (name, address) in parts {
            if let Ok(part) = name.parse::<u64>() {
                let address = address.as_str().ok_or_else(|| fault("a part has no address"))?;
                addresses.insert(part, self.client.given(address, announced)?);
            }
        }
        if count > MAX_PARTS || !addresses.keys().copied().eq(1..=count) {
            return Err(fault(&format!("it gives other parts than 1 to {count}")));
        }
        let (mut hasher, mut sent) = (Hasher::sha256(), vec![]);
        for (part, address) in addresses {
            let range = (part - 1) * chunk..(part * chunk).min(size);
            let mut failures = 0;
            let (tag, after) = loop {
                match self.part(&address, &[], range.clone(), hasher.clone(), tell) {
                    Ok(done) => break done,
                    // An address that has expired does not get better.
                    Err(failure) if matches!(&*failure.error, Error::Status { status: 403, .. }) => {
                        return Err(failure);
                    }
                    Err(failure) => {
                        failures += 1;
                        self.client.wait(failure, failures, tell).map_err(exhausted)?;
                    }
                }
            };
            let tag = tag.ok_or_else(|| Failure::lasting(protocol(&address, "it gives no ETag for a part")))?;
            sent.push(json!({ "partNumber": part, "etag": tag }));
            hasher = after;
        }
        let body = json!({ "oid": self.digest.as_str(), "parts": sent }).to_string();
        let complete = || self.client.post(url, LFS, body.as_bytes(), self.subject);
        self.client.patiently(tell, complete).map(drop).map_err(exhausted)
    }

    /// Sends a range of the file, whose hash so far is in `hasher`; gives the tag that the store has for it.
    fn part(
        &self,
        url: &Url,
        headers: &[(String, String)],
        range: std::ops::Range<u64>,
        hasher: Hasher,
        tell: Tell<'_>,
    ) -> Result<(Option<String>, Hasher), Failure> {
        let mut file = self.file.open().map_err(Failure::lasting)?;
        let seek = file.seek(SeekFrom::Start(range.start));
        seek.map_err(|error| Failure::lasting(Error::io("read", &self.file.path)(error)))?;
        let size = range.end - range.start;
        let mut body = Portion {
            client: self.client,
            file,
            local: self.file,
            digest: self.digest,
            host: url.host().into(),
            at: range.start,
            end: range.end,
            hasher,
            pace: Pace::new(range.start),
            silence: self.client.patience.silence,
            fault: None,
            tell,
        };
        let answer = self.client.put(url, headers, size, &mut body, self.subject);
        if let Some(fault) = body.fault {
            return Err(fault);
        }
        if body.at < range.end && answer.is_ok() {
            return Err(Failure::passing(protocol(url, "it answers before it has all")));
        }
        Ok((text(answer?.response.headers(), "etag").map(String::from), body.hasher))
    }

    /// Tells the Hub that the store has it.
    fn confirm(&self, action: &Action, tell: Tell<'_>) -> Result<(), Failure> {
        let url = self.client.given(&action.href, &self.client.endpoint.batch(self.subject.repository))?;
        let body = json!({ "oid": self.digest.as_str(), "size": self.file.size }).to_string();
        let confirm = || self.client.post(&url, LFS, body.as_bytes(), self.subject);
        self.client.patiently(tell, confirm).map(drop).map_err(exhausted)
    }

    fn unsent(&self, error: Error) -> Error {
        match error {
            Error::Network { host, reason } => Error::Unsent { host, file: self.file.name.clone(), reason },
            other => other,
        }
    }
}

/// A failure after all attempts at the one step: it is no reason to send the whole file again.
fn exhausted(failure: Failure) -> Failure {
    Failure { passing: false, ..failure }
}
