//! `cargo xtask serve`, and commands that compute on machines that serve.

use std::process::ExitCode;

use clap::Args;

use crate::arguments::DevicesArgument;
use crate::terminal::Result;

#[derive(Args)]
#[cfg_attr(not(feature = "remote"), allow(dead_code, reason = "read where it is built in"))]
pub(crate) struct Serve {
    #[arg(
        long,
        value_name = "HOST:PORT",
        help = "Listen here, for those who know the secret that is in MIXFLOW_SECRET: 127.0.0.1:7000 is for programs of this \
                machine, and for others through ssh -L"
    )]
    address: String,
    /// Listen where other machines can reach it. Nothing is encrypted: who reads the traffic sees secret, data and weights, and
    /// with the secret has the use of the devices. For networks whose every member may, such as a VPN of one's own
    #[arg(long)]
    unencrypted: bool,
    #[command(flatten)]
    device: DevicesArgument,
}

#[cfg(not(feature = "remote"))]
impl Serve {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let command = "cargo xtask-remote serve, or add the feature xtask/remote to that of a GPU";
        Err(format!("this program was built without it: {command}").into())
    }
}

#[cfg(feature = "remote")]
impl Serve {
    pub(crate) fn run(self) -> Result<ExitCode> {
        use std::net::{TcpListener, ToSocketAddrs};

        use mixflow::device;

        use crate::terminal::print;

        let devices = self.device.find()?;
        let fault = |error| format!("--address {}: {error}", self.address);
        let places: Vec<_> = self.address.to_socket_addrs().map_err(fault)?.collect();
        if !self.unencrypted && !places.iter().all(|place| place.ip().is_loopback()) {
            let reason = "other machines can reach it, and nothing is encrypted: where that may be, add --unencrypted";
            return Err(format!("--address {}: {reason}", self.address).into());
        }
        let listener = TcpListener::bind(&places[..]).map_err(fault)?;
        let names: Vec<String> = devices.iter().map(device::describe).collect();
        print(format_args!("serving at {}: {}", listener.local_addr()?, names.join("; ")))?;
        device::remote::serve(listener, devices)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What a command comes to; one that computes on a machine which falls silent is given up.
#[cfg(feature = "remote")]
pub(crate) fn watched(command: impl FnOnce() -> Result<ExitCode> + Send + 'static) -> Result<ExitCode> {
    // Errors need not go from one thread to another.
    let command = || command().map_err(|error| crate::terminal::sentence(&*error));
    Ok(mixflow::device::remote::watched(command)??)
}

#[cfg(not(feature = "remote"))]
pub(crate) fn watched(command: impl FnOnce() -> Result<ExitCode>) -> Result<ExitCode> {
    command()
}
