use super::*;

#[test]
fn the_largest_sit_has_the_published_size_and_work() {
    let network = r#"network={"kind":"sit","input_size":32,"patch":2,"channels":4,"width":1152,"depth":28,
        "heads":16,"hidden":4608,"classes":1000,"learn_sigma":true}"#;
    let recipe = Recipe::read("digits", &[network.into()]).unwrap();
    let text = Plan::new(&recipe, Machine::named("h100").unwrap()).unwrap().to_string();
    assert!(text.contains("675,129,632"), "{text}");
    assert!(text.contains("118.6 GMAC"), "{text}");
}

#[test]
fn a_guide_costs_what_it_is() {
    let plan = |set: &[&str]| {
        let set: Vec<String> = set.iter().map(|change| (*change).to_string()).collect();
        Plan::new(&Recipe::read("digits", &set).unwrap(), Machine::named("h100").unwrap()).unwrap()
    };
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

fn set(changes: &[&str]) -> Vec<String> {
    changes.iter().map(|change| (*change).to_string()).collect()
}

#[test]
fn everything_that_a_comparison_runs_is_counted() {
    let changes = set(&[
        "training.steps=7",
        "training.batch=4",
        r#"post_training={"steps":5,"gamma":0.8,"seeds":2,"images":20,"solver_steps":[2,5],"lambdas":[1,1.1,1.2]}"#,
    ]);
    let recipe = Recipe::read("digits", &changes).unwrap();
    let plan = Plan::new(&recipe, Machine::named("a100").unwrap()).unwrap();
    let network = recipe.network.multiply_adds() as f64;
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
    // Four networks of the arms beside the start, and nine copies of five networks on disk.
    let bytes = 4 * plan.parameters;
    assert_eq!((plan.memory.last().unwrap(), plan.disk), (&("networks of the arms", 4 * bytes), 45 * bytes));

    let without = [&changes[..], &set(&["post_training.slow_flow=false"])].concat();
    let without = Plan::new(&Recipe::read("digits", &without).unwrap(), Machine::named("a100").unwrap()).unwrap();
    assert_eq!(without.parts[..], plan.parts[..3]);
    let guided = [&changes[..], &set(&["sampling.guidance.scale=2"])].concat();
    let guided = Plan::new(&Recipe::read("digits", &guided).unwrap(), Machine::named("a100").unwrap()).unwrap();
    for (guided, free) in guided.parts[2..].iter().zip(&plan.parts[2..]) {
        assert!((guided.operations / free.operations - 2.0).abs() < 1e-12, "{guided:?}");
    }
}

#[test]
fn what_is_trained_and_encoded_first_is_counted() {
    let machine = || Machine::named("h100").unwrap();
    let names = |plan: &Plan| plan.parts.iter().map(|part| (part.name.clone(), part.images)).collect::<Vec<_>>();
    let rae = Plan::new(&Recipe::read("rae", &[]).unwrap(), machine()).unwrap();
    let found = names(&rae);
    assert_eq!(found[0], ("training autoencoder".into(), 400 * 64));
    // All 1,797 digits.
    assert_eq!(found[1], ("encoding".into(), 1797));
    let repa = Plan::new(&Recipe::read("repa", &[]).unwrap(), machine()).unwrap();
    assert_eq!(names(&repa)[0], ("training target encoder".into(), 400 * 64));
    // Each image of a step passes through the target encoder once.
    let recipe = Recipe::read("repa", &[]).unwrap();
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
    let machine = Machine::named("h100").unwrap();
    assert_eq!(machine.speed, 0.4 * 67e12);
    assert!(machine.origin.contains("67 TFLOP/s in 32 bits"), "{}", machine.origin);
}

#[test]
fn absurd_numbers_of_steps_are_multiplied_out() {
    let mut recipe = Recipe::read("digits", &[]).unwrap();
    recipe.training.steps = u64::MAX;
    recipe.post_training.as_mut().unwrap().seeds = u64::MAX;
    let plan = Plan::new(&recipe, Machine::named("h100").unwrap()).unwrap();
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
/// bytes a token.
#[test]
fn how_a_run_fits_a_card_is_said() {
    let network = r#"network={"kind":"sit","input_size":32,"patch":2,"channels":4,"width":1152,"depth":28,
        "heads":16,"hidden":4608,"classes":1000,"learn_sigma":true}"#;
    let plan = |precision: &str, device: &str| {
        let changes =
            set(&[network, "training.batch=256", &format!("training.precision={precision}"), "post_training=null"]);
        Plan::new(&Recipe::read("digits", &changes).unwrap(), Machine::named(device).unwrap()).unwrap()
    };
    let bf16 = plan("bf16", "h100");
    let image = 28 * (4 * (256 * 2 * 1152 + 6 * 1152) + 2 * 256 * (6 * 1152 + 4608));
    assert_eq!(bf16.memory[ACTIVATIONS], ("activations of a batch", 256 * image));
    // 5.5 copies of 675,129,632 weights of 4 bytes leave 65.1 GB of 80: 280 images of 232 MB. Of 48 GB 33.1 are left: 142.
    assert_eq!(bf16.fits, [Some(1), Some(1)]);
    assert!(bf16.to_string().contains("  fits 80.00 GB: would with whole batches; "), "{bf16}");
    let smaller = plan("bf16", "l40s");
    assert_eq!(smaller.fits, [Some(2), Some(1)]);
    let [slow, fast] = [plan("f32", "h100"), bf16.clone()].map(|plan| plan.seconds(&plan.parts[0]));
    assert!((slow / fast - 989.0 / 67.0).abs() < 1e-9, "a training of {slow} s is one of {fast} s");
    assert!(
        smaller
            .to_string()
            .contains("does not fit 48.00 GB: would with training.accumulation=2; with whole batches and"),
        "{smaller}"
    );
    // 397 MB an image, 66.5 GB left: 167 images. Of 24 GB 10.5 are left: 26 images, or 222 of 47 MB.
    assert_eq!(plan("f32", "h100").fits, [Some(2), Some(1)]);
    assert_eq!(plan("f32", "rtx-3090").fits, [Some(16), Some(2)]);
    // The CPU keeps 16 bits, too, and multiplies 32.
    let cpu = Machine { low_precision: false, ..Machine::named("h100").unwrap() };
    let changes = set(&[network, "training.batch=256", "training.precision=bf16", "post_training=null"]);
    let cpu = Plan::new(&Recipe::read("digits", &changes).unwrap(), cpu).unwrap();
    assert_eq!(cpu.memory, bf16.memory);
    assert!(cpu.to_string().contains("not counted: rounding to 16 bits"), "{cpu}");
    let small = Machine { memory: 10_000_000_000, ..Machine::named("rtx-3090").unwrap() };
    let recipe = Recipe::read("digits", &set(&[network, "post_training=null"])).unwrap();
    let text = Plan::new(&recipe, small).unwrap().to_string();
    assert!(text.contains("does not fit 10.00 GB: would with no accumulation; with no accumulation and"), "{text}");
}
