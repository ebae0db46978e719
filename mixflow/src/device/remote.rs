//! Devices of other machines: what [`serve`] serves there is `remote:host:port` here.
//!
//! Operations go to a machine, and what is read comes back, over one connection a device; tensors that move between machines
//! go from one to the other. All of it is Burn's protocol over web sockets: nothing is encrypted, and a machine lets in whoever
//! knows its secret, which both sides take from the variable `MIXFLOW_SECRET`.
//!
//! A machine that ends is noticed at once by what waits for it. Not so one that falls silent, because it hangs or the network
//! between is gone, and one on which a computation fails while another waits for its part: these [`watched`] notices.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::panic::{catch_unwind, resume_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use burn::remote::{ConnectError, RemoteHost};
use burn::server::{RemoteServer, TokenAuthorizer, WebSocketTransport};
use burn::tensor::{Device, Tensor};

use crate::Error;

/// The variable with the secret of machines that serve.
const SECRET: &str = "MIXFLOW_SECRET";

/// How often a connection is tried.
const BEAT: Duration = Duration::from_secs(1);

/// How long a machine has to answer when it is asked whether it is there.
const ANSWER: Duration = Duration::from_secs(5);

/// After how long without an answer a machine is given up.
const SILENCE: Duration = Duration::from_secs(30);

/// How long the work has to notice by itself that a connection ended.
const GRACE: Duration = Duration::from_secs(10);

/// A device of another machine that this process is connected to.
struct Connected {
    device: Device,
    address: String,
    /// From 0, among those that the machine serves.
    number: usize,
    /// When the connection had ended.
    ended: Option<Instant>,
}

/// All of them, as Burn keeps their connections: for the whole process.
fn connected() -> MutexGuard<'static, Vec<Connected>> {
    static CONNECTED: Mutex<Vec<Connected>> = Mutex::new(vec![]);
    CONNECTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves devices, all of one kind, to whoever knows the secret, until the process is asked to end. A client that is gone takes
/// its tensors with it, but for those that another machine was still to fetch. Nothing is encrypted, and who reaches the address
/// can keep the machine busy without the secret: the caller chooses the address with that in mind.
///
/// # Errors
/// [`Error::Device`] without a secret, and where the system refuses.
pub fn serve(listener: TcpListener, devices: Vec<Device>) -> Result<(), Error> {
    let address = listener.local_addr().map_or_else(|_| "an address".into(), |address| address.to_string());
    let fault = |reason: String| Error::Device { name: address.clone(), reason };
    let secret = TokenAuthorizer::new(secret().map_err(fault)?).map_err(|error| fault(error.to_string()))?;
    let server = RemoteServer::new(devices).with_authorizer(secret);
    server.serve(WebSocketTransport::from_listener(listener)).map_err(|error| fault(error.to_string()))
}

fn secret() -> Result<String, String> {
    env::var(SECRET).ok().filter(|secret| secret.len() >= 16).ok_or_else(|| {
        format!("expected a secret of 16 letters or more in {SECRET}, the same on all machines: `openssl rand -hex 16` makes one")
    })
}

/// The devices that a machine serves at `host:port`, which are connected.
pub(super) fn at(address: &str) -> Result<Vec<Device>, String> {
    if address.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        return Err("expected host:port, as in remote:10.0.0.2:7000".into());
    }
    ask(address).map_err(|error| format!("no machine serves there ({error}): start `serve --address` on it"))?;
    let host = RemoteHost::websocket(&format!("ws://{address}")).with_credential(secret()?);
    let refused = |error| match error {
        ConnectError::Unauthorized => format!("the machine has another secret than {SECRET} here"),
        error => error.to_string(),
    };
    let count = host.devices().map_err(refused)?.len();
    let connect = |number| Device::remote_options(&host).device_index(number).init().map_err(refused);
    let devices: Vec<Device> = (0..count).map(connect).collect::<Result<_, _>>()?;
    let mut connected = connected();
    for (number, device) in devices.iter().enumerate() {
        if connected.iter().all(|known| known.device != *device) {
            connected.push(Connected { device: device.clone(), address: address.into(), number, ended: None });
            thread::spawn({
                let device = device.clone();
                move || attend(&device)
            });
        }
    }
    Ok(devices)
}

/// Notes when the connection of a device ends: Burn tells it to nobody but those who read from the device.
fn attend(device: &Device) {
    let answers = || Tensor::<1>::from_data([0.0f32], device).try_into_data().is_ok();
    while catch_unwind(answers).unwrap_or(false) {
        thread::sleep(BEAT);
    }
    connected().iter_mut().filter(|known| known.device == *device).for_each(|known| known.ended = Some(Instant::now()));
}

/// The devices of machines with commas between them, `host:port,remote:host:port`.
pub(super) fn several(addresses: &str) -> Result<Vec<Device>, String> {
    let mut found: Vec<(&str, Vec<Device>)> = vec![];
    for address in addresses.split(',').map(str::trim) {
        let address = address.strip_prefix("remote:").unwrap_or(address);
        if found.iter().any(|(known, _)| *known == address) {
            return Err(format!("{address} is named twice"));
        }
        let devices = at(address)
            .map_err(|reason| if addresses.contains(',') { format!("{address}: {reason}") } else { reason })?;
        found.push((address, devices));
    }
    check_pairs(&found)?;
    Ok(found.into_iter().flat_map(|(_, devices)| devices).collect())
}

/// Moves a number from each machine to each other one. They fetch from each other at the addresses that are used here, and one
/// that waits since an earlier training for a machine that was gone waits for ever.
fn check_pairs(machines: &[(&str, Vec<Device>)]) -> Result<(), String> {
    let firsts: Vec<_> = machines.iter().filter_map(|(address, devices)| Some((*address, devices.first()?))).collect();
    for (from, source) in &firsts {
        for (to, target) in firsts.iter().filter(|(to, _)| to != from) {
            let (sender, moved) = channel();
            let (source, target) = ((*source).clone(), (*target).clone());
            thread::spawn(move || {
                let number = Tensor::<1>::from_data([1.0f32], &source).to_device(&target).try_into_data();
                // Nobody waits for one that comes late.
                let _ = sender.send(number.is_ok());
            });
            if moved.recv_timeout(2 * ANSWER) != Ok(true) {
                return Err(format!(
                    "{to} fetches nothing from {from}: it must reach it at this address; else start `serve` on both anew"
                ));
            }
        }
    }
    Ok(())
}

/// What is known of a machine that lives on.
const ENDED: &str = "its machine ended the connection, and wrote why where `serve` runs";

/// What a device of another machine is called.
pub(super) fn name(device: &Device) -> Option<String> {
    find(device, Connected::name)
}

/// Which of these devices of other machines failed, if that is known, and how: one that is gone takes connections of others
/// with it, which fail for the lack of its part.
pub(super) fn failed(devices: &[Device]) -> Option<(usize, String)> {
    let silent = |device| find(device, |known| known.address.clone()).is_some_and(|address| ask(&address).is_err());
    if let Some(place) = devices.iter().position(silent) {
        return Some((place, "its machine does not answer".into()));
    }
    devices.iter().find_map(|device| find(device, |_| ()))?;
    thread::sleep(2 * BEAT);
    let ended = |device| find(device, |known| known.ended).flatten();
    let ended = devices.iter().enumerate().filter_map(|(place, device)| Some((ended(device)?, place)));
    ended.min().map(|(_, place)| (place, ENDED.into()))
}

fn find<T>(device: &Device, read: impl FnOnce(&Connected) -> T) -> Option<T> {
    connected().iter().find(|known| known.device == *device).map(read)
}

impl Connected {
    fn name(&self) -> String {
        match self.number {
            0 => format!("remote:{}", self.address),
            number => format!("remote:{}, its device {}", self.address, number + 1),
        }
    }
}

/// Does `work`, on a thread of its own, and leaves it to itself once a machine that it is connected to has not answered for
/// 30 seconds, or has ended a connection 10 seconds ago: what waits for that machine could wait for ever. Then the program has
/// to end, for the thread may live on.
///
/// # Errors
/// [`Error::Device`] with the machine; also where the work panics, as Burn does, since a machine is gone.
pub fn watched<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    // What ended before, this work does not wait for.
    connected().retain(|known| known.ended.is_none());
    let (sender, result) = channel();
    // As much stack as a main thread has.
    let thread = thread::Builder::new().stack_size(8 << 20).spawn(move || {
        // Nobody waits once a machine was given up.
        let _ = sender.send(work());
    });
    let thread = thread.map_err(|error| Error::Device { name: "a thread".into(), reason: error.to_string() })?;
    let mut heard: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        match result.recv_timeout(ANSWER) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => {
                    let devices: Vec<_> = connected().iter().map(|connected| connected.device.clone()).collect();
                    let Some((place, reason)) = failed(&devices) else { resume_unwind(panic) };
                    return Err(Error::Device { name: super::name(&devices[place]), reason });
                }
                Ok(()) => unreachable!("work that ends without a panic has a result"),
            },
            Err(RecvTimeoutError::Timeout) => {
                if let Some(name) = lost() {
                    return Err(Error::Device { name, reason: ENDED.into() });
                }
                for (address, answers) in machines() {
                    let last = heard.entry(address.clone()).or_insert_with(Instant::now);
                    if answers {
                        *last = Instant::now();
                    } else if last.elapsed() > SILENCE {
                        let reason = format!("has not answered for {} seconds", SILENCE.as_secs());
                        return Err(Error::Device { name: format!("remote:{address}"), reason });
                    }
                }
            }
        }
    }
}

/// A device whose connection ended long ago.
fn lost() -> Option<String> {
    let long = |known: &&Connected| known.ended.is_some_and(|ended| ended.elapsed() > GRACE);
    connected().iter().find(long).map(Connected::name)
}

/// The machines that are connected, and whether each answers.
fn machines() -> BTreeMap<String, bool> {
    let addresses: BTreeSet<String> = connected().iter().map(|connected| connected.address.clone()).collect();
    thread::scope(|scope| {
        let asked: Vec<_> = addresses.iter().map(|address| scope.spawn(|| ask(address).is_ok())).collect();
        let answers = asked.into_iter().map(|thread| thread.join().unwrap_or(false));
        addresses.iter().cloned().zip(answers).collect()
    })
}

/// Whether a machine serves at an address: any answer in HTTP will do, which a process that hangs does not give.
fn ask(address: &str) -> io::Result<()> {
    let mut fault = io::Error::new(ErrorKind::NotFound, "there is no such host");
    for place in address.to_socket_addrs()? {
        let answer = TcpStream::connect_timeout(&place, ANSWER).and_then(|mut stream| {
            stream.set_read_timeout(Some(ANSWER))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut start = [0; 5];
            stream.read_exact(&mut start)?;
            Ok(start)
        });
        match answer {
            Ok(start) if start == *b"HTTP/" => return Ok(()),
            Ok(_) => fault = io::Error::new(ErrorKind::InvalidData, "another program listens there"),
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
                fault = io::Error::new(ErrorKind::TimedOut, format!("no answer in {} seconds", ANSWER.as_secs()));
            }
            Err(error) => fault = error,
        }
    }
    Err(fault)
}
