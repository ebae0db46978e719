//! Images of an evaluator's prompts.

use std::fs;

use burn::tensor::Device;
use mixflow::Pipeline;
use mixflow::recipe::NetworkSettings;
use mixflow_t2i::recipe::read_text_recipe;
use mixflow_t2i::{Evaluator, TextPipeline};

#[test]
fn each_device_has_a_batch_of_an_evaluators_prompts() {
    let (folder, device) = (tempfile::tempdir().expect("a temporary folder"), Device::default());
    let small = [
        "data.size=8",
        "network.transformer.input_size=8",
        "network.transformer.patch=4",
        "network.transformer.table=2",
        "network.transformer.width=24",
        "network.transformer.depth=1",
        "network.transformer.heads=2",
        "post_training=null",
        "sampling.grid.steps=2",
        "sampling.batch=1",
    ];
    let recipe = read_text_recipe("words", &small.map(Into::into)).expect("it comes along").expect("it is for text");
    let network = recipe.network.init(3, &device);
    let pipeline = Pipeline::of_network(recipe, network, folder.path()).expect("nothing else");
    let mut pipeline = TextPipeline::new(pipeline).expect("words need no files");
    let prompts = folder.path().join("prompts.jsonl");
    let lines: Vec<String> = (0..5).map(|number| format!(r#"{{"prompt":"{number} stars"}}"#)).collect();
    fs::write(&prompts, lines.join("\n")).expect("room");
    let evaluator = Evaluator::GenEval2;
    let prompts = evaluator.read(&prompts, 1).expect("five prompts");
    let mut draw = |beside: usize, name: &str| {
        pipeline.pipeline.beside = vec![device.clone(); beside];
        let (to, mut told) = (folder.path().join(name), vec![]);
        evaluator.draw(&pipeline, &prompts, 1, &to, &mut |images| told.push(images)).expect("finite");
        let images = (0..5).map(|number| fs::read(to.join(format!("{number:05}.png"))).expect("it was drawn"));
        (told, images.collect::<Vec<_>>())
    };
    let (alone, one) = draw(0, "one");
    let (together, three) = draw(2, "three");
    assert_eq!((alone, together), (vec![1, 2, 3, 4, 5], vec![3, 5]));
    assert!(one == three);
}
