//! `cargo xtask selftest`: whether a device computes as the CPU does.

use std::env::consts::{ARCH, OS};
use std::process::ExitCode;

use clap::Args;
use mixflow::backbones::Precision;
use mixflow::selftest::{self, Finding, Verdict, brief};
use mixflow::{Device, device};

use crate::arguments::DeviceArgument;
use crate::terminal::{Result, note, print, program};
use crate::text;

#[derive(Args)]
pub(crate) struct Selftest {
    /// Compare the arithmetic and the networks alone whose names begin so, such as mmdit [default: all]
    #[arg(value_name = "NETWORK")]
    network: Option<String>,
    #[command(flatten)]
    device: DeviceArgument,
}

impl Selftest {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let device = &self.device.find()?;
        print(format_args!("mixflow {}, {OS} {ARCH}", env!("CARGO_PKG_VERSION")))?;
        print(format_args!("{}, against the CPU\n", device::describe(device)))?;
        print(row(["network", "what", "difference", "allowed", "verdict", "where"]))?;
        let mut findings = vec![];
        let mut report = |finding: Finding| {
            let [difference, allowed] = [finding.difference, finding.allowed].map(|number| format!("{number:.1e}"));
            let place = if finding.verdict == Verdict::Agrees { "" } else { &finding.place };
            let verdict = word(finding.verdict);
            // Who closes the pipe still gets the exit code.
            let _ = print(row([&finding.subject, finding.what, &difference, &allowed, verdict, place]));
            findings.push(finding);
        };
        let mut test = selftest::Selftest::new(device, &mut report);
        if let Some(network) = &self.network {
            test = test.only(network);
        }
        test.operations();
        test.networks();
        text::selftest(&mut test);
        let known = |finding: &Finding| finding.subject != "device";
        if let Some(network) = self.network.filter(|_| !findings.iter().any(known)) {
            return Err(format!(
                "{network}: expected the beginning of a network's name, as they are listed without one"
            )
            .into());
        }

        let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
        let (failed, rounded) = (count(Verdict::Fails), count(Verdict::Tf32));
        print(format_args!("\n{} of {} agree", count(Verdict::Agrees), findings.len()))?;
        if !Precision::Bf16.is_supported(device) {
            print("this device does not multiply in bf16")?;
        }
        if rounded > 0 {
            print(format_args!("{rounded} differ as TF32 does: this device multiplies f32 with 11 bits, not 24"))?;
        }
        if failed > 0 {
            let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
            return Err(format!(
                "{failed} of {} fail: please report all of the above, what `{} {command}` said on the way, and the version of \
                 the driver at {}/issues",
                findings.len(),
                program(),
                env!("CARGO_PKG_REPOSITORY")
            )
            .into());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Warns before a training on devices that do not compute as the CPU does; a moment on each that is not the CPU.
pub(crate) fn warn(devices: &[Device]) {
    for device in devices {
        let findings = brief(device);
        for Finding { subject, what, difference, place, .. } in
            findings.iter().filter(|finding| finding.verdict == Verdict::Fails)
        {
            note(format_args!(
                "warning: {}: {what} of {subject} differ from the CPU's by {difference:.1e} ({place}); `{} selftest` tells more",
                device::describe(device),
                program()
            ));
        }
        if findings.iter().any(|finding| finding.verdict == Verdict::Tf32) {
            note(format_args!("{} multiplies f32 with 11 bits (TF32)", device::describe(device)));
        }
    }
}

fn row([network, what, difference, allowed, verdict, place]: [&str; 6]) -> String {
    let line = format!("{network:<28} {what:<25} {difference:>10} {allowed:>9}  {verdict:<7} {place}");
    line.trim_end().into()
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Agrees => "agrees",
        Verdict::Tf32 => "TF32?",
        Verdict::Fails => "FAILS",
    }
}
