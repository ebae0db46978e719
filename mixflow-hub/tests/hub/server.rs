//! A Hub on loopback: repositories in memory, and the ways in which a server or a line can fail.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

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

/// What happens to requests whose path contains a text, so many times.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) path: &'static str,
    pub(crate) times: usize,
    pub(crate) kind: Failing,
}

#[derive(Clone, Debug)]
pub(crate) enum Failing {
    /// The line breaks after so many bytes of the body.
    Cut(usize),
    /// A byte of the content is another one.
    Corrupt,
    /// A status, headers and a text instead of an answer.
    Answer(u16, Vec<(&'static str, String)>, &'static str),
    /// So long until the answer.
    Slow(Duration),
    /// So long between the two halves of the body.
    Stall(Duration),
    /// The range that was asked for is ignored.
    Whole,
    /// Other headers than the true ones.
    Headers(Vec<(&'static str, String)>),
    /// Another body, with its own length.
    Body(&'static [u8]),
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
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
        let mut hasher = Sha1::new();
        for (name, content) in &files {
            hasher.update(format!("{repository} {name} {}", content.hash()));
        }
        let commit = hex(&hasher.finalize());
        let mut state = self.state();
        let stored = state.repositories.entry(repository.into()).or_default();
        stored.commits.insert(commit.clone(), files);
        stored.refs.insert(branch.into(), commit.clone());
        commit
    }

    /// Lets requests whose path contains `path` fail the next `times`.
    pub(crate) fn fail(&self, path: &'static str, times: usize, kind: Failing) {
        self.state().faults.push(Fault { path, times, kind });
    }

    /// Requests so far whose path contains `path`, as method and range.
    pub(crate) fn asked(&self, path: &str) -> Vec<(String, Option<String>)> {
        let state = self.state();
        let matching = state.requests.iter().filter(|request| request.path.contains(path));
        matching.map(|request| (request.method.clone(), request.header("range").map(String::from))).collect()
    }
}

/// What goes over the wire.
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![], body: body.into() }
    }

    fn json(value: &Value) -> Self {
        Self::new(200, value.to_string()).header("Content-Type", "application/json")
    }

    fn error(status: u16, code: &str, message: &str) -> Self {
        Self::new(status, message).header("X-Error-Code", code).header("X-Error-Message", message)
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(found, _)| *found != name);
        self.headers.push((name, value.into()));
        self
    }
}

/// Answers the requests of one connection.
fn serve(stream: &TcpStream, state: &Mutex<State>, is_hub: bool, storage: &str) {
    let mut lines = BufReader::new(stream);
    while let Some(request) = read(&mut lines) {
        let (answer, faults) = {
            let mut state = state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            state.requests.push(request.clone());
            let mut kinds = vec![];
            for fault in state.faults.iter_mut().filter(|fault| fault.times > 0 && request.path.contains(fault.path)) {
                fault.times -= 1;
                kinds.push(fault.kind.clone());
            }
            let answer = if is_hub { hub(&state, &request, storage) } else { store(&state, &request) };
            (answer, kinds)
        };
        if respond(stream, &request, answer, &faults).is_none() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn read(lines: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    lines.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_string());
    }
    Some(Request { method, path, headers })
}

/// Sends the answer, or what the faults make of it; none if the line is to break.
fn respond(mut stream: &TcpStream, request: &Request, mut answer: Answer, faults: &[Failing]) -> Option<()> {
    let (mut cut, mut stall, mut whole) = (None, None, false);
    for fault in faults {
        match fault.clone() {
            Failing::Cut(bytes) => cut = Some(bytes),
            Failing::Corrupt => answer.body.iter_mut().skip(3).take(1).for_each(|byte| *byte ^= 1),
            Failing::Answer(status, headers, body) => answer = Answer { headers, ..Answer::new(status, body) },
            Failing::Slow(time) => thread::sleep(time),
            Failing::Stall(time) => stall = Some(time),
            Failing::Whole => whole = true,
            Failing::Headers(headers) => {
                for (name, value) in headers {
                    answer = answer.header(name, value);
                }
            }
            Failing::Body(body) => answer.body = body.into(),
        }
    }
    let size = answer.body.len();
    let range = request.header("range").filter(|_| !whole && answer.status == 200);
    let from: Option<usize> = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match from {
        Some(from) if from >= size => {
            answer = Answer::new(416, "").header("Content-Range", format!("bytes */{size}"));
        }
        Some(from) => {
            answer.status = 206;
            answer.body.drain(..from);
            answer = answer.header("Content-Range", format!("bytes {from}-{}/{size}", size - 1));
        }
        None => {}
    }
    let length = answer.body.len();
    let mut head = format!("HTTP/1.1 {} Answer\r\nContent-Length: {length}\r\nAccept-Ranges: bytes\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    if request.method == "HEAD" {
        return Some(());
    }
    let end = cut.unwrap_or(length).min(length);
    let half = if stall.is_some() { end / 2 } else { end };
    stream.write_all(&answer.body[..half]).ok()?;
    if let Some(time) = stall {
        thread::sleep(time);
        stream.write_all(&answer.body[half..end]).ok()?;
    }
    (cut.is_none()).then_some(())
}

/// The Hub's answer.
fn hub(state: &State, request: &Request, storage: &str) -> Answer {
    let token = request.header("authorization").and_then(|header| header.strip_prefix("Bearer "));
    if token.is_some_and(|token| !state.tokens.iter().any(|known| known == token)) {
        return Answer::error(401, "", "Invalid credentials in Authorization header");
    }
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let path = unescape(path);
    let (api, path) = match path.strip_prefix("/api/models/") {
        Some(path) => (true, path),
        None => (false, path.trim_start_matches('/')),
    };
    let parts: Vec<&str> = path.splitn(4, '/').collect();
    let [org, name, action, rest] = parts[..] else { return Answer::new(404, "no such page") };
    let missing = || Answer::error(if token.is_some() { 404 } else { 401 }, "RepoNotFound", "Repository not found");
    let Some(stored) = state.repositories.get(&format!("{org}/{name}")) else { return missing() };
    if stored.private.as_deref().is_some_and(|private| token != Some(private)) {
        return missing();
    }
    let revisions = stored.refs.keys().chain(stored.commits.keys());
    let revision =
        revisions.filter(|name| rest == **name || rest.starts_with(&format!("{name}/"))).max_by_key(|name| name.len());
    let no_revision = || Answer::error(404, "RevisionNotFound", "Invalid rev id");
    let Some(revision) = revision else { return no_revision() };
    let commit = stored.refs.get(revision).unwrap_or(revision);
    let files = &stored.commits[commit];
    match (api, action) {
        (true, "revision") => {
            let siblings: Vec<Value> = files.keys().map(|name| json!({ "rfilename": name })).collect();
            let id = format!("{org}/{name}");
            Answer::json(&json!({ "_id": "1", "id": id, "modelId": id, "sha": commit, "siblings": siblings }))
        }
        (true, "tree") => tree(state, files, &request.path, query),
        (false, "resolve") => {
            if stored.gated {
                return Answer::error(if token.is_some() { 403 } else { 401 }, "GatedRepo", "Access is restricted");
            }
            let Some(content) = files.get(&rest[(revision.len() + 1).min(rest.len())..]) else {
                return Answer::error(404, "EntryNotFound", "Entry not found").header("X-Repo-Commit", commit);
            };
            let etag = format!("\"{}\"", content.hash());
            if !content.large {
                return Answer::new(200, content.bytes.clone()).header("ETag", etag).header("X-Repo-Commit", commit);
            }
            Answer::new(302, "")
                .header("Location", format!("{storage}/{}?Signature=signed", content.sha256()))
                .header("X-Linked-Etag", etag)
                .header("X-Linked-Size", content.bytes.len().to_string())
                .header("X-Repo-Commit", commit)
        }
        _ => Answer::new(404, "no such page"),
    }
}

/// One page of a listing.
fn tree(state: &State, files: &Files, path: &str, query: &str) -> Answer {
    let mut entries: Vec<Value> = files
        .iter()
        .map(|(name, content)| {
            let mut entry = json!({
                "type": "file", "oid": content.git_hash(), "size": content.bytes.len(), "path": name,
            });
            if content.large {
                let pointer = json!({ "oid": content.sha256(), "size": content.bytes.len(), "pointerSize": 134 });
                entry["lfs"] = pointer;
            }
            entry
        })
        .collect();
    entries.push(json!({ "type": "directory", "oid": "0".repeat(40), "size": 0, "path": "vae" }));
    entries.extend(state.listed.clone());
    let from = query.split('&').find_map(|part| part.strip_prefix("cursor=")?.parse().ok()).unwrap_or(0usize);
    let to = (from + state.page).min(entries.len());
    let answer = Answer::json(&Value::Array(entries[from..to].to_vec()));
    if to == entries.len() {
        return answer;
    }
    let path = path.split("&cursor=").next().unwrap();
    answer.header("Link", format!("<{path}&cursor={to}>; rel=\"next\""))
}

/// The storage server's answer.
fn store(state: &State, request: &Request) -> Answer {
    let hash = request.path.trim_start_matches('/').split('?').next().unwrap();
    if !request.path.ends_with("?Signature=signed") {
        return Answer::new(403, "no signature");
    }
    let contents = state.repositories.values().flat_map(|stored| stored.commits.values()).flat_map(BTreeMap::values);
    match contents.into_iter().find(|content| content.large && content.sha256() == hash) {
        Some(content) => Answer::new(200, content.bytes.clone()),
        None => Answer::new(404, "no such content"),
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
