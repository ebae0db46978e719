//! A range of a file, on its way out.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use crate::digest::{Digest, Hasher};
use crate::folder::Local;
use crate::patience::Pace;
use crate::progress::{Tell, TransferProgress};
use crate::request::Failure;
use crate::{Client, Error};

/// A range of a file that is read for the line. Its last bytes are given out only if the whole file still has the hash
/// that it was announced with: a store must not keep other content under that name.
pub(crate) struct Portion<'a, 't> {
    pub(crate) client: &'a Client,
    pub(crate) file: File,
    pub(crate) local: &'a Local,
    pub(crate) digest: &'a Digest,
    pub(crate) host: String,
    /// What comes next, and where the range ends.
    pub(crate) at: u64,
    pub(crate) end: u64,
    /// Hash of all bytes of the file before `at`.
    pub(crate) hasher: Hasher,
    pub(crate) pace: Pace,
    pub(crate) silence: Duration,
    /// Why it gives no more.
    pub(crate) fault: Option<Failure>,
    pub(crate) tell: Tell<'t>,
}

impl Portion<'_, '_> {
    fn next(&mut self, block: &mut [u8]) -> Result<usize, Failure> {
        self.client.going(&self.host).map_err(Failure::lasting)?;
        if self.pace.is_too_slow(self.at, self.silence) {
            let (host, reason) = (self.host.clone(), "it takes less than 1 KiB a second".into());
            return Err(Failure::passing(Error::Network { host, reason }));
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
        (self.tell)(TransferProgress::Sent { file: &self.local.name, bytes: self.at, size: self.local.size });
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{Cache, Endpoint};

    #[test]
    fn a_store_that_takes_next_to_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), vec![1; 10_000]).unwrap();
        let local = &crate::folder::files(folder.path()).unwrap()[0];
        let client = &Client::new(Endpoint::default(), Cache::new(folder.path()));
        // Two seconds ago it was at byte 0: with 3000 bytes it is fast enough, with 2000 it is not.
        for (at, enough) in [(3000, true), (2000, false)] {
            let mut portion = Portion {
                client,
                file: local.open().unwrap(),
                local,
                digest: local.sha256().unwrap(),
                host: "store".into(),
                at,
                end: 10_000,
                hasher: Hasher::sha256(),
                pace: Pace { since: Instant::now().checked_sub(Duration::from_secs(2)).unwrap(), mark: 0 },
                silence: Duration::from_secs(2),
                fault: None,
                tell: &mut |_| {},
            };
            assert_eq!(portion.read(&mut [0; 100]).is_ok(), enough);
            assert_eq!(portion.fault.is_some_and(|failure| failure.passing), !enough);
        }
    }
}
