//! A data set of one's own: images and labels in the IDX files of MNIST, read once into memory.

#![allow(clippy::print_stdout, reason = "an example says what comes out")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use mixflow::FlowMatching;
use mixflow::backbones::sit::SitConfig;
use mixflow::data::{Channels, Classes, Dataset, Digits, Error, Example, Loader, LoaderConfig, Quantize};
use mixflow::schedules::Linear;
use mixflow::testing::check_dataset;
use mixflow::train::{OptimizerConfig, TrainState};

/// Grey images with a class each.
#[derive(Debug)]
struct Idx {
    /// `[count, height, width]`
    pixels: Vec<u8>,
    labels: Vec<u8>,
    size: [usize; 2],
    classes: Vec<String>,
}

impl Idx {
    fn open(images: &Path, labels: &Path) -> Result<Self, Error> {
        let ([count, height, width], pixels) = read(images)?;
        let ([labelled], numbers) = read(labels)?;
        let classes: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
        let fault = |reason: String| Error::Other(format!("{}: {reason}", labels.display()).into());
        if labelled != count {
            return Err(fault(format!("expected a label for each of {count} images, found {labelled}")));
        }
        if let Some(label) = numbers.iter().find(|label| usize::from(**label) >= classes.len()) {
            return Err(fault(format!("expected labels from 0 to 9, found {label}")));
        }
        Ok(Self { pixels, labels: numbers, size: [height, width], classes })
    }
}

impl Dataset for Idx {
    fn len(&self) -> Option<u64> {
        Some(self.labels.len() as u64)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn shape(&self) -> [usize; 3] {
        let [height, width] = self.size;
        [1, height, width]
    }

    fn example(&self, index: u64) -> Result<Example, Error> {
        let [height, width] = self.size;
        let bytes = &self.pixels[index as usize * height * width..][..height * width];
        let pixels = bytes.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0).collect();
        Ok(Example::new(pixels, self.labels[index as usize].into()))
    }
}

/// Shape and bytes of an IDX file: `0 0 8 D`, then D sizes of 32 bits, the largest byte first, then the bytes.
fn read<const D: usize>(path: &Path) -> Result<([usize; D], Vec<u8>), Error> {
    let fault = |reason: String| Error::Other(format!("{}: {reason}", path.display()).into());
    let file = fs::read(path).map_err(|error| fault(error.to_string()))?;
    let (head, values) = file.split_at_checked(4 + 4 * D).ok_or_else(|| fault("it is too short".into()))?;
    let size = |axis: usize| head[4 + 4 * axis..][..4].iter().fold(0, |size, &byte| size << 8 | usize::from(byte));
    let shape = std::array::from_fn(size);
    if head[..4] != [0, 0, 8, D as u8] || shape.iter().product::<usize>() != values.len() {
        return Err(fault(format!("expected {D} dimensions of bytes, found {head:?} and {} bytes", values.len())));
    }
    Ok((shape, values.to_vec()))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Yours are there already; here a few digits become such files.
    let folder = tempfile::tempdir()?;
    let [images, labels] = ["images.idx", "labels.idx"].map(|name| folder.path().join(name));
    let (mut pixels, mut numbers) =
        (vec![0, 0, 8, 3, 0, 0, 0, 200, 0, 0, 0, 8, 0, 0, 0, 8], vec![0, 0, 8, 1, 0, 0, 0, 200]);
    let digits = Digits::new(8, Channels::One)?;
    for index in 0..200 {
        let example = digits.example(index)?;
        pixels.extend(example.pixels.iter().map(|&pixel| Quantize::Sit.byte(pixel)));
        numbers.push(example.label as u8);
    }
    fs::write(&images, pixels)?;
    fs::write(&labels, numbers)?;

    let data = Idx::open(&images, &labels)?;
    check_dataset(&data);
    let device = Device::default().autodiff();
    let [channels, side, _] = data.shape();
    let network = SitConfig {
        input_size: side,
        channels,
        classes: 10,
        width: 64,
        depth: 2,
        heads: 2,
        hidden: 128,
        ..SitConfig::small(2)
    };
    let mut state = TrainState::new(network.init(0, &device));
    let order = LoaderConfig { batch: 32, ..Default::default() };
    for batch in Loader::batches(Arc::new(data), order, Classes(10), &device)?.take(20) {
        let (next, report) = state.step(&FlowMatching::new(Linear), [batch?], 0, &OptimizerConfig::default());
        state = next;
        if report.step % 5 == 4 {
            println!("step {:2}  loss {:.3}", report.step + 1, report.loss);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() -> Result<(), Box<dyn std::error::Error>> {
        super::main()
    }
}
