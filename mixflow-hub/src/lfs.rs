//! Large files, by the protocol of git-lfs: <https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md>, and the
//! Hub's own transfer in parts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::digest::{Digest, Hasher};
use crate::folder::Local;
use crate::progress::{Progress, Tell};
use crate::request::{Failure, Subject, protocol, text};
use crate::send::LFS;
use crate::url::Url;
use crate::{Client, Error};

/// Most parts of a file: those of S3, behind the Hub.
const MAX_PARTS: u64 = 10_000;

/// Bytes a second that a transfer must take.
const SLOWEST: u64 = 1 << 10;

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

/// A file on its way to the store.
struct Sending<'a> {
    client: &'a Client,
    subject: &'a Subject<'a>,
    file: &'a Local,
    digest: &'a Digest,
}

impl Client {
    /// Puts a file into the server's store, unless it is there; gives the bytes that had to be sent.
    pub(crate) fn store(&self, file: &Local, subject: &Subject<'_>, tell: Tell<'_>) -> Result<u64, Error> {
        let sending = Sending { client: self, subject, file, digest: file.sha256()? };
        let sent = sending.run(tell).map_err(|failure| sending.unsent(*failure.error))?;
        tell(Progress::Stored { file: &file.name });
        Ok(sent)
    }
}

impl Sending<'_> {
    /// Sends, as often as it takes. Before each attempt the server says whether the file is there, and gives new
    /// addresses: old ones expire. A file that it has refused is sent once more: the line may have changed it.
    fn run(&self, tell: Tell<'_>) -> Result<u64, Failure> {
        let (mut failures, mut refused) = (0, false);
        loop {
            let Some((upload, verify)) = self.announce(tell)? else {
                // If something was sent, it arrived, and only the answer was lost.
                return Ok(if failures == 0 && !refused { 0 } else { self.file.size });
            };
            let sent = self.send(&upload, tell).and_then(|()| match &verify {
                Some(verify) => self.confirm(verify, tell),
                None => Ok(()),
            });
            let Err(failure) = sent else { return Ok(self.file.size) };
            if failure.passing {
                failures += 1;
                self.client.wait(failure, failures, tell)?;
            } else if !refused && matches!(&*failure.error, Error::Status { status: 400..500, .. }) {
                tell(Progress::Retrying { reason: &failure.error.to_string(), wait: Duration::ZERO });
                refused = true;
            } else {
                return Err(failure);
            }
        }
    }

    /// Asks where to send the file; none if it is there.
    fn announce(&self, tell: Tell<'_>) -> Result<Option<(Action, Option<Action>)>, Failure> {
        let url = self.client.endpoint.batch(self.subject.repository);
        let body = json!({
            "operation": "upload",
            "transfers": ["basic", "multipart"],
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
        if let Some(other) = batch.transfer.filter(|transfer| !["basic", "multipart"].contains(&transfer.as_str())) {
            return Err(fault(&format!("it takes large files by {other:?} only, not by LFS")));
        }
        let object = batch.objects.into_iter().find(|object| object.oid == self.digest.as_str());
        let object = object.ok_or_else(|| fault(&format!("it says nothing of {}", self.file.name)))?;
        if let Some(Refusal { code, message }) = object.error {
            let message = self.client.quote(&message);
            return Err(Failure::lasting(Error::Status { address: url.to_string(), status: code, message }));
        }
        Ok(object.actions.and_then(|actions| Some((actions.upload?, actions.verify))))
    }

    fn send(&self, action: &Action, tell: Tell<'_>) -> Result<(), Failure> {
        let (name, size) = (&self.file.name, self.file.size);
        let announced = self.client.endpoint.batch(self.subject.repository);
        let url = self.client.given(&action.href, &announced)?;
        tell(Progress::Sending { file: name, size });
        let headers = action.header.iter().flatten().map(|(name, value)| (name.to_lowercase(), value));
        let (parts, headers): (Vec<_>, Vec<_>) =
            headers.partition(|(name, _)| name == "chunk_size" || name.parse::<u64>().is_ok());
        if parts.is_empty() {
            let strings = headers.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_string())));
            let headers: Vec<_> = strings.filter(|(name, _)| !OURS.contains(&name.as_str())).collect();
            return self.part(&url, &headers, 0..size, Hasher::sha256(), &mut *tell).map(drop);
        }
        let fault = |reason: &str| Failure::lasting(protocol(&announced, reason));
        let parts: BTreeMap<String, &Value> = parts.into_iter().collect();
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let chunk = parts.get("chunk_size").and_then(|value| number(value)).filter(|chunk| *chunk > 0);
        let chunk = chunk.ok_or_else(|| fault("it does not say how large a part is"))?;
        let count = size.div_ceil(chunk);
        let mut addresses = BTreeMap::new();
        for (name, address) in &parts {
            if let Ok(part) = name.parse::<u64>() {
                let address = address.as_str().ok_or_else(|| fault("a part has no address"))?;
                addresses.insert(part, self.client.given(address, &announced)?);
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
        let complete = || self.client.post(&url, LFS, body.as_bytes(), self.subject);
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
            file,
            local: self.file,
            digest: self.digest,
            host: url.host().into(),
            at: range.start,
            end: range.end,
            hasher,
            since: Instant::now(),
            mark: range.start,
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

/// A range of a file that is read for the line. Its last bytes are given out only if the whole file still has the hash
/// that it was announced with: a store must not keep other content under that name.
struct Portion<'a, 't> {
    file: File,
    local: &'a Local,
    digest: &'a Digest,
    host: String,
    /// What comes next, and where the range ends.
    at: u64,
    end: u64,
    /// Hash of all bytes of the file before `at`.
    hasher: Hasher,
    /// When the speed was last looked at, and where that was.
    since: Instant,
    mark: u64,
    silence: Duration,
    /// Why it gives no more.
    fault: Option<Failure>,
    tell: Tell<'t>,
}

impl Portion<'_, '_> {
    fn next(&mut self, block: &mut [u8]) -> Result<usize, Failure> {
        if self.since.elapsed() >= self.silence {
            if self.at - self.mark < SLOWEST * self.since.elapsed().as_secs() {
                let reason = "it takes less than 1 KiB a second".into();
                let error = Error::Network { host: self.host.clone(), reason };
                return Err(Failure::passing(error));
            }
            (self.since, self.mark) = (Instant::now(), self.at);
        }
        let most = (self.end - self.at).min(block.len() as u64) as usize;
        let count = self.file.read(&mut block[..most]);
        let count = count.map_err(|error| Failure::lasting(Error::io("read", &self.local.path)(error)))?;
        self.hasher.update(&block[..count]);
        self.at += count as u64;
        let ended = count == 0 && most > 0;
        if ended || self.at == self.local.size && self.hasher.clone().finish() != *self.digest {
            return Err(Failure::lasting(self.local.changed()));
        }
        (self.tell)(Progress::Sent { file: &self.local.name, bytes: self.at, size: self.local.size });
        Ok(count)
    }
}

impl Read for Portion<'_, '_> {
    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        self.next(block).map_err(|failure| {
            let error = io::Error::other(failure.error.to_string());
            self.fault = Some(failure);
            error
        })
    }
}
