//! `cargo xtask bench --suite gpu`: published networks, as they are trained and sampled on a GPU.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mixflow::Device;
use mixflow::backbones::dit_dh::DitDhConfig;
use mixflow::backbones::repa::RepaConfig;
use mixflow::backbones::sit::SitConfig;
use mixflow::backbones::{Backbone, ClassLabels, NetworkConfig, Precision};
use mixflow::device::describe;
use mixflow::plan::Machine;
use mixflow::schedules::MixFlow;

use crate::bench_case::{Measured, images, sample, train_in};
use crate::terminal::{Result, note, print};
use crate::text;

/// The networks, those that matter most first: at 256 px, unless their names say 512. Each is a case with `-train` and one with
/// `-sample` behind its name.
pub(crate) const NETWORKS: [&str; 11] = [
    "sit-xl-256",
    "dit-dh-xl-256",
    "repa-xl-256",
    "sd3.5-medium-512",
    "sit-xl-512",
    "sit-l-256",
    "sit-b-256",
    "sit-s-256",
    "sit-l-512",
    "sit-b-512",
    "sit-s-512",
];

/// What a case is measured with.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    /// Of matrix products.
    pub(crate) precision: Precision,
    /// Images at a time, where they are not as many as fit a card of 80 GB.
    pub(crate) batch: Option<usize>,
    /// At least two.
    pub(crate) steps: usize,
}

/// The names of all cases.
pub(crate) fn cases() -> impl Iterator<Item = String> {
    NETWORKS.iter().flat_map(|network| ["train", "sample"].map(|mode| format!("{network}-{mode}")))
}

/// Images of a batch: as many as fit a card of 80 GB in training, in `bf16`.
fn batch(network: &str) -> usize {
    match network {
        "sit-s-256" | "sit-b-256" => 256,
        "sit-l-256" | "sit-xl-256" | "sit-s-512" => 128,
        "sd3.5-medium-512" => 8,
        "sit-l-512" | "sit-xl-512" => 32,
        _ => 64,
    }
}

/// Measures one of [`cases`]. A quarter of the steps, in which a GPU still chooses its kernels, is not counted.
pub(crate) fn measure(case: &str, setting: Setting, device: &Device) -> Result<Measured> {
    let (network, mode) = case.rsplit_once('-').ok_or("expected a network and train or sample")?;
    let Setting { precision, steps, .. } = setting;
    let batch = setting.batch.unwrap_or_else(|| batch(network));
    let training = mode == "train";
    let (times, multiply_adds) = match network {
        "sd3.5-medium-512" => text::bench(training, batch, steps, precision, device)?,
        _ => {
            let config = config(network);
            if training {
                let times = train_in(precision, &config, batch, steps, MixFlow::new(0.8), device, |_| {});
                (times, config.training_multiply_adds())
            } else {
                let condition = ClassLabels::new(&vec![1; batch], config.classes(), device);
                let network = config.init(0, device).in_precision(precision).ok_or("expected a precision it knows")?;
                (sample(&network, &images(config.shape(), batch, device), &condition, steps), config.multiply_adds())
            }
        }
    };
    let passes = if training { 3.0 } else { 1.0 };
    Ok(Measured::new(case, &times[(steps / 4).max(1)..], batch, passes * multiply_adds as f64))
}

fn config(network: &str) -> NetworkConfig {
    let large = |config: SitConfig| SitConfig { input_size: 64, ..config };
    match network {
        "sit-s-256" => NetworkConfig::Sit(SitConfig::small(2)),
        "sit-b-256" => NetworkConfig::Sit(SitConfig::base(2)),
        "sit-l-256" => NetworkConfig::Sit(SitConfig::large(2)),
        "sit-s-512" => NetworkConfig::Sit(large(SitConfig::small(2))),
        "sit-b-512" => NetworkConfig::Sit(large(SitConfig::base(2))),
        "sit-l-512" => NetworkConfig::Sit(large(SitConfig::large(2))),
        "sit-xl-512" => NetworkConfig::Sit(large(SitConfig::extra_large(2))),
        "dit-dh-xl-256" => NetworkConfig::DitDh(DitDhConfig::extra_large()),
        "repa-xl-256" => NetworkConfig::Repa(RepaConfig::extra_large(2)),
        _ => NetworkConfig::Sit(SitConfig::extra_large(2)),
    }
}

/// Runs all cases, each in a process of its own, and prints a table; none is begun after so many minutes.
pub(crate) fn run(setting: Setting, device: &Device, name: Option<&str>, minutes: u64) -> Result<()> {
    let (started, described) = (Instant::now(), describe(device));
    let machine = Machine::of_card(&described);
    let Setting { precision, steps, .. } = setting;
    print(format_args!(
        "{described}; products in {precision}, MixFlow, medians of {} steps\n",
        steps - (steps / 4).max(1)
    ))?;
    print("| case | batch | ms a step | images/s | TFLOP/s | of the peak | memory |")?;
    print("|---|---|---|---|---|---|---|")?;
    for case in cases() {
        if started.elapsed() > Duration::from_secs(60 * minutes) {
            note(format_args!("{minutes} minutes are over (--minutes): {case} and what follows were left out"));
            break;
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "--case", &case, "--steps", &steps.to_string()]);
        command.args(["--precision", &precision.to_string()]);
        command.args(name.iter().flat_map(|name| ["--device", name]));
        command.args(setting.batch.iter().flat_map(|batch| ["--batch".to_string(), batch.to_string()]));
        let before = card_memory(name).unwrap_or(0);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (output, memory) = watched(child, name)?;
        let Ok(m) = serde_json::from_slice::<Measured>(&output.stdout) else {
            let told = String::from_utf8_lossy(&output.stderr);
            let last = told.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            print(format_args!("| {case} | failed: {} |", mixflow::printable(last)))?;
            continue;
        };
        let speed = m.operations / m.seconds;
        let peak =
            machine.as_ref().map_or("-".into(), |machine| format!("{:.0} %", 100.0 * speed / machine.peak(precision)));
        let memory = memory.map_or("-".into(), |bytes| format!("{:.1} GB", bytes.saturating_sub(before) as f64 / 1e9));
        print(format_args!(
            "| {case} | {} | {:.1} | {:.1} | {:.1} | {peak} | {memory} |",
            m.batch,
            1e3 * m.seconds,
            m.batch as f64 / m.seconds,
            speed / 1e12,
        ))?;
    }
    Ok(())
}

/// What a process printed, and the most memory of the card that was in use meanwhile.
fn watched(child: Child, device: Option<&str>) -> Result<(std::process::Output, Option<u64>)> {
    let waiting = thread::spawn(move || child.wait_with_output());
    let mut most = None;
    while !waiting.is_finished() {
        most = most.max(card_memory(device));
        thread::sleep(Duration::from_millis(200));
    }
    let output = waiting.join().map_err(|_| "waiting for a case failed")??;
    Ok((output, most))
}

/// Bytes in use of the NVIDIA card that a device is; none where that is none.
fn card_memory(device: Option<&str>) -> Option<u64> {
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let id = format!("--id={}", card_id(device.unwrap_or("cuda"), visible.as_deref())?);
    let query = ["--query-gpu=memory.used", "--format=csv,noheader,nounits", &id];
    let output = Command::new("nvidia-smi").args(query).output().ok()?;
    let mebibytes: u64 = String::from_utf8(output.stdout).ok()?.trim().parse().ok()?;
    Some(mebibytes << 20)
}

/// What `nvidia-smi` calls a device `cuda` or `cuda:1` of those that are `visible`, by number or by identity.
fn card_id(device: &str, visible: Option<&str>) -> Option<String> {
    let place = device.to_lowercase().strip_prefix("cuda")?.trim_start_matches(':').to_owned();
    let place: usize = if place.is_empty() { 0 } else { place.parse().ok()? };
    match visible.filter(|list| !list.trim().is_empty()) {
        Some(list) => Some(list.split(',').nth(place)?.trim().into()),
        None => Some(place.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::card_id;

    #[test]
    fn a_card_is_found_among_those_that_are_visible() {
        let found = |device, visible| card_id(device, visible);
        assert_eq!(found("cuda", None).as_deref(), Some("0"));
        assert_eq!(found("CUDA:1", Some("")).as_deref(), Some("1"));
        assert_eq!(found("cuda:1", Some("3, 5")).as_deref(), Some("5"));
        assert_eq!(found("cuda:0", Some("GPU-8f2a")).as_deref(), Some("GPU-8f2a"));
        assert_eq!((found("cuda:2", Some("3,5")), found("vulkan", None), found("flex", None)), (None, None, None));
    }
}
