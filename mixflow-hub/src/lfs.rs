//! Large files, by the protocol of git-lfs: <https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md>, and the
//! Hub's own transfer in parts.

use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::digest::{Digest, Hasher};
use crate::patience::Pace;
use crate::progress::{Progress, TransferProgress};
use crate::request::{RequestError, Subject, protocol, text};
use crate::send::LFS;
use crate::upload_body::UploadBody;
use crate::upload_file::UploadFile;
use crate::url::Url;
use crate::{Client, Error};

/// Transfers of LFS, for the server to choose from.
const TRANSFERS: [&str; 2] = ["basic", "multipart"];

/// The Hub's own transfer.
#[cfg(feature = "xet")]
const XET: &str = "xet";

/// Most parts of a file: those of S3, behind the Hub.
const MAX_PARTS: u64 = 10_000;

/// Headers that the client sets, whatever a server asks for.
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

/// Where the server wants a file to be sent.
enum UploadRoute {
    /// Nowhere: the store has it.
    Stored,
    /// To the first address; the second, if there is one, is told when the file is there.
    Lfs(Action, Option<Action>),
    /// To the Hub's own store.
    #[cfg(feature = "xet")]
    Xet,
}

/// The upload of one file to the store.
pub(crate) struct Sending<'a> {
    pub(crate) client: &'a Client,
    pub(crate) subject: &'a Subject<'a>,
    pub(crate) file: &'a UploadFile,
    pub(crate) digest: &'a Digest,
}

impl Client {
    /// Puts a file into the server's store, unless it is there; gives the bytes that had to be sent.
    pub(crate) fn store(&self, file: &UploadFile, subject: &Subject<'_>, progress: Progress<'_>) -> Result<u64, Error> {
        let sending = Sending { client: self, subject, file, digest: file.sha256()? };
        let sent = sending.run(progress).map_err(|failure| sending.unsent(*failure.error))?;
        progress(TransferProgress::Stored { file: &file.name });
        Ok(sent)
    }
}

impl Sending<'_> {
    /// Sends, as often as it takes. Before each attempt the server says whether the file is there, and gives new
    /// addresses: old ones expire. A file that it has refused is sent once more: the line may have changed it.
    fn run(&self, progress: Progress<'_>) -> Result<u64, RequestError> {
        let (mut failures, mut refused) = (0, false);
        loop {
            let sent = match self.announce(progress)? {
                // If something was sent, it arrived, and only the answer was lost.
                UploadRoute::Stored => return Ok(if failures == 0 && !refused { 0 } else { self.file.size }),
                UploadRoute::Lfs(upload, verify) => self.send(&upload, progress).and_then(|()| match &verify {
                    Some(verify) => self.confirm(verify, progress),
                    None => Ok(()),
                }),
                #[cfg(feature = "xet")]
                UploadRoute::Xet => {
                    return crate::xet::send(self.client, self.subject, (self.file, self.digest), progress);
                }
            };
            let Err(failure) = sent else { return Ok(self.file.size) };
            if failure.transient {
                failures += 1;
                self.client.wait(failure, failures, progress)?;
            } else if !refused && matches!(&*failure.error, Error::Status { status: 400..500, .. }) {
                progress(TransferProgress::Retrying { reason: &failure.error.to_string(), wait: Duration::ZERO });
                refused = true;
            } else {
                return Err(failure);
            }
        }
    }

    /// Asks where to send the file.
    fn announce(&self, progress: Progress<'_>) -> Result<UploadRoute, RequestError> {
        let url = self.client.endpoint.batch(self.subject.repository);
        #[cfg(feature = "xet")]
        let other = (!self.client.xet.is_closed()).then_some(XET);
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
        let text = self.client.patiently(progress, ask)?;
        let fault = |reason: &str| RequestError::permanent(protocol(&url, reason));
        let batch: Batch =
            serde_json::from_str(&text).map_err(|error| fault(&format!("it takes no files: {error}")))?;
        if let Some(other) = batch.transfer.as_ref().filter(|transfer| !transfers.contains(&transfer.as_str())) {
            return Err(fault(&format!("it takes large files by {other:?} only, not by LFS")));
        }
        let object = batch.objects.into_iter().find(|object| object.oid == self.digest.as_str());
        let object = object.ok_or_else(|| fault(&format!("it says nothing of {}", self.file.name)))?;
        if let Some(Refusal { code, message }) = object.error {
            let message = self.client.quote(&message);
            return Err(RequestError::permanent(Error::Status { address: url.to_string(), status: code, message }));
        }
        // What is there that store finds out itself.
        #[cfg(feature = "xet")]
        if batch.transfer.as_deref() == Some(XET) {
            return Ok(UploadRoute::Xet);
        }
        let Some(Actions { upload: Some(upload), verify }) = object.actions else { return Ok(UploadRoute::Stored) };
        Ok(UploadRoute::Lfs(upload, verify))
    }

    /// Sends the file once, in one piece or in parts, as the headers say.
    fn send(&self, action: &Action, progress: Progress<'_>) -> Result<(), RequestError> {
        let (name, size) = (&self.file.name, self.file.size);
        let announced = self.client.endpoint.batch(self.subject.repository);
        let url = self.client.given(&action.href, &announced)?;
        progress(TransferProgress::Sending { file: name, size });
        let headers = action.header.iter().flatten().map(|(name, value)| (name.to_lowercase(), value));
        let (parts, headers): (Vec<_>, Vec<_>) =
            headers.partition(|(name, _)| name == "chunk_size" || name.parse::<u64>().is_ok());
        if parts.is_empty() {
            let strings = headers.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_string())));
            let headers: Vec<_> = strings.filter(|(name, _)| !OURS.contains(&name.as_str())).collect();
            return self.part(&url, &headers, 0..size, Hasher::sha256(), &mut *progress).map(drop);
        }
        self.send_parts(&url, &parts.into_iter().collect(), &announced, progress)
    }

    /// Sends the file in parts, by the numbers that their addresses have in the headers; then `url` puts them together.
    fn send_parts(
        &self,
        url: &Url,
        parts: &BTreeMap<String, &Value>,
        announced: &Url,
        progress: Progress<'_>,
    ) -> Result<(), RequestError> {
        let size = self.file.size;
        let fault = |reason: &str| RequestError::permanent(protocol(announced, reason));
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
                match self.part(&address, &[], range.clone(), hasher.clone(), progress) {
                    Ok(done) => break done,
                    // An address that has expired does not get better.
                    Err(failure) if matches!(&*failure.error, Error::Status { status: 403, .. }) => {
                        return Err(failure);
                    }
                    Err(failure) => {
                        failures += 1;
                        self.client.wait(failure, failures, progress).map_err(exhausted)?;
                    }
                }
            };
            let tag = tag.ok_or_else(|| RequestError::permanent(protocol(&address, "it gives no ETag for a part")))?;
            sent.push(json!({ "partNumber": part, "etag": tag }));
            hasher = after;
        }
        let body = json!({ "oid": self.digest.as_str(), "parts": sent }).to_string();
        let complete = || self.client.post(url, LFS, body.as_bytes(), self.subject);
        self.client.patiently(progress, complete).map(drop).map_err(exhausted)
    }

    /// Sends a range of the file, whose hash so far is in `hasher`; gives the tag that the store has for it.
    fn part(
        &self,
        url: &Url,
        headers: &[(String, String)],
        range: std::ops::Range<u64>,
        hasher: Hasher,
        progress: Progress<'_>,
    ) -> Result<(Option<String>, Hasher), RequestError> {
        let mut file = self.file.open().map_err(RequestError::permanent)?;
        let seek = file.seek(SeekFrom::Start(range.start));
        seek.map_err(|error| RequestError::permanent(Error::io("read", &self.file.path)(error)))?;
        let size = range.end - range.start;
        let mut body = UploadBody {
            client: self.client,
            file,
            source: self.file,
            digest: self.digest,
            host: url.host().into(),
            at: range.start,
            end: range.end,
            hasher,
            pace: Pace::new(range.start),
            silence: self.client.patience.silence,
            fault: None,
            progress,
        };
        let answer = self.client.put(url, headers, size, &mut body, self.subject);
        if let Some(fault) = body.fault {
            return Err(fault);
        }
        if body.at < range.end && answer.is_ok() {
            return Err(RequestError::transient(protocol(url, "it answers before it has all")));
        }
        Ok((text(answer?.response.headers(), "etag").map(String::from), body.hasher))
    }

    /// Tells the Hub that the store has it.
    fn confirm(&self, action: &Action, progress: Progress<'_>) -> Result<(), RequestError> {
        let url = self.client.given(&action.href, &self.client.endpoint.batch(self.subject.repository))?;
        let body = json!({ "oid": self.digest.as_str(), "size": self.file.size }).to_string();
        let confirm = || self.client.post(&url, LFS, body.as_bytes(), self.subject);
        self.client.patiently(progress, confirm).map(drop).map_err(exhausted)
    }

    fn unsent(&self, error: Error) -> Error {
        match error {
            Error::Network { host, reason } => Error::Unsent { host, file: self.file.name.clone(), reason },
            other => other,
        }
    }
}

/// A failure after all attempts at one step as a permanent one: it is no reason to send the whole file again.
fn exhausted(failure: RequestError) -> RequestError {
    RequestError { transient: false, ..failure }
}
