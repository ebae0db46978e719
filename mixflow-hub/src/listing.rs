//! What a repository has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cache::relative;
use crate::digest::Digest;
use crate::progress::Progress;
use crate::request::{Ask, RequestError, Subject, protocol, text};
use crate::revision::is_hex;
use crate::{Client, Commit, Error, Repository, Revision};

/// Most files of one repository; the Hub itself advises against a tenth of it.
const MAX_FILES: usize = 1_000_000;

/// Format of `trees/<commit>.json`, of `huggingface_hub` 2.
const FORMAT: u64 = 1;

/// Hash and size in bytes that a file must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// Hash of the file in Xet, the Hub's own store, if it is there.
    pub(crate) xet: Option<String>,
}

/// Hash and size of each file of a commit, by its name.
pub(crate) type Tree = BTreeMap<String, Expected>;

/// One file in `trees/<commit>.json`.
#[derive(Serialize, Deserialize)]
struct CachedFile {
    size: u64,
    blob_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    xet_hash: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct CachedTree {
    format_version: u64,
    files: BTreeMap<String, CachedFile>,
}

/// One entry of the Hub's answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedFile {
    #[serde(rename = "type")]
    kind: String,
    oid: String,
    #[serde(default)]
    size: u64,
    path: String,
    lfs: Option<Lfs>,
    xet_hash: Option<String>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl CachedFile {
    fn expected(&self) -> Option<Expected> {
        let hash = self.lfs_sha256.as_deref().unwrap_or(&self.blob_id);
        let xet = in_store(self.xet_hash.as_deref());
        Some(Expected { digest: Digest::parse(hash)?, size: self.lfs_size.unwrap_or(self.size), xet })
    }
}

impl Client {
    /// The commit that a revision is now.
    pub(crate) fn resolve(
        &self,
        repository: &Repository,
        revision: &Revision,
        progress: Progress<'_>,
    ) -> Result<Commit, Error> {
        if let Some(commit) = revision.commit() {
            return Ok(commit);
        }
        let url = self.endpoint.revision(repository, revision);
        let answer = self.json(&url, &Subject { repository, revision, file: None }, progress)?;
        let commit = answer["sha"].as_str().and_then(Commit::parse);
        commit.ok_or_else(|| protocol(&url, "it names no commit"))
    }

    /// All files of a commit, from the cache where they were listed before.
    pub(crate) fn tree(&self, repository: &Repository, commit: &Commit, progress: Progress<'_>) -> Result<Tree, Error> {
        if let Some(tree) = self.cached_tree(repository, commit)? {
            return Ok(tree);
        }
        let revision = Revision::from(commit.clone());
        let subject = Subject { repository, revision: &revision, file: None };
        let (mut files, mut next) = (BTreeMap::new(), Some(self.endpoint.tree(repository, &revision)));
        while let Some(url) = next {
            let (text, after) = self.page(&url, &subject, progress)?;
            let page: Vec<ListedFile> = serde_json::from_str(&text)
                .map_err(|error| protocol(&url, &format!("the listing is none: {error}")))?;
            if page.is_empty() && after.is_some() || files.len() + page.len() > MAX_FILES {
                return Err(protocol(&url, "the listing does not end"));
            }
            for entry in page.into_iter().filter(|entry| entry.kind == "file") {
                let (lfs_sha256, lfs_size) = entry.lfs.map(|lfs| (lfs.oid, lfs.size)).unzip();
                let kept =
                    CachedFile { size: entry.size, blob_id: entry.oid, lfs_sha256, lfs_size, xet_hash: entry.xet_hash };
                files.insert(entry.path, kept);
            }
            next = after;
        }
        let url = self.endpoint.tree(repository, &revision);
        let tree = checked(repository, &files, |reason| protocol(&url, reason))?;
        let kept = serde_json::to_vec(&CachedTree { format_version: FORMAT, files });
        // It only spares a request: a cache that may only be read has no room for it.
        let _ = self.cache.keep_tree(repository, commit, &kept.expect("names and numbers are JSON"));
        Ok(tree)
    }

    /// All files of a commit, if they were listed before and the list can be read.
    pub(crate) fn cached_tree(&self, repository: &Repository, commit: &Commit) -> Result<Option<Tree>, Error> {
        let kept =
            self.cache.tree(repository, commit).and_then(|text| serde_json::from_slice::<CachedTree>(&text).ok());
        let Some(kept) = kept.filter(|kept| kept.format_version == FORMAT) else { return Ok(None) };
        let url = self.endpoint.page(repository);
        checked(repository, &kept.files, |reason| protocol(&url, reason)).map(Some)
    }

    /// The commit that the revision is now, and hash and size of one file in it.
    pub(crate) fn expected(
        &self,
        subject: &Subject<'_>,
        file: &str,
        progress: Progress<'_>,
    ) -> Result<(Commit, Expected), RequestError> {
        let url = self.endpoint.file(subject.repository, subject.revision, file);
        let answer = self.patiently(progress, || self.ask(Ask::Head, &url, subject))?;
        let fault = |reason: &str| RequestError::permanent(protocol(&url, reason));
        let commit = answer.header("x-repo-commit").and_then(Commit::parse);
        let commit = commit.ok_or_else(|| fault("it names no commit"))?;
        let etag = answer.header("x-linked-etag").or_else(|| answer.header("etag"));
        let digest = etag.and_then(Digest::parse).ok_or_else(|| fault("it names no hash of the content"))?;
        let length = text(answer.response.headers(), "content-length");
        let length = length.filter(|_| answer.response.status().is_success());
        let size = answer.header("x-linked-size").or(length).and_then(|size| size.parse().ok());
        let size = size.ok_or_else(|| fault("it names no size of the content"))?;
        Ok((commit, Expected { digest, size, xet: in_store(answer.header("x-xet-hash")) }))
    }
}

/// The text, if it is a hash of Xet: 64 hexadecimal digits.
fn in_store(hash: Option<&str>) -> Option<String> {
    hash.filter(|hash| is_hex(hash, 64)).map(String::from)
}

fn checked(
    repository: &Repository,
    files: &BTreeMap<String, CachedFile>,
    fault: impl Fn(&str) -> Error,
) -> Result<Tree, Error> {
    let check = |(name, kept): (&String, &CachedFile)| {
        if !relative(name) {
            return Err(Error::Escape { repository: repository.clone(), name: name.clone() });
        }
        let expected = kept.expected().ok_or_else(|| fault(&format!("the hash of {name:?} is none")))?;
        Ok((name.clone(), expected))
    };
    files.iter().map(check).collect()
}
