use std::fs::{self, Metadata};
use std::path::Path;

use burn::tensor::Device;

use super::*;
use crate::launch;
use crate::numbers::gigabytes;

/// Place of the activations among the parts of the memory.
const ACTIVATIONS: usize = 4;

fn recipe(name: &str, changes: &[&str]) -> Recipe {
    Recipe::read(name, &changes.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
}

fn machine(name: &str) -> Machine {
    Machine::named(name).unwrap()
}

/// Of the recipe `digits`, changed, on a machine.
fn plan(changes: &[&str], name: &str) -> Plan {
    Plan::new(&recipe("digits", changes), machine(name)).unwrap()
}

#[test]
fn the_largest_sit_has_the_published_size_and_work() {
    let network = r#"network={"kind":"sit","input_size":32,"patch":2,"channels":4,"width":1152,"depth":28,
        "heads":16,"hidden":4608,"classes":1000,"learn_sigma":true}"#;
    let text = plan(&[network], "h100").to_string();
    assert!(text.contains("675,129,632"), "{text}");
    assert!(text.contains("118.6 GMAC"), "{text}");
}

#[test]
fn a_guide_costs_what_it_is() {
    let plan = |changes: &[&str]| plan(changes, "h100");
    let scale = "sampling.guidance.scale=1.5";
    let small = r#"sampling.guide={"weights":"w","network":{"kind":"sit","input_size":32,"patch":8,"channels":1,
        "width":24,"depth":1,"heads":3,"hidden":96,"classes":10}}"#;
    let [none, free, guided] = [plan(&[]), plan(&[scale]), plan(&[scale, small])];
    let weak = plan(&["network.width=24", "network.depth=1", "network.hidden=96"]);
    let [a, b, c, d] = [&none, &free, &guided, &weak].map(|plan| plan.sampling_multiply_adds.unwrap());
    assert_eq!((b, c), (2 * a, a + d));
    assert_eq!([none.evaluations, free.evaluations, guided.evaluations], [Some(20), Some(40), Some(40)]);
    assert_eq!(plan(&["sampling.guidance.scale=1", small]).evaluations, Some(20));
    assert!(guided.to_string().contains("guide in sampling"), "{guided}");
}

#[test]
fn everything_that_a_comparison_runs_is_counted() {
    let changes = [
        "training.steps=7",
        "training.batch=4",
        r#"post_training={"steps":5,"gamma":0.8,"seeds":2,"images":20,"solver_steps":[2,5],"lambdas":[1,1.1,1.2]}"#,
    ];
    let with = |change: &[&str]| plan(&[&changes[..], change].concat(), "a100");
    let plan = with(&[]);
    let network = recipe("digits", &changes).network.multiply_adds() as f64;
    // One start, two of each kind; three factors and the best again, of two networks; Heun with 10, 2 and 5 steps.
    let sampling = 20.0 * network * (5.0 + 2.0 * 4.0) * (20.0 + 4.0 + 10.0);
    let expected = [
        ("pre-training", 7 * 4, 3.0 * network * 28.0),
        ("4 post-trainings", 4 * 5 * 4, 3.0 * network * 80.0),
        ("sampling 39 sets", 39 * 20, sampling),
        ("Slow Flow", 4 * 20, 80.0 * 20.0 * network),
    ];
    assert_eq!(plan.parts.len(), expected.len(), "{plan}");
    for (part, (name, images, multiply_adds)) in plan.parts.iter().zip(expected) {
        assert_eq!((part.name.as_str(), part.images), (name, images));
        assert!((part.operations / (2.0 * multiply_adds) - 1.0).abs() < 1e-12, "{part:?} and {multiply_adds}");
    }
    assert!(plan.to_string().contains("not counted: measuring 39 sets of 20 images"), "{plan}");
    // Four networks of the arms beside the start, and a checkpoint and the average of five networks on disk.
    let bytes = 4 * plan.parameters;
    assert_eq!((&plan.first[..], plan.disk), (&[("networks of the arms", 4 * bytes)][..], 5 * (4 + 1) * bytes));

    assert_eq!(with(&["post_training.slow_flow=false"]).parts[..], plan.parts[..3]);
    let guided = with(&["sampling.guidance.scale=2"]);
    for (guided, free) in guided.parts[2..].iter().zip(&plan.parts[2..]) {
        assert!((guided.operations / free.operations - 2.0).abs() < 1e-12, "{guided:?}");
    }
}

/// What trainings that save once, twice and three times leave on disk, against what is planned; a third checkpoint is whole before
/// the first one goes.
#[test]
fn the_disk_is_what_a_run_takes() {
    let small = ["post_training=null", "training.batch=2", "training.checkpoint_every=2"];
    let bytes = |folder: &Path| {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
        files.filter(Metadata::is_file).map(|file| file.len()).sum::<u64>()
    };
    for (steps, while_writing) in [(1, 0), (4, 0), (5, 3)] {
        let steps_set = format!("training.steps={steps}");
        let set = [&small[..], &[&steps_set]].concat();
        let (recipe, root) = (recipe("digits", &set), tempfile::tempdir().unwrap());
        launch::train(&recipe, root.path(), &Device::default(), &mut |_| {}).unwrap();
        let checkpoints = fs::read_dir(root.path().join("checkpoints")).unwrap();
        let found = bytes(root.path()) + checkpoints.map(|step| bytes(&step.unwrap().path())).sum::<u64>();
        let plan = Plan::new(&recipe, machine("a100")).unwrap();
        let planned = plan.disk - while_writing * 4 * plan.parameters;
        assert!((found as f64 / planned as f64 - 1.0).abs() < 0.05, "{steps} steps: {found} and {planned} bytes");
    }
    // Arms that save three times, after a start that saves twice.
    let post = r#"post_training={"steps":5,"gamma":0.8,"seeds":1,"images":20}"#;
    let compared = plan(&["training.steps=4", "training.checkpoint_every=2", post], "a100");
    assert_eq!(compared.disk, (9 + 9 + 12) * 4 * compared.parameters);
}

#[test]
fn what_cannot_be_trained_has_no_plan() {
    let recipe = recipe("rae", &["post_training.label_law=null"]);
    let fault = Plan::new(&recipe, machine("a100")).unwrap_err().to_string();
    assert!(fault.contains("are no law for MixFlow"), "{fault}");
}

#[test]
fn beside_an_adapter_the_network_is_there_once() {
    let adapter = r#"adapter={"kind":"lora","rank":4}"#;
    let plan = |changes: &[&str]| plan(changes, "a100");
    let [whole, lora] = [&["post_training=null"][..], &["post_training=null", adapter]].map(plan);
    // The query, key and value and the output of three blocks of width 96.
    let numbers = 4 * 3 * ((96 + 3 * 96) + (96 + 96));
    let (base, own) = (4 * whole.parameters, 4 * numbers);
    assert_eq!(
        lora.memory[..ACTIVATIONS],
        [("weights", base), ("gradients", own), ("moments of AdamW", 2 * own), ("moving average", own)]
    );
    assert_eq!(lora.memory.last(), Some(&("adapter", own)));
    // It saves twice.
    assert_eq!((lora.checkpoint, lora.disk), (6 * own, 9 * own + base));
    // In 16 bits it is stored so: attention and perceptrons of three blocks.
    let low = plan(&["post_training=null", adapter, "training.precision=bf16"]);
    let hidden = recipe("digits", &[]).to_value()["network"]["hidden"].as_u64().unwrap();
    assert_eq!(low.memory[0], ("weights", base - 2 * 3 * (4 * 96 * 96 + 2 * 96 * hidden)));
    assert!(low.memory.iter().all(|(name, _)| *name != "rounded weights"), "{:?}", low.memory);
    assert_eq!(lora.parts[0].operations / whole.parts[0].operations, 2.0 / 3.0);
    // The start of a comparison is trained whole.
    let [whole, lora] = [&[][..], &[adapter]].map(plan);
    assert_eq!((&lora.memory, lora.parts[0].operations), (&whole.memory, whole.parts[0].operations));
    // Six arms that save once, or adapters beside whole weights.
    assert_eq!((whole.disk, lora.disk), (9 * base + 6 * 5 * base, 9 * base + 6 * (5 * own + base)));
    assert_eq!(lora.parts[1].operations / whole.parts[1].operations, 2.0 / 3.0);
}

#[test]
fn what_is_trained_and_encoded_first_is_counted() {
    let names = |plan: &Plan| plan.parts.iter().map(|part| (part.name.clone(), part.images)).collect::<Vec<_>>();
    let rae = Plan::new(&recipe("rae", &[]), machine("h100")).unwrap();
    let found = names(&rae);
    assert_eq!(found[0], ("training autoencoder".into(), 400 * 64));
    // All 1,797 digits.
    assert_eq!(found[1], ("encoding".into(), 1797));
    let recipe = recipe("repa", &[]);
    let repa = Plan::new(&recipe, machine("h100")).unwrap();
    assert_eq!(names(&repa)[0], ("training target encoder".into(), 400 * 64));
    // Each image of a step passes through the target encoder once.
    let encoder = recipe.target_encoder.as_ref().unwrap().encoder().multiply_adds();
    let step = 3 * recipe.network.training_multiply_adds() + encoder;
    assert_eq!(repa.parts[1].operations, 2.0 * 51_200.0 * step as f64);
    // Images come out of a decoder.
    let (evaluations, one) = (rae.evaluations.unwrap() as u64, rae.multiply_adds);
    assert!(rae.sampling_multiply_adds.unwrap() > evaluations * one);
}

#[test]
fn times_are_those_of_32_bits() {
    // NVIDIA's data sheet of the H100 SXM: 67 TFLOP/s in FP32, 989 in 16 bits on tensor cores.
    let machine = machine("h100");
    assert_eq!(machine.speed, 0.4 * 67e12);
    assert!(machine.origin.contains("67 TFLOP/s in 32 bits"), "{}", machine.origin);
}

#[test]
fn absurd_numbers_of_steps_are_multiplied_out() {
    let mut recipe = recipe("digits", &[]);
    recipe.training.steps = u64::MAX;
    recipe.post_training.as_mut().unwrap().seeds = u64::MAX;
    let plan = Plan::new(&recipe, machine("h100")).unwrap();
    assert!(plan.to_string().contains("1,180,591,620,717,411,303,360 images"), "{plan}");
}

#[test]
fn numbers_read_as_people_write_them() {
    assert_eq!(gigabytes(2_700_518_528_u64), "2.70 GB");
    assert_eq!(gigabytes(27_005_185_280_000_u64), "27.01 TB");
    assert_eq!([4.2e-5, 0.0042, 90_000.0].map(duration), ["42.0 µs", "4.2 ms", "25.0 h"]);
}

#[test]
fn unknown_machines_have_no_speed() {
    assert_eq!(Machine::named("abacus"), None);
    assert!(Machine::names().all(|name| Machine::named(name).is_some()));
}

/// Numbers by hand: a block of SiT-XL/2 keeps 2 · 1152 numbers of 4 bytes a token, 6 · 1152 an image, and 6 · 1152 + 4608 of 2
/// bytes a token. Its backward pass begins with 9 · 1152 gradients of a token, and in 16 bits with 4 · 1152 numbers that are
/// widened.
#[test]
fn how_a_run_fits_a_card_is_said() {
    let network = r#"network={"kind":"sit","input_size":32,"patch":2,"channels":4,"width":1152,"depth":28,
        "heads":16,"hidden":4608,"classes":1000,"learn_sigma":true}"#;
    let changes = [network, "training.batch=256", "training.precision=bf16", "post_training=null"];
    let plan = |precision: &str, device: &str| {
        plan(&[&changes[..], &[&format!("training.precision={precision}")]].concat(), device)
    };
    let bf16 = plan("bf16", "h100");
    let image = 28 * (4 * (256 * 2 * 1152 + 6 * 1152) + 2 * 256 * (6 * 1152 + 4608));
    // More than all gradients of weights, which are there at its end.
    let begun = 256 * 256 * 4 * (9 + 4) * 1152 - 4 * 675_129_632;
    assert_eq!(bf16.memory[ACTIVATIONS], ("activations", 256 * image + begun));
    // Of 80 GB 5 copies of 675,129,632 weights of 4 bytes leave 66.5 for images of 397 and 47 MB; 28 blocks of 12 squares of the
    // width once more in 2 bytes leave 65.6 for images of 232 MB, or of 41 MB. Where a backward pass begins one of the copies is
    // not there yet, but 10.6 MB of each image's gradients, and 4.7 of its widened numbers in 16 bits.
    let fits = |plan: &Plan| plan.fits.iter().map(|fit| (fit.images, fit.accumulation)).collect::<Vec<_>>();
    let whole = [(167, Some(2)), (1196, Some(1)), (276, Some(1)), (1205, Some(1))];
    assert_eq!((fits(&bf16), fits(&plan("f32", "h100"))), (whole.to_vec(), whole.to_vec()));
    let text = bf16.to_string();
    for line in ["  fits 80.00 GB, into which go\n", "f32      ", "  167 images at a time, training.accumulation=2\n"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(text.contains("bf16, training.recompute=true   1,205 images at a time, whole batches\n"), "{text}");
    // Of 24 GB 10.5 are left, or 9.6.
    let small = [(26, Some(16)), (222, Some(2)), (41, Some(8)), (217, Some(2))];
    assert_eq!(fits(&plan("f32", "rtx-3090")), small);
    assert!(plan("f32", "rtx-3090").to_string().contains("  does not fit 24.00 GB, into which go\n"));
    let [slow, fast] = [plan("f32", "h100"), bf16.clone()].map(|plan| plan.seconds(&plan.parts[0]));
    assert!((slow / fast - 989.0 / 67.0).abs() < 1e-9, "a training of {slow} s is one of {fast} s");
    // The CPU keeps 16 bits, too, and multiplies 32.
    let cpu = Machine { is_cpu: true, ..machine("h100") };
    let recipe = recipe("digits", &changes);
    let cpu = Plan::new(&recipe, cpu).unwrap();
    assert_eq!(cpu.memory, bf16.memory);
    assert!(cpu.to_string().contains("not counted: rounding to 16 bits"), "{cpu}");
    let with = |memory| Plan::new(&recipe, Machine { memory, ..machine("rtx-3090") }).unwrap().to_string();
    let text = with(Some(10_000_000_000));
    assert!(text.contains("0 images at a time, not with any accumulation"), "{text}");
    let text = with(None);
    assert!(text.contains("memory of this device is not known") && !text.contains(" fit"), "{text}");
}

#[test]
fn devices_share_batches_and_hold_the_rest_each() {
    let recipe = recipe("rae", &["training.batch=32", "post_training.seeds=1"]);
    let on = |devices| Plan::on(&recipe, machine("h100"), devices).unwrap();
    let (one, four) = (on(1), on(4));
    for (place, (alone, shared)) in one.memory.iter().zip(&four.memory).enumerate() {
        let share = if place == ACTIVATIONS { 4 } else { 1 };
        assert_eq!(alone.1, share * shared.1, "{}", alone.0);
    }
    // Networks of the arms and the autoencoder are on the first alone.
    assert_eq!(one.first, four.first);
    assert_eq!(four.first.len(), 2);
    let seconds = |plan: &Plan| plan.parts.iter().map(|part| plan.seconds(part)).collect::<Vec<_>>();
    for ((part, alone), shared) in one.parts.iter().zip(seconds(&one)).zip(seconds(&four)) {
        let first = ["training autoencoder", "encoding"].contains(&part.name.as_str());
        let share = if first { 1.0 } else { 4.0 };
        assert!((alone / shared - share).abs() < 1e-9, "{}: {alone} s and {shared} s", part.name);
    }
    let text = four.to_string();
    for words in ["memory in training on each device\n", " MB on the first\n", "times on 4 x h100 ("] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let error = Plan::on(&recipe, machine("h100"), 3).unwrap_err().to_string();
    assert!(error.contains("times the number of devices, found 32, 1 and 3"), "{error}");
}

#[test]
fn devices_that_share_the_state_remember_a_part_of_it_each() {
    let on = |changes: &[&str], devices| {
        let changes = [&["post_training=null", "training.batch=64"], changes].concat();
        Plan::on(&recipe("digits", &changes), machine("h100"), devices).unwrap()
    };
    let plain = on(&[], 4);
    let copies = |plan: &Plan| plan.memory[1..ACTIVATIONS].iter().map(|(_, bytes)| *bytes).collect::<Vec<_>>();
    // The table of places of the digits' SiT is frozen, and priced as the rest.
    let all = 4 * plain.parameters;
    assert_eq!((copies(&plain), plain.offloaded), (vec![all, 2 * all, all], 0));
    let shared = on(&["training.shard=true"], 4);
    assert_eq!((copies(&shared), shared.offloaded), (vec![all, all / 2, all / 4], 0));
    assert_eq!(copies(&on(&["training.shard=true"], 1)), copies(&plain));
    // Each remembers all, and all do so here.
    let offloaded = on(&["training.offload=true"], 4);
    assert_eq!((copies(&offloaded), offloaded.offloaded), (vec![all, 0, 0], 4 * 3 * all));
    let both = on(&["training.offload=true", "training.shard=true"], 4);
    assert_eq!((copies(&both), both.offloaded), (vec![all, 0, 0], 3 * all));
    assert!(both.to_string().contains("in the memory of the CPU\n"), "{both}");
    assert_eq!(both.total_memory() + 3 * all, plain.total_memory());
}

/// Three blocks of width 96: of each, 12 squares of it are multiplied in 16 bits.
#[test]
fn weights_whose_masters_are_elsewhere_take_half() {
    let bf16 = |changes: &[&str]| {
        let changes = [&["post_training=null", "training.precision=bf16", "training.batch=64"], changes].concat();
        Plan::on(&recipe("digits", &changes), machine("h100"), 2).unwrap()
    };
    let part = |plan: &Plan, name: &str| plan.memory.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes);
    let (plain, offloaded, shared) = (bf16(&[]), bf16(&["training.offload=true"]), bf16(&["training.shard=true"]));
    let (all, halves) = (4 * plain.parameters, 2 * 3 * 12 * 96 * 96);
    assert_eq!((part(&plain, "weights"), part(&plain, "rounded weights")), (Some(all), Some(halves)));
    for (plan, gradients) in [(&offloaded, all), (&shared, all - halves)] {
        // Each of two devices has the sums of all gradients, or of a part.
        assert_eq!((part(plan, "weights"), part(plan, "gradients")), (Some(all - halves), Some(gradients)));
        assert_eq!(part(plan, "rounded weights"), None);
    }
    assert_eq!(part(&shared, "weights in 32 bits"), Some(halves));
    assert_eq!(offloaded.offloaded, 2 * (3 * all + 2 * halves));
    // What is added up is not rounded.
    let parts = bf16(&["training.shard=true", "training.accumulation=2"]);
    assert_eq!(part(&parts, "gradients"), Some(all));
}

#[test]
fn a_guide_lies_beside_a_training_that_draws() {
    let guide = r#"sampling.guide={"weights":"w","network":{"kind":"sit","input_size":32,"patch":8,"channels":1,
        "width":24,"depth":1,"heads":3,"hidden":96,"classes":10}}"#;
    let first =
        |change: &str| plan(&["post_training=null", "sampling.guidance.scale=1.5", guide, change], "h100").first;
    assert_eq!(first("validation=null"), []);
    let weak = plan(&["network.width=24", "network.depth=1", "network.hidden=96"], "h100");
    assert_eq!(first(r#"validation={"every":5}"#), [("guide", 4 * weak.parameters)]);
}

#[test]
fn captions_that_were_held_out_are_drawn_too() {
    let with = |data: &str| {
        let post = r#"post_training={"steps":5,"gamma":0.8,"seeds":2,"images":16,"slow_flow":false}"#;
        let changes = [data, post, "network.channels=3", "network.classes=10"];
        Plan::new(&recipe("digits", &changes), machine("h100")).map(|plan| plan.parts.last().unwrap().images)
    };
    // A start, two of each kind trained; three factors tried for each of two networks, and their best.
    assert_eq!(with(r#"data={"kind":"shapes","size":32}"#).unwrap(), 13 * 16);
    assert_eq!(with(r#"data={"kind":"scenes","size":32}"#).unwrap(), 20 * 16);
}
