//! From text to images: a small transformer learns coloured shapes by their names, and draws what it is asked for.

#![allow(clippy::print_stdout, reason = "an example says what comes out")]

use mixflow::Export;
use mixflow::compare::Progress;
use mixflow::launch::train;
use mixflow::train::Event;
use mixflow_t2i::TextPipeline;
use mixflow_t2i::recipe::read_text_recipe;

/// The recipe `words`, smaller and shorter: without these changes it learns to follow prompts, in half an hour on two cores.
const SMALLER: [&str; 9] = [
    "data.size=16",
    "network.transformer.input_size=16",
    "network.transformer.patch=4",
    "network.transformer.width=48",
    "network.transformer.depth=2",
    "network.transformer.heads=2",
    "training.steps=60",
    "sampling.guidance.scale=2",
    "post_training=null",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let recipe = read_text_recipe("words", &SMALLER.map(String::from))?.ok_or("it is a recipe for text")?;
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    train(&recipe, &run, &Default::default(), &mut |progress| match progress {
        Progress::Training { event: Event::Stepped(report), .. } if report.step % 20 == 19 => {
            println!("step {:2}  loss {:.3}", report.step + 1, report.loss);
        }
        _ => {}
    })?;

    // Prompts are free: these words were seen, but neither of these sentences.
    let pipeline = TextPipeline::from_folder(&run, &Default::default())?;
    let images = pipeline.images(&["a blue star", "circle, yellow"], 0)?;
    assert_eq!(images.shape, [2, 3, 16, 16]);
    println!("two images of {} network evaluations each", images.evaluations);
    Export::new(folder.path().join("images.png"), 3)?.write(2, 2, [Ok(images)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() -> Result<(), Box<dyn std::error::Error>> {
        super::main()
    }
}
