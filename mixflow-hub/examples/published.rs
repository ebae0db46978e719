//! A run as others get it: written as it would be published, opened again, and the same images come out.

#![allow(clippy::print_stdout, reason = "an example says what comes out")]

use mixflow::Export;
use mixflow::Pipeline;
use mixflow::launch::train;
use mixflow::recipe::Recipe;
use mixflow_hub::{Choice, Publication, SampleImages};

/// The recipe `digits`, smaller and much shorter.
const SMALLER: [&str; 6] = [
    "network.width=48",
    "network.depth=1",
    "network.hidden=96",
    "training.steps=20",
    "training.batch=16",
    "post_training=null",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let [run, public] = ["run", "public"].map(|name| folder.path().join(name));
    let recipe = Recipe::read("digits", &SMALLER.map(String::from))?;
    train(&recipe, &run, &Default::default(), &mut |_| {})?;

    // `publish` instead of `write` sends the same folder to the Hub, from where `Pipeline::from_hub("org/name")` opens it.
    let choice = Choice { license: Some("mit".into()), samples: SampleImages::None, ..Choice::default() };
    let written =
        Publication::of(&run, choice, &Default::default())?.write(&public, &"org/name".parse()?, "main", |_| {})?;
    for (name, bytes) in &written.files {
        println!("{bytes:8} bytes  {name}");
    }

    let labels = [0, 1, 2, 3];
    let [ours, theirs] =
        [Pipeline::from_folder(&run, &Default::default())?, Pipeline::from_folder(&public, &Default::default())?];
    let images = theirs.images(&labels, 0)?;
    assert_eq!(images.pixels, ours.images(&labels, 0)?.pixels, "the same images, bit for bit");
    Export::new(folder.path().join("images.png"), theirs.image_channels())?.write(4, 2, [Ok(images)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() -> Result<(), Box<dyn std::error::Error>> {
        super::main()
    }
}
