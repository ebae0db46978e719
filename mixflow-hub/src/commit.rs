//! What becomes of a file, and the commit of all.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::progress::{Progress, TransferProgress};
use crate::request::{RequestError, Subject, protocol};
use crate::send::refusal;
use crate::upload_file::UploadFile;
use crate::{Client, Commit, Error};

/// Files that are asked about at once, as many as `huggingface_hub` does.
const AT_ONCE: usize = 256;

/// Most bytes of a file that go within the commit. The Hub keeps what has a tenth of that apart.
const MAX_INLINE: u64 = 100 << 20;

/// How a file's content travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Within the request of the commit.
    Regular,
    /// Before the commit, to the store for large files.
    Large,
}

#[derive(Deserialize)]
struct Preupload {
    files: Vec<PreuploadFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PreuploadFile {
    path: String,
    upload_mode: String,
    #[serde(default)]
    should_ignore: bool,
}

impl Client {
    /// Asks, before any file is sent, how the server wants to have each.
    pub(crate) fn sort<'f>(
        &self,
        files: &[&'f UploadFile],
        subject: &Subject<'_>,
        progress: Progress<'_>,
    ) -> Result<Vec<(&'f UploadFile, Mode)>, Error> {
        let url = self.endpoint.action(subject.repository, "preupload", subject.revision);
        let mut sorted = vec![];
        for files in files.chunks(AT_ONCE) {
            let mut entries = vec![];
            for file in files {
                let sample = BASE64_STANDARD.encode(file.sample()?);
                entries.push(json!({ "path": file.name, "size": file.size, "sample": sample }));
            }
            let body = json!({ "files": entries }).to_string();
            let text =
                self.patiently(progress, || self.post(&url, "application/json", body.as_bytes(), subject)?.text());
            let text = text?;
            let answer: Preupload =
                serde_json::from_str(&text).map_err(|error| protocol(&url, &format!("it sorts no files: {error}")))?;
            let answer: BTreeMap<String, PreuploadFile> =
                answer.files.into_iter().map(|file| (file.path.clone(), file)).collect();
            for file in files {
                let found = answer.get(&file.name);
                let found = found.ok_or_else(|| protocol(&url, &format!("it says nothing of {}", file.name)))?;
                if found.should_ignore {
                    let reason = "the repository's .gitignore excludes it: leave it out, or change that file there";
                    return Err(Error::Folder { path: file.path.clone(), reason });
                }
                let mode = match found.upload_mode.as_str() {
                    // No store takes what is empty.
                    _ if file.size == 0 => Mode::Regular,
                    "regular" if file.size > MAX_INLINE => {
                        let reason =
                            format!("it has no store for large files, and {} is too large for others", file.name);
                        return Err(protocol(&url, &reason));
                    }
                    "regular" => Mode::Regular,
                    "lfs" => Mode::Large,
                    other => return Err(protocol(&url, &format!("it wants {} by {other:?}, not by LFS", file.name))),
                };
                // From here on it must stay as it is.
                match mode {
                    Mode::Regular => file.git_blob()?,
                    Mode::Large => {
                        progress(TransferProgress::Hashing { file: &file.name, size: file.size });
                        file.sha256()?
                    }
                };
                sorted.push((*file, mode));
            }
        }
        Ok(sorted)
    }

    /// Sends the commit, once. A transient failure does not tell whether it was made.
    pub(crate) fn commit(
        &self,
        message: &str,
        parent: &Commit,
        (files, surplus): (&[(&UploadFile, Mode)], &[String]),
        subject: &Subject<'_>,
    ) -> Result<Commit, RequestError> {
        let url = self.endpoint.action(subject.repository, "commit", subject.revision);
        let body = lines(message, parent, files, surplus).map_err(RequestError::permanent)?;
        let answer = self.post(&url, "application/x-ndjson", &body, subject).map_err(|failure| {
            match refusal(&failure, &[409, 412]) {
                Some(message) => RequestError::transient(Error::Conflict {
                    repository: subject.repository.clone(),
                    branch: subject.revision.clone(),
                    message,
                }),
                None => failure,
            }
        })?;
        let answer = serde_json::from_str::<Value>(&answer.text()?).unwrap_or_default();
        let commit = answer["commitOid"].as_str().and_then(Commit::parse);
        // It was taken; the head tells as what.
        commit.ok_or_else(|| RequestError::transient(protocol(&url, "it names no commit")))
    }
}

/// The commit as lines of JSON: message and parent, then a line for each file that it adds or removes.
fn lines(message: &str, parent: &Commit, files: &[(&UploadFile, Mode)], surplus: &[String]) -> Result<Vec<u8>, Error> {
    let message = message.trim();
    let (summary, description) = message.split_once('\n').unwrap_or((message, ""));
    let header = json!({
        "summary": summary.trim(), "description": description.trim(), "parentCommit": parent.as_str(),
    });
    let mut text = json!({ "key": "header", "value": header }).to_string();
    for (file, mode) in files {
        text.push('\n');
        let line = match mode {
            Mode::Regular => {
                let content = BASE64_STANDARD.encode(file.content()?);
                json!({ "key": "file", "value": { "path": file.name, "encoding": "base64", "content": content } })
            }
            Mode::Large => {
                let oid = file.sha256()?.as_str();
                let value = json!({ "path": file.name, "algo": "sha256", "oid": oid, "size": file.size });
                json!({ "key": "lfsFile", "value": value })
            }
        };
        text.push_str(&line.to_string());
    }
    for name in surplus {
        text.push('\n');
        text.push_str(&json!({ "key": "deletedFile", "value": { "path": name } }).to_string());
    }
    text.push('\n');
    Ok(text.into_bytes())
}
