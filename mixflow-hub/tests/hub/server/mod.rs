//! A Hub on loopback: repositories in memory, and the ways in which a server or a line can fail.

mod download;
mod upload;
mod wire;

use std::collections::BTreeMap;
use std::io::BufReader;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

pub(crate) use wire::Request;
use wire::{Answer, read_body, read_head, respond};

/// A file of a commit.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    /// Whether it is kept apart, on the storage server, under its SHA-256.
    pub(crate) large: bool,
}

impl Content {
    pub(crate) fn git_hash(&self) -> String {
        let mut hasher = Sha1::new_with_prefix(format!("blob {}\0", self.bytes.len()));
        hasher.update(&self.bytes);
        hex(&hasher.finalize())
    }

    pub(crate) fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.bytes))
    }

    /// What the Hub calls it.
    pub(crate) fn hash(&self) -> String {
        if self.large { self.sha256() } else { self.git_hash() }
    }
}

/// Files by name.
pub(crate) type Files = BTreeMap<String, Content>;

/// One repository.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) refs: BTreeMap<String, String>,
    pub(crate) commits: BTreeMap<String, Files>,
    /// Only this token sees it, if any.
    pub(crate) private: Option<String>,
    /// Terms must be accepted, which nobody has.
    pub(crate) gated: bool,
}

impl Stored {
    /// Makes a commit of `files` the head of a branch. The same files are the same commit, unless it has a parent.
    fn commit(&mut self, salt: &str, branch: &str, files: Files) -> String {
        let mut hasher = Sha1::new();
        for (name, content) in &files {
            hasher.update(format!("{salt} {name} {}", content.hash()));
        }
        let commit = hex(&hasher.finalize());
        self.commits.insert(commit.clone(), files);
        self.refs.insert(branch.into(), commit.clone());
        commit
    }
}

/// What happens to requests whose path contains a text, so many times.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) path: &'static str,
    pub(crate) times: usize,
    pub(crate) kind: Failing,
}

#[derive(Clone, Debug)]
pub(crate) enum Failing {
    /// The line breaks after so many bytes of the body: of the request where it has one, else of the answer.
    Cut(usize),
    /// A byte of that body is another one.
    Corrupt,
    /// What was asked for is done, but the line breaks before the answer.
    Lost,
    /// Before it is done, somebody else makes a commit of this file on `main` of `org/sit`.
    Another(&'static str, &'static [u8]),
    /// A status, headers and a text instead of an answer, and nothing is done.
    Answer(u16, Vec<(&'static str, String)>, &'static str),
    /// So long until the answer.
    Slow(Duration),
    /// No answer of the storage server before so many requests have come to it, half a minute at most.
    Together(usize),
    /// So long between the two halves of the body.
    Stall(Duration),
    /// So many bytes of the answer, again and again, with so long between.
    Drip(usize, Duration),
    /// The range that was asked for is ignored.
    Whole,
    /// Other headers than the true ones.
    Headers(Vec<(&'static str, String)>),
    /// Another body, with its own length.
    Body(&'static [u8]),
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) repositories: BTreeMap<String, Stored>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) requests: Vec<Request>,
    /// Tokens that there are.
    pub(crate) tokens: Vec<String>,
    /// Entries of one page of a listing.
    pub(crate) page: usize,
    /// More entries of any listing, as the server would name them.
    pub(crate) listed: Vec<Value>,
    /// What the storage server holds by SHA-256, beside the large files of the commits.
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    /// Parts of large files that have come, by SHA-256 and number.
    pub(crate) parts: BTreeMap<(String, u64), Vec<u8>>,
    pub(crate) rules: Rules,
    /// Requests to the storage server that are being answered, and the most that there were.
    pub(crate) busy: (usize, usize),
    /// Requests to the storage server so far.
    arrived: usize,
    /// The other store for large files, if there is one.
    pub(crate) xet: Option<Xet>,
}

/// The store that the Hub itself has for large files.
#[derive(Debug)]
pub(crate) struct Xet {
    /// Its address.
    pub(crate) address: String,
    /// What is to be found there, by SHA-256: its hash there, and its content.
    pub(crate) files: BTreeMap<String, (String, Vec<u8>)>,
}

/// How the Hub takes what is uploaded.
#[derive(Debug)]
pub(crate) struct Rules {
    /// What tokens may do: "write", "read" or "fineGrained".
    pub(crate) role: &'static str,
    /// Bytes of one part of a large file; in one piece where none.
    pub(crate) part: Option<u64>,
    /// How files are told to be sent: "lfs" for large ones, which is also what they are when committed.
    pub(crate) mode: &'static str,
    /// The transfer that is offered for large files, in place of the one that fits.
    pub(crate) transfer: Option<&'static str>,
    /// Names that are ignored.
    pub(crate) ignored: Vec<&'static str>,
    /// Whether repositories can be private.
    pub(crate) private: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { role: "write", part: None, mode: "lfs", transfer: None, ignored: vec![], private: true }
    }
}

/// Two servers: the Hub, and the storage that it sends to for large files.
#[derive(Debug)]
pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    pub(crate) endpoint: String,
    pub(crate) storage: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State { page: 1000, ..State::default() }));
        let (hub, store) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        // Another name makes it another server.
        let endpoint = format!("http://127.0.0.1:{}", hub.local_addr().unwrap().port());
        let storage = format!("http://127.0.0.1:{}", store.local_addr().unwrap().port());
        for (listener, is_hub) in [(hub, true), (store, false)] {
            let (state, storage) = (state.clone(), storage.clone());
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (state, storage) = (state.clone(), storage.clone());
                    thread::spawn(move || serve(&stream, &state, is_hub, &storage));
                }
            });
        }
        Self { state, endpoint, storage }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Makes a commit of `files` the head of a branch of `repository`; the third value is whether a file is large.
    pub(crate) fn commit(&self, repository: &str, branch: &str, files: &[(&str, &[u8], bool)]) -> String {
        let file = |&(name, bytes, large): &(&str, &[u8], bool)| (name.into(), Content { bytes: bytes.into(), large });
        let files: Files = files.iter().map(file).collect();
        let mut state = self.state();
        state.repositories.entry(repository.into()).or_default().commit(repository, branch, files)
    }

    /// Lets requests whose path contains `path` fail the next `times`.
    pub(crate) fn fail(&self, path: &'static str, times: usize, kind: Failing) {
        self.state().faults.push(Fault { path, times, kind });
    }

    /// The files of a branch.
    pub(crate) fn files(&self, repository: &str, branch: &str) -> Files {
        let stored = &self.state().repositories[repository];
        stored.commits[&stored.refs[branch]].clone()
    }

    /// Bodies of the requests so far whose path contains `path`.
    pub(crate) fn bodies(&self, path: &str) -> Vec<Vec<u8>> {
        let state = self.state();
        let matching = state.requests.iter().filter(|request| request.path.contains(path));
        matching.map(|request| request.body.clone()).collect()
    }

    /// Requests so far whose path contains `path`, as method and range.
    pub(crate) fn asked(&self, path: &str) -> Vec<(String, Option<String>)> {
        let state = self.state();
        let matching = state.requests.iter().filter(|request| request.path.contains(path));
        matching.map(|request| (request.method.clone(), request.header("range").map(String::from))).collect()
    }
}

/// Answers the requests of one connection.
fn serve(stream: &TcpStream, state: &Mutex<State>, is_hub: bool, storage: &str) {
    let lock = || state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut lines = BufReader::new(stream);
    while let Some(mut request) = read_head(&mut lines) {
        let (faults, number) = {
            let mut state = lock();
            let mut faults = vec![];
            for fault in state.faults.iter_mut().filter(|fault| fault.times > 0 && request.path.contains(fault.path)) {
                fault.times -= 1;
                faults.push(fault.kind.clone());
            }
            state.requests.push(request.clone());
            if !is_hub {
                state.arrived += 1;
                state.busy.0 += 1;
                state.busy.1 = state.busy.1.max(state.busy.0);
            }
            (faults, state.requests.len() - 1)
        };
        if let Some(count) =
            faults.iter().find_map(|fault| if let Failing::Together(count) = fault { Some(*count) } else { None })
        {
            let end = Instant::now() + Duration::from_secs(30);
            while lock().arrived < count && Instant::now() < end {
                thread::sleep(Duration::from_millis(5));
            }
        }
        let whole = read_body(&mut lines, &mut request, &faults).is_some();
        let answer = {
            let mut state = lock();
            state.requests[number].body.clone_from(&request.body);
            for fault in &faults {
                if let Failing::Another(name, bytes) = fault {
                    let stored = state.repositories.get_mut("org/sit").unwrap();
                    let mut files = stored.commits[&stored.refs["main"]].clone();
                    files.insert((*name).into(), Content { bytes: bytes.to_vec(), large: false });
                    stored.commit("another", "main", files);
                }
            }
            // Nothing is done where the answer is another one.
            let done = whole && !faults.iter().any(|fault| matches!(fault, Failing::Answer(..)));
            match (done, is_hub) {
                (false, _) => Answer::new(500, ""),
                (true, true) => hub(&mut state, &request, storage),
                (true, false) => store(&mut state, &request),
            }
        };
        let lost = faults.iter().any(|fault| matches!(fault, Failing::Lost));
        let answered = whole && !lost && respond(stream, &request, answer, &faults).is_some();
        if !is_hub {
            lock().busy.0 -= 1;
        }
        if !answered {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

/// The Hub's answer.
fn hub(state: &mut State, request: &Request, storage: &str) -> Answer {
    let token = request.token();
    if token.is_some_and(|token| !state.tokens.iter().any(|known| known == token)) {
        return Answer::error(401, "", "Invalid credentials in Authorization header");
    }
    match request.method.as_str() {
        "GET" | "HEAD" if !request.path.starts_with("/api/whoami-v2") => download::hub(state, request, storage),
        _ => upload::hub(state, request, storage),
    }
}

/// The storage server's answer.
fn store(state: &mut State, request: &Request) -> Answer {
    assert!(request.token().is_none(), "the storage server was given a token");
    if !request.path.ends_with("Signature=signed") {
        return Answer::new(403, "no signature");
    }
    match request.method.as_str() {
        "PUT" => upload::store(state, request),
        _ => download::store(state, request),
    }
}

fn unescape(path: &str) -> String {
    let mut bytes = vec![];
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        match tail {
            [a, b, tail @ ..] if *first == b'%' => {
                let code = [*a, *b];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&code).unwrap(), 16).unwrap());
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
