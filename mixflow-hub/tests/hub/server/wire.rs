//! Requests and answers, and what the faults make of them.

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::thread;

use serde_json::Value;

use super::Failing;

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// What it carries.
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn token(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What goes over the wire.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![], body: body.into() }
    }

    pub(super) fn json(value: &Value) -> Self {
        Self::new(200, value.to_string()).header("Content-Type", "application/json")
    }

    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::new(status, message).header("X-Error-Code", code).header("X-Error-Message", message)
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(found, _)| *found != name);
        self.headers.push((name, value.into()));
        self
    }
}

/// A request without what it carries.
pub(super) fn read_head(lines: &mut impl BufRead) -> Option<Request> {
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
    Some(Request { method, path, headers, body: vec![] })
}

/// What a request carries, as far as the faults let it come; none if the line breaks.
pub(super) fn read_body(lines: &mut impl BufRead, request: &mut Request, faults: &[Failing]) -> Option<()> {
    let length: usize = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    if request.method != "PUT" && request.method != "POST" {
        return Some(());
    }
    let (mut end, mut half) = (length, length);
    for fault in faults {
        match fault {
            Failing::Cut(bytes) => end = end.min(*bytes),
            Failing::Stall(_) => half = length / 2,
            _ => {}
        }
    }
    let half = half.min(end);
    lines.take(half as u64).read_to_end(&mut request.body).ok()?;
    for fault in faults {
        if let Failing::Stall(time) = fault {
            thread::sleep(*time);
        }
    }
    lines.take((end - half) as u64).read_to_end(&mut request.body).ok()?;
    if faults.iter().any(|fault| matches!(fault, Failing::Corrupt)) {
        request.body.iter_mut().skip(3).take(1).for_each(|byte| *byte ^= 1);
    }
    (request.body.len() == length).then_some(())
}

/// Sends the answer, or what the faults make of it; none if the line is to break.
pub(super) fn respond(mut stream: &TcpStream, request: &Request, mut answer: Answer, faults: &[Failing]) -> Option<()> {
    let (mut cut, mut stall, mut drip, mut whole) = (None, None, None, false);
    let carries = !request.body.is_empty();
    for fault in faults {
        match fault.clone() {
            Failing::Cut(_) | Failing::Corrupt | Failing::Stall(_) if carries => {}
            Failing::Lost | Failing::Another(..) | Failing::Together(_) => {}
            Failing::Cut(bytes) => cut = Some(bytes),
            Failing::Corrupt => answer.body.iter_mut().skip(3).take(1).for_each(|byte| *byte ^= 1),
            Failing::Answer(status, headers, body) => answer = Answer { headers, ..Answer::new(status, body) },
            Failing::Slow(time) => thread::sleep(time),
            Failing::Stall(time) => stall = Some(time),
            Failing::Drip(bytes, time) => drip = Some((bytes, time)),
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
    let range = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let range = range.and_then(|(from, last)| {
        let end = if last.is_empty() { size } else { last.parse::<usize>().ok()?.saturating_add(1).min(size) };
        Some((from.parse::<usize>().ok()?, end))
    });
    match range {
        Some((from, _)) if from >= size => {
            answer = Answer::new(416, "").header("Content-Range", format!("bytes */{size}"));
        }
        Some((from, end)) => {
            answer.status = 206;
            answer.body.truncate(end);
            answer.body.drain(..from);
            answer = answer.header("Content-Range", format!("bytes {from}-{}/{size}", end - 1));
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
    if let Some((bytes, time)) = drip {
        for part in answer.body[..end].chunks(bytes) {
            stream.write_all(part).ok()?;
            thread::sleep(time);
        }
        return cut.is_none().then_some(());
    }
    let half = if stall.is_some() { end / 2 } else { end };
    stream.write_all(&answer.body[..half]).ok()?;
    if let Some(time) = stall {
        thread::sleep(time);
        stream.write_all(&answer.body[half..end]).ok()?;
    }
    (cut.is_none()).then_some(())
}
