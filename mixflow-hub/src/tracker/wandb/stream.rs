//! What the thread does that streams a run.
//!
//! # Source
//! The pace and the shape of requests are those of the official client, wandb 0.31, `core/internal/filestream` of its
//! repository at commit b6e2950. Rows are numbered, so that one that is sent again takes its own place.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::WandbServer;
use super::api::Place;
use super::pending::{Batch, Pending};
use super::shared::{Shared, View};
use super::wire::{Refusal, Wire};

/// Longest time between attempts when a run has ended: it waits, as long as [`WandbServer::closing`] says.
const AT_THE_END: Duration = Duration::from_secs(5);

/// Sends what the log holds, until the run has ended and all is sent, or there is no use in trying.
pub(super) fn stream(shared: &Shared, server: WandbServer) {
    let (interval, heartbeat) = (server.interval, server.heartbeat);
    let wire = Wire::new(server);
    let mut stream = Stream { shared, wire, read: None, place: None, uploaded: vec![], spoke: Instant::now() };
    let (mut failures, mut warned) = (0, false);
    while let Some(view) = shared.view() {
        match stream.round(&view) {
            Ok(Round::Idle) if view.closing => return,
            Ok(round) => {
                failures = 0;
                match round {
                    Round::Idle => shared.wait(&view, stream.spoke + heartbeat),
                    // What comes meanwhile is sent together.
                    Round::Sent { more: false } => shared.pause(interval),
                    Round::Sent { more: true } => {}
                }
            }
            Err(refusal) if !refusal.transient => {
                let advice = format!("nothing more is sent: `wandb sync {}` sends it later", shared.folder());
                return shared.refuse(format!("{}; {advice}", refusal.reason));
            }
            Err(refusal) => {
                failures += 1;
                if !warned {
                    let folder = shared.folder();
                    shared.warn(format!("{}; what is to be sent waits in {folder}", refusal.reason));
                    warned = true;
                }
                let wait = stream.wire.server().patience.wait(failures);
                let wait = if view.closing { wait.min(AT_THE_END) } else { wait };
                match refusal.after.filter(|asked| *asked > wait) {
                    // Who has never answered is not waited for at the end.
                    _ if view.closing && failures > 1 && stream.place.is_none() => return,
                    Some(asked) => shared.sleep(asked),
                    None if view.closing => shared.sleep(wait),
                    None => shared.pause(wait),
                }
            }
        }
    }
}

/// What one round of streaming did.
enum Round {
    /// There is nothing to send, or was but a sign of life.
    Idle,
    /// It sent a part of the log.
    Sent {
        /// Whether the next part waits already.
        more: bool,
    },
}

struct Stream<'a> {
    shared: &'a Shared,
    wire: Wire,
    read: Option<Read>,
    place: Option<Place>,
    /// Files that are uploaded, which the server does not know yet.
    uploaded: Vec<String>,
    /// When the server was last told something.
    spoke: Instant,
}

/// How far the log is read.
struct Read {
    /// How often the log was cut before it was read.
    cuts: u64,
    pending: Pending,
    /// The batch that is sent next.
    batch: Option<Batch>,
}

impl Stream<'_> {
    /// Sends a part of the log, or a sign of life where one is due.
    fn round(&mut self, view: &View) -> Result<Round, Refusal> {
        if view.stable == 0 {
            self.live()?;
            return Ok(Round::Idle);
        }
        let mut read = match self.read.take() {
            Some(read) if read.cuts == view.cuts => read,
            _ => {
                let pending = Pending::open(self.shared.log(), view.sent.end.min(view.stable));
                Read { cuts: view.cuts, pending: pending.map_err(|error| self.unreadable(&error))?, batch: None }
            }
        };
        if read.batch.is_none() {
            read.batch = read.pending.next(view.stable).map_err(|error| self.unreadable(&error))?;
        }
        let Some(batch) = &mut read.batch else {
            self.read = Some(read);
            self.live()?;
            return Ok(Round::Idle);
        };
        let more = batch.end < view.stable;
        match self.send(view, &read.pending, batch) {
            // The log is read from its begin.
            Ok(false) => return Ok(Round::Sent { more: true }),
            Ok(true) => self.read = Some(Read { batch: None, ..read }),
            Err(refusal) => {
                self.read = Some(read);
                return Err(refusal);
            }
        }
        Ok(Round::Sent { more })
    }

    /// Sends a batch; false if all before it has to be sent too, to a place that has nothing of it.
    fn send(&mut self, view: &View, pending: &Pending, batch: &mut Batch) -> Result<bool, Refusal> {
        let place = match &self.place {
            Some(place) if !batch.config => place,
            _ => {
                let unnamed = || Refusal::permanent("the log of the run does not say what it is called".into());
                let (id, run) = pending.run.as_ref().ok_or_else(unnamed)?;
                self.place.insert(self.wire.upsert(id, run, &pending.config())?)
            }
        };
        batch.config = false;
        let to = place.stream.to_string();
        if view.sent.end > 0 && view.sent.to != to {
            self.shared.acknowledge(view, &to, 0);
            return Ok(false);
        }
        self.upload(batch)?;
        let place = self.place.as_ref().expect("it was found above");
        if let Some(body) = body(pending, batch, &self.uploaded) {
            self.wire.post(&place.stream, &body)?;
            self.spoke = Instant::now();
        }
        self.uploaded.clear();
        self.shared.acknowledge(view, &to, batch.end);
        if batch.exit.is_some() {
            self.shared.complete(view);
        }
        Ok(true)
    }

    /// Uploads the files of a batch.
    fn upload(&mut self, batch: &mut Batch) -> Result<(), Refusal> {
        let Some(place) = self.place.as_ref().filter(|_| !batch.files.is_empty()) else { return Ok(()) };
        let uploads = self.wire.uploads(place, &batch.files)?;
        while let Some(name) = batch.files.first() {
            let path = self.shared.log().with_file_name("files").join(name);
            match (uploads.address(name), fs::read(&path)) {
                (Some(address), Ok(file)) => {
                    self.wire.put(address, &uploads.headers, &file)?;
                    self.uploaded.push(name.clone());
                }
                (None, _) => {
                    let server = &self.wire.server().address;
                    return Err(Refusal::permanent(format!("{server} does not say where files can be put")));
                }
                (_, Err(error)) => self.shared.warn(format!("cannot send {}: {error}", path.display())),
            }
            batch.files.remove(0);
        }
        Ok(())
    }

    /// Tells the server that the run lives, if it has heard nothing for a while: one that is silent counts as crashed.
    fn live(&mut self) -> Result<(), Refusal> {
        if self.spoke.elapsed() >= self.wire.server().heartbeat {
            if let Some(place) = &self.place {
                self.wire.post(&place.stream, &json!({}))?;
            }
            self.spoke = Instant::now();
        }
        Ok(())
    }

    fn unreadable(&self, error: &io::Error) -> Refusal {
        Refusal::permanent(format!("cannot read {}: {error}", self.shared.log().display()))
    }
}

/// What a request tells of a batch, if anything.
fn body(pending: &Pending, batch: &Batch, uploaded: &[String]) -> Option<Value> {
    let (mut files, mut body) = (Map::new(), Map::new());
    if !batch.rows.is_empty() {
        files.insert("wandb-history.jsonl".into(), json!({ "offset": batch.first, "content": batch.rows }));
    }
    if batch.summary {
        files.insert("wandb-summary.json".into(), json!({ "offset": 0, "content": [pending.summary()] }));
    }
    if !files.is_empty() {
        body.insert("files".into(), files.into());
    }
    if !uploaded.is_empty() {
        body.insert("uploaded".into(), uploaded.into());
    }
    if let Some(code) = batch.exit {
        body.insert("complete".into(), true.into());
        body.insert("exitcode".into(), code.into());
    }
    (!body.is_empty()).then(|| body.into())
}
