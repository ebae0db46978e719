//! The body of a request that uploads a range of a file.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use crate::digest::{Digest, Hasher};
use crate::patience::Pace;
use crate::progress::{Progress, TransferProgress};
use crate::request::RequestError;
use crate::upload_file::UploadFile;
use crate::{Client, Error};

/// A range of a file that is read for the line. Its last bytes are given out only if the whole file still has the hash
/// that it was announced with: a store must not keep other content under that name.
pub(crate) struct UploadBody<'a, 't> {
    pub(crate) client: &'a Client,
    pub(crate) file: File,
    pub(crate) source: &'a UploadFile,
    pub(crate) digest: &'a Digest,
    pub(crate) host: String,
    /// The byte that is read next, and the end of the range.
    pub(crate) at: u64,
    pub(crate) end: u64,
    /// Hash of all bytes of the file before `at`.
    pub(crate) hasher: Hasher,
    pub(crate) pace: Pace,
    pub(crate) silence: Duration,
    /// The failure that ended reading.
    pub(crate) fault: Option<RequestError>,
    pub(crate) progress: Progress<'t>,
}

impl UploadBody<'_, '_> {
    fn next(&mut self, block: &mut [u8]) -> Result<usize, RequestError> {
        self.client.going(&self.host).map_err(RequestError::permanent)?;
        if self.pace.is_too_slow(self.at, self.silence) {
            let (host, reason) = (self.host.clone(), "it takes less than 1 KiB a second".into());
            return Err(RequestError::transient(Error::Network { host, reason }));
        }
        let most = (self.end - self.at).min(block.len() as u64) as usize;
        let count = self.file.read(&mut block[..most]);
        let count = count.map_err(|error| RequestError::permanent(Error::io("read", &self.source.path)(error)))?;
        self.hasher.update(&block[..count]);
        self.at += count as u64;
        let ended = count == 0 && most > 0;
        if ended || self.at == self.source.size && self.hasher.clone().finish() != *self.digest {
            return Err(RequestError::permanent(self.source.changed()));
        }
        (self.progress)(TransferProgress::Sent { file: &self.source.name, bytes: self.at, size: self.source.size });
        Ok(count)
    }
}

impl Read for UploadBody<'_, '_> {
    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        self.next(block).map_err(|failure| {
            let error = io::Error::other(failure.error.to_string());
            self.fault = Some(failure);
            error
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{Cache, Endpoint};

    #[test]
    fn a_store_that_takes_next_to_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), vec![1; 10_000]).unwrap();
        let local = &crate::upload_file::files_of(folder.path()).unwrap()[0];
        let client = &Client::new(Endpoint::default(), Cache::new(folder.path()));
        // Two seconds ago it was at byte 0: with 3000 bytes it is fast enough, with 2000 it is not.
        for (at, enough) in [(3000, true), (2000, false)] {
            let mut body = UploadBody {
                client,
                file: local.open().unwrap(),
                source: local,
                digest: local.sha256().unwrap(),
                host: "store".into(),
                at,
                end: 10_000,
                hasher: Hasher::sha256(),
                pace: Pace { since: Instant::now().checked_sub(Duration::from_secs(2)).unwrap(), mark: 0 },
                silence: Duration::from_secs(2),
                fault: None,
                progress: &mut |_| {},
            };
            assert_eq!(body.read(&mut [0; 100]).is_ok(), enough);
            assert_eq!(body.fault.is_some_and(|failure| failure.transient), !enough);
        }
    }
}
