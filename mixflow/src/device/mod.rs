//! The device that everything is computed on, chosen once by name and handed down from there.
//!
//! | name | is | feature that it is built with |
//! |---|---|---|
//! | `flex`, `cpu` | the processor, by Burn's backend of that name | none |
//! | `cuda` | NVIDIA's GPUs | `cuda` |
//! | `metal` | Apple's GPUs | `metal` |
//! | `rocm` | AMD's GPUs | `rocm` |
//! | `vulkan` | any GPU, through Vulkan | `vulkan` |
//! | `wgpu` | any GPU, through what the system has | `wgpu`, `metal` or `vulkan` |
//! | `cubecl-cpu` | the processor, by the kernels for GPUs: slow, to test them | `cubecl-cpu` |
//! | `remote:host:port` | what another machine serves there | `remote` |
//!
//! A number takes one of several, `cuda:1` the second; without one it is the first.

#[cfg(feature = "remote")]
pub mod remote;

use std::env;

use burn::module::Module;
use burn::tensor::Device;
use cubecl_environment::stream::{self, StreamPolicy};

use crate::Error;

/// The version of Burn in the workspace's `Cargo.toml`.
const BURN: &str = "0.23.0-pre.1";

/// Burn's variable that names the device of a process.
const VARIABLE: &str = "BURN_DEVICE";

/// What the address of another machine comes after.
const REMOTE: &str = "remote:";

/// Devices of one kind.
struct Kind {
    /// That of the feature that it is built with, too.
    name: &'static str,
    /// What people call one.
    called: &'static str,
    /// Those of this machine, in a build with the feature.
    list: Option<fn() -> Vec<Device>>,
}

const CPU: Kind = Kind { name: "flex", called: "CPU", list: Some(|| vec![Device::flex()]) };

macro_rules! gpus {
    ($name:literal, $called:literal, $burn:ident) => {
        gpus!($name, $called, $burn, $name)
    };
    ($name:literal, $called:literal, $burn:ident, $feature:literal) => {
        Kind {
            name: $name,
            called: $called,
            #[cfg(feature = $feature)]
            list: Some(|| Device::enumerate(burn::tensor::DeviceType::$burn).into_iter().collect()),
            #[cfg(not(feature = $feature))]
            list: None,
        }
    };
}

/// GPUs in the order that [`chosen`] looks for one in, as Burn has it.
const GPUS: [Kind; 5] = [
    gpus!("cuda", "NVIDIA GPU", Cuda, "cuda-unmeasured"),
    gpus!("metal", "Apple GPU", Metal),
    gpus!("rocm", "AMD GPU", Rocm),
    gpus!("vulkan", "GPU with Vulkan", Vulkan),
    gpus!("wgpu", "GPU", Wgpu),
];

/// What is computed on only where it is named.
const PROCESSORS: [Kind; 2] = [CPU, gpus!("cubecl-cpu", "processor", Cpu)];

/// The device of a name, whether in capitals or not; of another machine, the first that it serves.
///
/// # Errors
/// [`Error::Device`] for a name that is none, a device that this build lacks, and one that this machine lacks. Burn itself
/// would panic where it is used.
///
/// ```
/// let device = mixflow::device::named("flex")?;
/// assert!(mixflow::device::named("cuda:99").is_err());
/// # Ok::<(), mixflow::Error>(())
/// ```
pub fn named(name: &str) -> Result<Device, Error> {
    share_streams();
    find(name, &GPUS).map_err(|reason| Error::Device { name: name.into(), reason })
}

/// Devices of names with commas between them: `cuda:0,cuda:1`, shorter `cuda:0,1`, or `cuda:all`; all that machines serve,
/// `remote:host:port,host:port`. The first one leads. A GPU or a machine counts once; the CPU can be named as often as a
/// training is to be shared on it.
///
/// # Errors
/// As [`named`], for a GPU or a machine that is named twice, and for devices of several kinds.
///
/// ```
/// assert_eq!(mixflow::device::several("flex,flex")?.len(), 2);
/// # Ok::<(), mixflow::Error>(())
/// ```
pub fn several(names: &str) -> Result<Vec<Device>, Error> {
    share_streams();
    find_several(names, &GPUS).map_err(|reason| Error::Device { name: names.into(), reason })
}

fn find_several(names: &str, gpus: &[Kind]) -> Result<Vec<Device>, String> {
    if let Some(addresses) = names.to_lowercase().strip_prefix(REMOTE) {
        return remote_devices(addresses);
    }
    let mut whole: Vec<String> = vec![];
    for name in names.to_lowercase().split(',').map(str::trim) {
        let digits = !name.is_empty() && name.bytes().all(|letter| letter.is_ascii_digit());
        let first = whole.first().and_then(|first| first.split_once(':')).map(|(kind, _)| kind.to_owned());
        let (kind, number) = match (&first, name.split_once(':')) {
            (Some(kind), _) if digits => (kind.clone(), name),
            (_, Some((kind, number))) => (kind.to_owned(), number),
            (_, None) => (name.to_owned(), "0"),
        };
        let kind = if kind == "cpu" { CPU.name.to_owned() } else { kind };
        let known = |kind: &str| kind == "remote" || gpus.iter().any(|known| known.name == kind);
        if let Some(first) = first.filter(|first| *first != kind && known(&kind)) {
            return Err(format!("devices of one kind share a batch, found {first} and {kind}"));
        }
        let count = || (0..).take_while(|number| find(&format!("{kind}:{number}"), gpus).is_ok()).count();
        let numbers = match number {
            "all" => (0..count().max(1)).map(|number| number.to_string()).collect(),
            _ => vec![number.to_owned()],
        };
        for number in numbers {
            // One device has one name, whether 0 or 00.
            let number = number.parse::<usize>().map_or(number, |number| number.to_string());
            let name = format!("{kind}:{number}");
            find(&name, gpus)
                .map_err(|reason| if names.contains(',') { format!("{name}: {reason}") } else { reason })?;
            if kind != CPU.name && whole.contains(&name) {
                return Err(format!("{name} is named twice"));
            }
            whole.push(name);
        }
    }
    whole.iter().map(|name| find(name, gpus)).collect()
}

/// The device that the variable `BURN_DEVICE` names; without it the first GPU of a build for GPUs, in every other build the
/// CPU.
///
/// # Errors
/// As [`named`]; a build for GPUs computes on the CPU only if that is asked for.
pub fn chosen() -> Result<Device, Error> {
    share_streams();
    let wanted = env::var(VARIABLE).ok();
    choose(wanted.as_deref(), &GPUS).map_err(|(name, reason)| Error::Device { name, reason })
}

fn choose(wanted: Option<&str>, gpus: &[Kind]) -> Result<Device, (String, String)> {
    if let Some(name) = wanted {
        return find(name, gpus).map_err(|reason| (format!("{VARIABLE}={name}"), reason));
    }
    let built = || gpus.iter().filter(|kind| kind.list.is_some()).map(|kind| kind.name);
    let Some(first) = built().next() else { return Ok(Device::flex()) };
    let found = built().find_map(|name| find(name, gpus).ok());
    found.map_or_else(|| find(first, gpus).map_err(|reason| (first.into(), reason)), Ok)
}

fn find(name: &str, gpus: &[Kind]) -> Result<Device, String> {
    if name.contains(',') {
        return Err("expected one device: it is trainings that several share".into());
    }
    let lower = name.to_lowercase();
    if let Some(address) = lower.strip_prefix(REMOTE) {
        return remote_devices(address)?.into_iter().next().ok_or_else(|| "the machine serves no device".into());
    }
    let (kind, number) = lower.split_once(':').unwrap_or((&lower, "0"));
    let kind = if kind == "cpu" { CPU.name } else { kind };
    let Kind { name, called, list } =
        gpus.iter().chain(&PROCESSORS).find(|known| known.name == kind).ok_or_else(|| {
            let names: Vec<_> = gpus.iter().map(|kind| kind.name).collect();
            format!("expected flex, the CPU, or a GPU: {}, or with a number cuda:1", names.join(", "))
        })?;
    let list = list.ok_or_else(|| not_built(name))?;
    let number: usize =
        number.parse().map_err(|_| format!("expected one whole number behind the colon, as in {name}:0"))?;
    let mut devices = list();
    if number < devices.len() {
        return Ok(devices.swap_remove(number));
    }
    Err(match devices.len() {
        0 => format!("there is no {called}, or its driver is not installed; flex is the CPU"),
        1 => format!("there is one {called} only, {name}:0"),
        count => format!("there are {count}, {name}:0 to {name}:{}", count - 1),
    })
}

#[cfg(feature = "remote")]
fn remote_devices(addresses: &str) -> Result<Vec<Device>, String> {
    remote::several(addresses)
}

#[cfg(not(feature = "remote"))]
fn remote_devices(_: &str) -> Result<Vec<Device>, String> {
    Err(not_built("remote"))
}

fn not_built(feature: &str) -> String {
    format!("this program was built without it: build it with the feature `{feature}`")
}

/// The version of Burn and a device, as Burn names it, with the name of the card where there is one.
pub fn describe(device: &Device) -> String {
    format!("burn {BURN}, {}", name(device))
}

/// The same without the version.
pub(crate) fn name(device: &Device) -> String {
    #[cfg(feature = "remote")]
    if let Some(name) = remote::name(device) {
        return name;
    }
    let name = if is_cpu(device) { "flex (CPU)".into() } else { format!("{:?}", device.clone().inner()) };
    format!("{}{name}", card(device))
}

#[cfg(any(feature = "cuda-unmeasured", feature = "rocm", feature = "wgpu"))]
fn card(device: &Device) -> String {
    device.identity().map_or_else(String::new, |identity| format!("{}, ", identity.name))
}

#[cfg(not(any(feature = "cuda-unmeasured", feature = "rocm", feature = "wgpu")))]
fn card(_: &Device) -> String {
    String::new()
}

/// Lets all threads of this process compute in one queue of each GPU, of its own or behind `serve`. By default each thread has one of its own, with a
/// pool of memory that is kept when it ends, and one thread does not wait for what another one has written over in place.
pub(crate) fn share_streams() {
    stream::set_policy(StreamPolicy::Single);
}

/// Whether a device is another machine's.
pub(crate) fn is_remote(_device: &Device) -> bool {
    #[cfg(feature = "remote")]
    return remote::name(_device).is_some();
    #[cfg(not(feature = "remote"))]
    false
}

/// Which of these devices is known to have failed, and how: only of other machines there is something to know.
pub(crate) fn failed(_devices: &[Device]) -> Option<(usize, String)> {
    #[cfg(feature = "remote")]
    return remote::failed(_devices);
    #[cfg(not(feature = "remote"))]
    None
}

/// Whether a device is the CPU.
pub(crate) fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
}

/// The device of a network, without autodiff; of one without parameters, the CPU.
pub fn of(network: &impl Module) -> Device {
    network.devices().into_iter().next().map_or_else(Device::flex, Device::inner)
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::Tensor;

    use super::*;

    #[test]
    fn the_version_of_burn_is_the_one_that_is_built() {
        let lock = include_str!("../../../Cargo.lock");
        let burn = lock.split("[[package]]").find(|package| package.contains("name = \"burn\"\n")).unwrap();
        assert!(burn.contains(&format!("version = \"{BURN}\"")), "{burn}");
    }

    #[test]
    fn the_device_that_is_told_is_the_one_that_tensors_are_on() {
        // Burn is asked for the place of a tensor.
        let place = Tensor::<1>::zeros([1], &Device::default()).device();
        let name = describe(&place);
        let cpu = format!("{place:?}").contains("Flex");
        assert!(name.starts_with("burn 0.") && name.contains("flex (CPU)") == cpu && is_cpu(&place) == cpu, "{name}");
        assert_eq!(describe(&place.autodiff()), name);
    }

    #[test]
    fn all_threads_have_one_stream() {
        named("flex").unwrap();
        let here = stream::StreamId::current;
        assert_eq!(here(), std::thread::spawn(here).join().unwrap());
    }

    #[test]
    fn a_network_tells_its_device() {
        let device = Device::flex();
        let network = LinearConfig::new(2, 2).init(&device.clone().autodiff());
        assert_eq!(of(&network), device);
        assert!(!of(&network).is_autodiff());
    }

    /// A build for three kinds, on a machine without NVIDIA's, with one of Apple's and two of AMD's, the second of which is
    /// told by its autodiff.
    const MACHINE: [Kind; 4] = [
        Kind { name: "cuda", called: "NVIDIA GPU", list: Some(Vec::new) },
        Kind { name: "metal", called: "Apple GPU", list: Some(|| vec![Device::flex().autodiff()]) },
        Kind { name: "rocm", called: "AMD GPU", list: Some(|| vec![Device::flex(), Device::flex().autodiff()]) },
        Kind { name: "vulkan", called: "GPU with Vulkan", list: None },
    ];

    #[test]
    fn a_device_that_is_not_there_is_a_sentence() {
        for (name, words) in [
            ("abacus", "expected flex, the CPU, or a GPU: cuda, metal, rocm, vulkan, or with a number cuda:1"),
            ("", "expected flex"),
            ("Vulkan:0", "built without it: build it with the feature `vulkan`"),
            ("CUDA", "there is no NVIDIA GPU, or its driver is not installed; flex is the CPU"),
            ("cuda:3", "there is no NVIDIA GPU"),
            ("metal:1", "there is one Apple GPU only, metal:0"),
            ("rocm:2", "there are 2, rocm:0 to rocm:1"),
            ("flex:1", "there is one CPU only, flex:0"),
            ("rocm:x", "expected one whole number behind the colon, as in rocm:0"),
            ("rocm:0,1", "expected one device"),
            ("rocm:-1", "expected one whole number"),
            #[cfg(not(feature = "remote"))]
            ("Remote:host:7000", "build it with the feature `remote`"),
        ] {
            let reason = find(name, &MACHINE).unwrap_err();
            assert!(reason.contains(words), "{name}: {reason}");
        }
        let error = named("abacus:7").unwrap_err().to_string();
        assert!(error.starts_with("abacus:7: expected flex") && error.contains("wgpu"), "{error}");
    }

    #[test]
    fn a_device_that_is_there_is_the_one_of_that_number() {
        for (name, second) in [("flex", false), ("CPU", false), ("flex:0", false), ("rocm", false), ("ROCm:1", true)] {
            assert_eq!(find(name, &MACHINE).unwrap().is_autodiff(), second, "{name}");
        }
    }

    #[test]
    fn several_devices_are_named_in_a_row() {
        let found = |names| find_several(names, &MACHINE).map(|found| found.iter().map(Device::is_autodiff).collect());
        // Autodiff tells the second of AMD's, as above.
        for (names, expected) in [
            ("rocm", vec![false]),
            ("rocm:1", vec![true]),
            ("rocm:1,rocm:0", vec![true, false]),
            ("ROCm:0,1", vec![false, true]),
            ("rocm:all", vec![false, true]),
            ("flex, flex,flex", vec![false; 3]),
            ("flex:all", vec![false]),
        ] {
            assert_eq!(found(names), Ok(expected), "{names}");
        }
        for (names, words) in [
            ("metal,metal:0", "metal:0 is named twice"),
            ("rocm:0,2", "rocm:2: there are 2, rocm:0 to rocm:1"),
            ("cuda:all", "there is no NVIDIA GPU"),
            ("rocm,metal", "devices of one kind share a batch, found rocm and metal"),
            ("flex,rocm", "found flex and rocm"),
            ("flex,remote:host:7000", "found flex and remote"),
            (",", "expected flex"),
            ("rocm:0,", "expected flex"),
            ("rocm,1,abacus", "expected flex"),
            ("abacus:all", "expected flex"),
        ] {
            let reason = found(names).unwrap_err();
            assert!(reason.contains(words), "{names}: {reason}");
        }
    }

    #[test]
    fn without_a_name_it_is_a_gpu_if_the_build_is_for_one() {
        assert!(choose(None, &MACHINE).unwrap().is_autodiff(), "the first kind that is there");
        assert!(!choose(None, &MACHINE[3..]).unwrap().is_autodiff(), "no kind is built");
        assert!(!choose(Some("flex"), &MACHINE).unwrap().is_autodiff(), "another is named");
        let (name, reason) = choose(None, &MACHINE[..1]).unwrap_err();
        assert!(name == "cuda" && reason.contains("no NVIDIA GPU"), "{name}: {reason}");
        assert_eq!(choose(Some("abacus"), &MACHINE).unwrap_err().0, "BURN_DEVICE=abacus");
    }
}
