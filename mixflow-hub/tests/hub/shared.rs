//! A server with a repository, and a client with an empty cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use mixflow_hub::{Cache, Client, Endpoint, Patience, Repository, Revision, Token, TransferProgress};
use tempfile::TempDir;

use crate::server::Server;

/// The repository that all tests ask for.
pub(crate) const NAME: &str = "org/sit";

/// Set where clients have a token that need none.
pub(crate) const WITH_TOKEN: &str = "MIXFLOW_TEST_TOKEN";

/// What `config.json` holds.
pub(crate) const CONFIG: &[u8] = b"{\"name\": \"sit\"}\n";

/// Enough bytes for many blocks, no two blocks alike.
pub(crate) fn weights() -> Vec<u8> {
    static WEIGHTS: OnceLock<Vec<u8>> = OnceLock::new();
    let byte = |i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
    WEIGHTS.get_or_init(|| (0..3_000_000).map(byte).collect()).clone()
}

pub(crate) struct Setting {
    pub(crate) server: Server,
    pub(crate) folder: TempDir,
    pub(crate) commit: String,
}

impl Setting {
    pub(crate) fn new() -> Self {
        let server = Server::start();
        let commit = server.commit(
            NAME,
            "main",
            &[
                ("config.json", CONFIG, false),
                ("model.safetensors", &weights(), true),
                ("vae/config.json", b"{}", false),
                ("vae/a b#.txt", b"", false),
            ],
        );
        Self { server, folder: tempfile::tempdir().unwrap(), commit }
    }

    pub(crate) fn client(&self) -> Client {
        let endpoint = Endpoint::new(&self.server.endpoint).unwrap();
        let client = Client::new(endpoint, Cache::new(self.cache())).patience(hasty());
        if std::env::var_os(WITH_TOKEN).is_none() {
            return client;
        }
        self.server.state().tokens.push("hf_aReader".into());
        client.token(Token::new("hf_aReader", "a test").unwrap()).unwrap()
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.folder.path().join("hub")
    }

    /// Where the cache keeps the repository.
    pub(crate) fn stored(&self) -> PathBuf {
        self.cache().join("models--org--sit")
    }

    /// One file at `main`, without progress.
    pub(crate) fn file(&self, name: &str) -> Result<PathBuf, mixflow_hub::Error> {
        self.client().file(&repository(), &Revision::default(), name, |_| {})
    }

    /// All content that the cache has under its hash, and what is on the way there.
    pub(crate) fn blobs(&self) -> Vec<String> {
        names(&self.stored().join("blobs"))
    }
}

pub(crate) fn repository() -> Repository {
    NAME.parse().unwrap()
}

/// Tests wait for nobody.
pub(crate) fn hasty() -> Patience {
    Patience {
        connect: Duration::from_secs(2),
        silence: Duration::from_secs(5),
        attempts: 4,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_secs(3),
    }
}

/// Sorted names in a folder; none if there is no folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Events as text.
pub(crate) fn written(log: &mut Vec<String>) -> impl FnMut(TransferProgress<'_>) + Send {
    |event| log.push(format!("{event:?}"))
}
