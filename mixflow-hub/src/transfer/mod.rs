//! One file's content, from wherever it is to the cache.

mod partial;
mod ranges;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use ureq::http::StatusCode;

use crate::digest::Hasher;
use crate::listing::Expected;
use crate::patience::Pace;
use crate::progress::{Progress, TransferProgress};
use crate::request::{Answer, Ask, RequestError, Subject, protocol, text};
use crate::url::Url;
use crate::{Client, Commit, Error, Repository, Revision};
use partial::Partial;

/// Bytes that are read and written at once.
const BLOCK: usize = 1 << 18;

/// Bytes after which a broken transfer counts as one that works.
const GOOD: u64 = 1 << 20;

impl Client {
    /// Puts a file of a commit into the cache, unless it is there, by up to `lines` requests at once. Whoever else wants it
    /// waits, where the file system has locks.
    pub(crate) fn fetch(
        &self,
        repository: &Repository,
        commit: &Commit,
        file: &str,
        expected: &Expected,
        lines: usize,
        progress: Progress<'_>,
    ) -> Result<PathBuf, Error> {
        let blob = self.cache.blob(repository, &expected.digest);
        self.cache.prepare(repository)?;
        let waiting = |by: Option<&str>| progress(TransferProgress::Locked { file, by });
        let host = self.endpoint.to_string();
        let lock = self.cache.lock(repository, &expected.digest, || self.going(&host), waiting)?;
        // Other content was put there by somebody who did not check.
        if !self.cache.is_right(repository, &expected.digest, &blob) {
            let revision = Revision::from(commit.clone());
            let subject = Subject { repository, revision: &revision, file: Some(file) };
            let come = Transfer::open(self, subject, file, expected, &blob, lock.alone).and_then(|mut transfer| {
                transfer.run(lines, &mut *progress)?;
                transfer.partial.finish().map_err(Error::io("write", &blob))
            });
            match come {
                Ok(()) => self.cache.keep_checked(repository, &expected.digest, &blob),
                // Somebody whom the lock did not keep out was faster.
                Err(_) if self.cache.is_right(repository, &expected.digest, &blob) => {}
                Err(error) => return Err(error),
            }
            progress(TransferProgress::Finished { file });
        }
        let path = self.cache.link(repository, commit, file, &expected.digest)?;
        drop(lock);
        Ok(path)
    }
}

/// The download of one file's content.
struct Transfer<'a> {
    client: &'a Client,
    subject: Subject<'a>,
    name: &'a str,
    expected: &'a Expected,
    partial: Partial,
    /// Bytes in the file so far, and their hash.
    held: u64,
    hasher: Hasher,
}

impl<'a> Transfer<'a> {
    /// Starts with the bytes that an earlier attempt has left.
    fn open(
        client: &'a Client,
        subject: Subject<'a>,
        name: &'a str,
        expected: &'a Expected,
        blob: &Path,
        alone: bool,
    ) -> Result<Self, Error> {
        let partial = Partial::open(blob, expected.size > GOOD, alone).map_err(Error::io("write", blob))?;
        let hasher = expected.digest.hasher(expected.size);
        let mut transfer = Self { client, subject, name, expected, partial, held: 0, hasher };
        transfer.hash_what_is_there().map_err(Error::io("read", &transfer.partial.shared()))?;
        if transfer.held > expected.size {
            transfer.restart()?;
        }
        Ok(transfer)
    }

    /// Fetches the rest, as often as it takes, and checks the whole. Content with a wrong hash is fetched once more, all
    /// of it: an earlier attempt may be to blame.
    fn run(&mut self, lines: usize, progress: Progress<'_>) -> Result<(), Error> {
        let (file, size) = (self.name, self.expected.size);
        progress(TransferProgress::Begin { file, size, resumed: self.held });
        for last in [false, true] {
            #[cfg(feature = "xet")]
            if !last {
                self.fill_by_xet(progress)?;
            }
            self.fill_by_ranges(lines, progress)?;
            self.fill(progress)?;
            let come = std::mem::replace(&mut self.hasher, self.expected.digest.hasher(size)).finish();
            let found = match self.partial.taken {
                true => come.of(self.partial.path()).map_err(Error::io("read", &self.partial.shared()))?,
                false => come,
            };
            if found == self.expected.digest {
                return self.partial.file.sync_all().map_err(Error::io("write", &self.partial.shared()));
            }
            let repository = self.subject.repository.clone();
            let (expected, found) = (self.expected.digest.to_string(), found.to_string());
            let error = Error::Hash { repository, file: file.into(), expected, found };
            self.restart()?;
            if last {
                return Err(error);
            }
            progress(TransferProgress::Retrying { reason: &error.to_string(), wait: std::time::Duration::ZERO });
        }
        unreachable!("the last attempt returns")
    }

    /// Fetches what is missing from the store, if the file is there.
    #[cfg(feature = "xet")]
    fn fill_by_xet(&mut self, progress: Progress<'_>) -> Result<(), Error> {
        let missing = self.held < self.expected.size && !self.client.xet.is_closed();
        let Some(hash) = self.expected.xet.as_deref().filter(|_| missing) else { return Ok(()) };
        let (subject, range) = (Subject { file: Some(self.name), ..self.subject }, self.held..self.expected.size);
        crate::xet::fill(self.client, &subject, hash, range, &mut |part| self.add(part), progress)
    }

    /// Sends requests until all bytes are there.
    fn fill(&mut self, progress: Progress<'_>) -> Result<(), Error> {
        let mut failures = 0;
        while self.held < self.expected.size {
            let before = self.held;
            let Err(failure) = self.attempt(progress) else { continue };
            failures = if self.held >= before + GOOD { 1 } else { failures + 1 };
            self.client.wait(failure, failures, progress)?;
        }
        Ok(())
    }

    /// Sends one request for the bytes that are missing.
    fn attempt(&mut self, progress: Progress<'_>) -> Result<(), RequestError> {
        let Subject { repository, revision, .. } = self.subject;
        // The address of the content expires: the Hub gives a new one each time.
        let url = self.client.endpoint.file(repository, revision, self.name);
        let answer = self.client.ask(Ask::Get(self.held), &url, &self.subject)?;
        self.check_range(&answer)?;
        let (size, url) = (self.expected.size, answer.url.clone());
        let mut body = answer.response.into_body().into_reader();
        let mut block = vec![0; BLOCK];
        let mut pace = Pace::new(self.held);
        while self.held < size {
            self.client.going(url.host()).map_err(RequestError::permanent)?;
            let count = body.read(&mut block).map_err(|error| self.interrupted(&url, &error.to_string()))?;
            if count == 0 {
                return Err(self.interrupted(&url, "the answer ended"));
            }
            let held = self.held + count as u64;
            if held > size {
                return Err(self.wrong_length(held));
            }
            self.add(&block[..count]).map_err(RequestError::permanent)?;
            progress(TransferProgress::Received { file: self.name, bytes: held, size });
            if pace.is_too_slow(held, self.client.patience.silence) {
                return Err(self.interrupted(&url, "less than 1 KiB a second came"));
            }
        }
        Ok(())
    }

    /// Checks that the answer has the range that was asked for; starts over where the server sends the whole file.
    fn check_range(&mut self, answer: &Answer) -> Result<(), RequestError> {
        let header = |name| text(answer.response.headers(), name);
        let restart = |this: &mut Self| this.restart().map_err(RequestError::permanent);
        let length = header("content-length").and_then(|length| length.parse::<u64>().ok());
        match answer.response.status() {
            StatusCode::PARTIAL_CONTENT if self.held > 0 => {
                let range = format!("bytes {}-{}/{}", self.held, self.expected.size - 1, self.expected.size);
                if header("content-range") == Some(&range) {
                    return Ok(());
                }
                restart(self)?;
                Err(RequestError::transient(protocol(&answer.url, "it sends another part than it was asked for")))
            }
            StatusCode::OK => {
                if self.held > 0 {
                    restart(self)?;
                }
                match length.filter(|length| *length != self.expected.size) {
                    Some(length) => Err(self.wrong_length(length)),
                    None => Ok(()),
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                restart(self)?;
                Err(RequestError::transient(protocol(&answer.url, "it has not as many bytes as it said")))
            }
            status => {
                Err(RequestError::permanent(protocol(&answer.url, &format!("it sends no content, but {status}"))))
            }
        }
    }

    fn interrupted(&self, url: &Url, reason: &str) -> RequestError {
        RequestError::transient(Error::Interrupted {
            host: url.host().into(),
            file: self.name.into(),
            received: self.held,
            size: self.expected.size,
            reason: reason.into(),
        })
    }

    fn wrong_length(&self, found: u64) -> RequestError {
        let repository = self.subject.repository.clone();
        RequestError::permanent(Error::Length {
            repository,
            file: self.name.into(),
            expected: self.expected.size,
            found,
        })
    }

    /// Appends bytes to the file, and hashes them.
    fn add(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.partial.file.write_all(bytes).map_err(Error::io("write", &self.partial.shared()))?;
        self.hasher.update(bytes);
        self.held += bytes.len() as u64;
        Ok(())
    }

    /// Drops all bytes so far.
    fn restart(&mut self) -> Result<(), Error> {
        self.held = 0;
        self.hasher = self.expected.digest.hasher(self.expected.size);
        self.partial.restart().map_err(Error::io("write", &self.partial.shared()))
    }

    fn hash_what_is_there(&mut self) -> std::io::Result<()> {
        let length = self.partial.file.metadata()?.len();
        self.held += self.hasher.read(&mut (&self.partial.file).take(length - self.held))?;
        Ok(())
    }
}
