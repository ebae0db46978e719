//! A server on loopback that speaks as that of Weights & Biases does, and fails in every way that is handled.
//!
//! What it answers is what the official client, wandb 0.31, needs of a server; that client is run against it too.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

/// What all requests but uploads come with: the user `api` and the key.
pub(super) const KEY: &str = "0123456789abcdef0123456789abcdef01234567";
const AUTHORIZATION: &str = "Basic YXBpOjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc=";

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    /// An answer with this status, and a message that repeats the key.
    Status(u16),
    /// As well, which asks to wait so many seconds.
    Later(u16, u64),
    /// No answer, and nothing is done.
    Cut,
    /// It is done, but the answer is lost.
    Lost,
    /// No answer before [`Server::release`].
    Hang,
}

/// What the server has of a run.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) history: BTreeMap<u64, String>,
    pub(super) summary: String,
    pub(super) config: String,
    pub(super) name: Value,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) uploaded: Vec<String>,
    pub(super) exit: Option<u64>,
    /// Number of the first row, and of rows, in each request that had some.
    pub(super) pieces: Vec<(u64, u64)>,
    /// Requests that say only that the run lives.
    pub(super) beats: usize,
    /// Paths of all requests.
    pub(super) requests: Vec<String>,
    /// Requests that are held.
    pub(super) held: usize,
    /// Whether the last request went well, and was answered.
    pub(super) well: bool,
    released: bool,
    faults: VecDeque<(&'static str, Fault)>,
    /// What no client may do.
    wrong: Vec<String>,
}

#[derive(Clone)]
pub(super) struct Server {
    pub(super) address: String,
    run: Arc<(Mutex<Run>, Condvar)>,
}

impl Server {
    /// A server without faults.
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { address: format!("http://{}", listener.local_addr().unwrap()), run: Arc::default() };
        let its = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let server = its.clone();
                std::thread::spawn(move || server.serve(stream.unwrap()));
            }
        });
        server
    }

    /// The next request whose path has `part` in it goes wrong, after those that were told before.
    pub(super) fn fault(&self, part: &'static str, fault: Fault) {
        self.run().faults.push_back((part, fault));
    }

    /// Lets requests go that are held.
    pub(super) fn release(&self) {
        self.run().released = true;
        self.run.1.notify_all();
    }

    /// What it has. Fails where a client did what none may do.
    #[track_caller]
    pub(super) fn run(&self) -> MutexGuard<'_, Run> {
        let run = self.run.0.lock().unwrap();
        assert!(run.wrong.is_empty(), "{:?}", run.wrong);
        run
    }

    /// Waits until something is so.
    #[track_caller]
    pub(super) fn wait(&self, so: impl Fn(&Run) -> bool) {
        let (run, late) = self.run.1.wait_timeout_while(self.run(), Duration::from_secs(30), |run| !so(run)).unwrap();
        assert!(!late.timed_out(), "it never came to be so: {run:?}");
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = Request::read(&mut reader) {
            let fault = self.arrive(&request);
            let (status, after, answer) = match fault {
                Some(Fault::Cut) => return,
                Some(Fault::Status(status)) => (status, None, json!({ "error": format!("no, {KEY} is\nno key") })),
                Some(Fault::Later(status, after)) => (status, Some(after), json!({})),
                Some(Fault::Lost | Fault::Hang) | None => (200, None, self.answer(&request)),
            };
            self.run.0.lock().unwrap().well = fault.is_none();
            self.run.1.notify_all();
            if fault == Some(Fault::Lost) {
                return;
            }
            let after = after.map(|after| format!("Retry-After: {after}\r\n")).unwrap_or_default();
            let answer = answer.to_string();
            let head = format!("HTTP/1.1 {status} Status\r\n{after}Content-Length: {}\r\n\r\n", answer.len());
            if stream.write_all(format!("{head}{answer}").as_bytes()).is_err() {
                return;
            }
        }
    }

    /// Notes a request, and waits if it is to hang.
    fn arrive(&self, request: &Request) -> Option<Fault> {
        let mut run = self.run.0.lock().unwrap();
        run.requests.push(request.path.clone());
        let due = run.faults.front().is_some_and(|(part, _)| request.path.contains(part));
        let fault = if due { run.faults.pop_front().map(|(_, fault)| fault) } else { None };
        if fault == Some(Fault::Hang) {
            run.held += 1;
            self.run.1.notify_all();
            run = self.run.1.wait_while(run, |run| !run.released).unwrap();
            run.held -= 1;
        }
        let expected = (!request.path.starts_with("/storage/")).then_some(AUTHORIZATION);
        if request.authorization.as_deref() != expected {
            run.wrong.push(format!("{} with {:?}", request.path, request.authorization));
        }
        fault
    }

    fn answer(&self, request: &Request) -> Value {
        let mut run = self.run.0.lock().unwrap();
        if let Some(name) = request.path.strip_prefix("/storage/") {
            run.files.insert(name.into(), request.body.clone());
            return json!({});
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        if request.path == "/graphql" {
            return json!({ "data": self.query(&mut run, &body["query"], &body["variables"]) });
        }
        if !request.path.starts_with("/files/team/") || !request.path.ends_with("/file_stream") {
            run.wrong.push(format!("a request to {}", request.path));
        }
        run.stream(&body);
        json!({ "limits": {} })
    }

    fn query(&self, run: &mut Run, query: &Value, variables: &Value) -> Value {
        let query = query.as_str().unwrap();
        if query.contains("upsertBucket") {
            run.config = variables["config"].as_str().unwrap_or_default().into();
            // A change need not repeat it.
            if variables["displayName"].is_string() {
                run.name = variables["displayName"].clone();
            }
            let project = json!({ "id": "2", "name": variables["project"], "entity": { "id": "3", "name": "team" } });
            let bucket = json!({ "id": "1", "name": variables["name"], "displayName": run.name, "config": "{}",
                "sweepName": null, "project": project, "historyLineCount": 0 });
            json!({ "upsertBucket": { "bucket": bucket, "inserted": true } })
        } else if query.contains("createRunFiles") {
            let address = |name: &Value| format!("{}/storage/{}", self.address, name.as_str().unwrap());
            let files = variables["files"].as_array().unwrap().iter();
            let files: Vec<_> = files.map(|name| json!({ "name": name, "uploadUrl": address(name) })).collect();
            json!({ "createRunFiles": { "runID": "1", "uploadHeaders": ["X-Storage:yes"], "files": files } })
        } else {
            json!({ "viewer": { "id": "1", "entity": "team", "username": "me", "flags": "{}", "teams": { "edges": [] } } })
        }
    }
}

impl Run {
    /// The rows in their order.
    pub(super) fn rows(&self) -> Vec<&str> {
        self.history.values().map(String::as_str).collect()
    }

    fn stream(&mut self, body: &Value) {
        self.beats += usize::from(*body == json!({}));
        let part = |name: &str| {
            let part = &body["files"][name];
            let content: Vec<String> = serde_json::from_value(part["content"].clone()).unwrap_or_default();
            (part["offset"].as_u64().unwrap_or_default(), content)
        };
        let (first, rows) = part("wandb-history.jsonl");
        if !rows.is_empty() {
            self.pieces.push((first, rows.len() as u64));
            if first > self.history.len() as u64 {
                self.wrong.push(format!("row {first} after {}", self.history.len()));
            }
        }
        self.history.extend((first..).zip(rows));
        if let Some(summary) = part("wandb-summary.json").1.pop() {
            self.summary = summary;
        }
        self.uploaded.extend(serde_json::from_value::<Vec<String>>(body["uploaded"].clone()).unwrap_or_default());
        if body["complete"] == true {
            self.exit = body["exitcode"].as_u64();
        }
    }
}

struct Request {
    path: String,
    authorization: Option<String>,
    body: Vec<u8>,
}

impl Request {
    fn read(reader: &mut impl BufRead) -> Option<Self> {
        let mut line = || {
            let mut line = String::new();
            (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_string())
        };
        let path = line()?.split(' ').nth(1)?.into();
        let (mut authorization, mut length) = (None, 0);
        loop {
            let header = line()?;
            let Some((name, value)) = header.split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => authorization = Some(value.trim().into()),
                "content-length" => length = value.trim().parse().ok()?,
                "transfer-encoding" => panic!("the length is known"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Self { path, authorization, body })
    }
}
