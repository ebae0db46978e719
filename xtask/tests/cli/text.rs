//! Text to image.

use serde_json::Value;

use crate::Place;

const SMALL: [&str; 24] = [
    "--set",
    "data.size=8",
    "--set",
    "network.transformer.input_size=8",
    "--set",
    "network.transformer.patch=4",
    "--set",
    "network.transformer.width=24",
    "--set",
    "network.transformer.heads=2",
    "--set",
    "network.transformer.depth=1",
    "--set",
    "training.steps=3",
    "--set",
    "training.batch=4",
    "--set",
    "sampling.grid.steps=2",
    "--set",
    "post_training.steps=2",
    "--set",
    "post_training.images=20",
    "--set",
    "post_training.seeds=1",
];

#[test]
fn a_network_for_text_is_trained_compared_and_draws() {
    let place = Place::new();
    let train = [&["train", "words", "--out", "run"][..], &SMALL].concat();
    let said = place.run(&train);
    assert!(said.contains("report: run/report.html"), "{said}");
    place.refuse(&train, &["holds a run already"]);
    // A finished run has nothing left to do.
    place.run(&[&train[..], &["--resume"]].concat());

    let sample = ["sample", "run", "--out"];
    let two = ["--prompt", "a red circle", "--prompt", "a blue star"];
    let said = place.run(&[&sample[..], &["two.png"], &two].concat());
    assert!(said.starts_with("2 images of run in two.png\n4 network evaluations"), "{said}");
    let other = ["folder", "--count", "3", "--size", "4x8", "--steps", "1", "--guidance", "2", "--seed", "5"];
    let said = place.run(&[&sample[..], &other, &two, &["--negative", "green"]].concat());
    assert!(said.contains("4 network evaluations for each, seed 5"), "{said}");
    assert_eq!(image::image_dimensions(place.path("folder/000002.png")).unwrap(), (8, 4));

    // Image by image on one device and on two.
    let batch = ["--set", "sampling.batch=1", "--device"];
    for (out, devices) in [("one.png", "flex"), ("both.png", "flex,flex")] {
        place.run(&[&sample[..], &[out], &two, &batch, &[devices]].concat());
    }
    let bytes = |file: &str| std::fs::read(place.path(file)).unwrap();
    assert!(bytes("one.png") == bytes("both.png"), "two devices draw what one does");

    for (flags, words) in [
        (
            &["--prompt", "a", "--set", "training.steps=1"][..],
            "--set changes `sampling` or `seed` where prompts are drawn",
        ),
        (&["--prompt", "a", "--size", "6"], "error: --size: height must be a multiple of 4"),
        (&["--prompt", "a", "--steps", "0"], "must be from 1 to 100000"),
        (&["--prompt", "a", "--each", "3"], "--each is for --layout: without, it is --count that says how many images"),
        (&["--prompt", "a", "--negative", "green"], "--negative has no effect without guidance away from it"),
        (&["--prompt", "a", "--arm", "mixflow-9"], "--arm can be mixflow-0, pretraining, standard-0"),
    ] {
        place.refuse(&[&sample[..], &["no.png"], flags].concat(), &[words]);
    }

    // By the captions that it learned, as a network for classes is sampled and measured.
    let said = place.run(&[&sample[..], &["captions.png", "--labels", "red circle,#3", "--guidance", "1"]].concat());
    assert!(said.starts_with("2 images of run/mixflow-0/model.safetensors"), "{said}");
    place.refuse(&[&sample[..], &["no.png", "--labels", "purple"]].concat(), &["purple is no class; there are "]);
    let said = place.run(&["eval", "run", "--images", "20"]);
    assert!(said.contains("written: run/mixflow-0/eval.json"), "{said}");
    let said = place.run(&["slow-flow", "run", "--images", "4"]);
    assert!(said.contains("of 4 trajectories"), "{said}");
    let said = place.run(&[&["plan", "words", "--device", "h100"][..], &SMALL].concat());
    assert!(said.contains("not counted: reading 16 prompts, once"), "{said}");
    let said = place.run(&["publish", "run", "--to", "org/words", "--dry-run"]);
    assert!(said.contains("model.safetensors") && said.contains("samples.png"), "{said}");
    let card = std::fs::read_to_string(place.path("run/published/README.md")).unwrap();
    assert!(card.contains("red circle") && card.contains("text-to-image"), "{card}");

    // A copy elsewhere draws prompts, and by label what its data say; nothing is written beside it.
    let copy = place.path("elsewhere");
    std::fs::create_dir(&copy).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(place.path("run/published").join(file), copy.join(file)).unwrap();
    }
    place.run(&["sample", "elsewhere", "--prompt", "a red circle", "--out", "again.png"]);
    place.run(&["sample", "elsewhere", "--labels", "#3", "--out", "third.png"]);
    assert_eq!(std::fs::read_dir(&copy).unwrap().count(), 2);
    // Weights alone are those of the recipe that is named.
    std::fs::rename(copy.join("config.json"), place.path("config.json")).unwrap();
    let alone = ["sample", "elsewhere/model.safetensors", "--prompt", "a red circle", "--out"];
    place.refuse(
        &[&alone[..], &["no.png"]].concat(),
        &["lies beside no recipe.json or config.json: name its recipe with --recipe"],
    );
    place.run(&[&alone[..], &["alone.png", "--recipe", "config.json"]].concat());
    let image = |file: &str| std::fs::read(place.path(file)).unwrap();
    place.run(&["sample", "run", "--prompt", "a red circle", "--out", "again.png", "--force"]);
    assert!(image("alone.png") == image("again.png"));
    place.refuse(
        &[&alone[..], &["no.png", "--recipe", "digits"]].concat(),
        &["digits is the recipe of a network for class labels"],
    );
    std::fs::write(place.path("torn.json"), "{\"name\":").unwrap();
    place.refuse(&[&alone[..], &["no.png", "--recipe", "torn.json"]].concat(), &["torn.json: not JSON: the text ends"]);

    // A scale alone leaves the rest of the recipe's guidance as it is.
    let guided = ["--set", "sampling.guidance={\"scale\":3,\"interval\":[0.9,1.0]}", "--set", "post_training=null"];
    place.run(&[&["train", "words", "--out", "guided"][..], &SMALL, &guided].concat());
    for chosen in [["--prompt", "red circle"], ["--labels", "red circle"]] {
        let draw = ["sample", "guided", "--guidance", "2", "--out", "guided.png", "--force"];
        let said = place.run(&[&draw[..], &chosen].concat());
        assert!(said.contains("\n5 network evaluations for each"), "{said}");
    }

    // What fails before the first step leaves no run.
    let missing = "autoencoder={\"kind\":\"kl\",\"network\":{\"image_channels\":3,\"latent_channels\":3,\
                   \"widths\":[8,8],\"depth\":1,\"groups\":4,\"quant_conv\":false,\"scale\":1.0},\"weights\":\"none\"}";
    let failing = ["--out", "failed", "--set", "data.size=16", "--set", missing];
    place.refuse(&[&["train", "words"][..], &SMALL, &failing].concat(), &["cannot read none"]);
    assert!(!place.path("failed/recipe.json").exists() && !place.path("failed/data.json").exists());
    place.run(&[&["train", "words", "--out", "failed"][..], &SMALL].concat());

    // From its weights on.
    let compare = ["compare", "words", "--from", "run/pretraining", "--out", "compared"];
    place.run(&[&compare[..], &SMALL].concat());
    assert_eq!(place.json("compared/start.json")["files"][0]["file"], Value::from("model.safetensors"));
    let shapes = ["train", "words", "--set", "network.prompts=15", "--out", "none"];
    place.refuse(&shapes, &["set network.prompts=16"]);
}

#[test]
fn prompts_that_are_longer_than_the_encoder_reads_are_told_once() {
    let place = Place::new();
    let own = [
        "--set",
        "post_training=null",
        "--set",
        "network.text.tokens=1",
        "--set",
        r#"validation={"every":3,"images":2,"prompts":["star","star in red"]}"#,
    ];
    let train = |more: &[&str]| {
        let output = place.call(&[&["train", "words", "--out", "run"][..], &SMALL[..18], &own, more].concat());
        String::from_utf8(output.stderr).unwrap()
    };
    let told = train(&[]);
    // All sixteen are a colour and a shape.
    assert!(
        told.contains("\n16 of 16 prompts are longer than the encoders read; the first: words reads 1 tokens"),
        "{told}"
    );
    let validation = "\nvalidation: 1 of 2 prompts is longer than the encoders read; the first: words reads 1 tokens and \
                      does not see the end of prompt 2: `in red`";
    assert!(told.contains(validation), "{told}");
    let again = train(&["--resume", "--set", "training.steps=4"]);
    assert!(!again.contains("longer") && place.path("run/model.safetensors").is_file(), "{again}");
}

/// What the evaluators' own code looks for, of a run.
#[test]
fn the_prompts_of_an_evaluator_are_drawn_into_its_files() {
    let place = Place::new();
    place.run(&[&["train", "words", "--out", "run", "--set", "post_training=null"][..], &SMALL[..18]].concat());
    let write = |name: &str, text: &str| std::fs::write(place.path(name), text).unwrap();
    write(
        "three.jsonl",
        "{\"tag\":\"a\",\"prompt\":\"a red circle\"}\n{\"prompt\":\"a blue star\"}\n{\"prompt\":\"a green ring\"}\n",
    );
    write("color_val.txt", "a red circle\tand more\n\na blue star\n");
    std::fs::create_dir(place.path("prompts")).unwrap();
    write("prompts/partiprompts1.txt", "a red circle\n");
    write("prompts/whoops7.txt", "a blue star\n");
    let draw = |layout: &str, prompts: &str, more: &[&str]| {
        let named = ["sample", "run", "--prompts", prompts, "--layout", layout, "--out", layout];
        place.run(&[&named[..], more].concat())
    };
    let pixels = |file: &str| image::open(place.path(file)).unwrap().to_rgb8();

    let said = draw("geneval", "three.jsonl", &["--each", "2"]);
    assert!(said.contains("6 images of 3 prompts in geneval"), "{said}");
    assert_eq!(place.json("geneval/00000/metadata.jsonl"), serde_json::json!({"tag": "a", "prompt": "a red circle"}));
    // Of some that were lost the same are drawn again, one at a time or two.
    let drawn = |image: usize| pixels(&format!("geneval/0000{}/samples/000{}.png", image / 2, image % 2));
    let before: Vec<_> = (0..6).map(drawn).collect();
    assert!((1..6).all(|image| before[image] != before[0]));
    for file in ["geneval/00000/samples/0001.png", "geneval/00002/samples/0000.png"] {
        std::fs::remove_file(place.path(file)).unwrap();
    }
    draw("geneval", "three.jsonl", &["--each", "2"]);
    assert_eq!((0..6).map(drawn).collect::<Vec<_>>(), before);
    let again = ["sample", "run", "--prompts", "three.jsonl", "--layout", "geneval", "--out", "geneval", "--each", "2"];
    place.refuse(&[&again[..], &["--seed", "9"]].concat(), &["geneval", "begun with another seed", "--out"]);

    draw("geneval2", "three.jsonl", &[]);
    let paths = place.json("geneval2/image_paths.json");
    assert_eq!(paths["a blue star"], serde_json::json!(place.path("geneval2/00001.png")));
    assert!(paths.as_object().unwrap().values().all(|path| std::path::Path::new(path.as_str().unwrap()).is_file()));

    draw("dpg", "prompts", &[]);
    assert_eq!(
        (pixels("dpg/whoops7.png").dimensions(), std::fs::read_dir(place.path("dpg")).unwrap().count()),
        ((16, 16), 2)
    );
    // What is no such folder's settings is not replaced by them, nor they by numbers.
    write("notes.json", "{\"mine\":1}");
    let notes = ["sample", "run", "--prompts", "prompts", "--layout", "dpg", "--out", "notes"];
    place.refuse(&notes, &["notes.json is there and tells of no images"]);
    assert_eq!(place.json("notes.json"), serde_json::json!({ "mine": 1 }));
    let numbers = ["eval", "--images-from", "dpg", "--against", "dpg", "--out", "dpg.json"];
    place.refuse(&numbers, &["--out dpg.json", "images were begun with"]);
    // Another folder has settings of its own, whatever is behind a dot in its name.
    place.run(&["sample", "run", "--prompts", "prompts", "--layout", "dpg", "--out", "more/dpg.1/", "--seed", "9"]);
    assert!(place.path("more/dpg.1.json").is_file() && place.path("more/dpg.1/whoops7.png").is_file());
    // Side by side, then below: the second of the first prompt is number 1 of all.
    let square = pixels("dpg/partiprompts1.png");
    assert_eq!(image::imageops::crop_imm(&square, 8, 0, 8, 8).to_image(), before[1]);

    draw("t2i-compbench", "color_val.txt", &["--each", "2"]);
    for file in ["a red circle_000001.png", "a blue star_000002.png"] {
        assert!(place.path("t2i-compbench/samples").join(file).is_file(), "{file}");
    }
    assert_eq!(pixels("t2i-compbench/samples/a blue star_000003.png"), before[3]);

    // A picture that is there stays, of a run that has gone on nothing is added, and how many are drawn at once is free.
    let kept = place.path("geneval/00000/samples/0000.png");
    std::fs::write(&kept, "mine").unwrap();
    std::fs::remove_file(place.path("geneval/00000/samples/0001.png")).unwrap();
    place.run(&[&again[..], &["--set", "sampling.batch=3"]].concat());
    assert_eq!((std::fs::read(&kept).unwrap(), drawn(1)), (b"mine".to_vec(), before[1].clone()));
    // Nor of another recipe, or with an adapter that was written again since.
    let mut recipe = place.json("run/recipe.json");
    recipe["network"]["text"]["tokens"] = 3.into();
    write("other.json", &recipe.to_string());
    place.refuse(&[&again[..], &["--recipe", "other.json"]].concat(), &["begun with another network"]);
    // A preset is the published sampler; what memory asks for stays.
    let mut low = place.json("run/recipe.json");
    low["sampling"]["precision"] = "bf16".into();
    low["sampling"]["correction"] = serde_json::json!({ "kind": "epsilon-scaling", "scale": 1.005 });
    write("low.json", &low.to_string());
    let preset = ["sample", "run", "--recipe", "low.json", "--preset", "diffusers", "--steps", "2"];
    let told = place.told(&[&preset[..], &["--prompts", "prompts", "--layout", "dpg", "--out", "preset"]].concat());
    assert!(told.contains("warning: --preset draws without sampling.correction"), "{told}");
    let sampling = &place.json("preset.json")["sampling"];
    assert_eq!((&sampling["precision"], sampling.get("correction")), (&serde_json::json!("bf16"), None));
    let adapter = r#"adapter={"kind":"lora","rank":2,"targets":["attn.to_q"]}"#;
    let lora = ["train", "words", "--from", "run", "--out", "lora", "--set", "post_training=null", "--set", adapter];
    place.run(&[&lora[..], &SMALL[..18]].concat());
    let adapted =
        ["sample", "run", "--prompts", "prompts", "--layout", "dpg", "--out", "adapted", "--adapter", "lora=0.5"];
    place.run(&adapted);
    std::fs::remove_file(place.path("adapted/whoops7.png")).unwrap();
    place.run(&adapted);
    let age = |file: &str| {
        let file = std::fs::OpenOptions::new().append(true).open(place.path(file)).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    };
    age("lora/pytorch_lora_weights.safetensors");
    place.refuse(&adapted, &["begun with another adapters"]);
    age("run/model.safetensors");
    place.refuse(&again, &["begun with another weights"]);

    // A network of the Hub stays that of the commit that it was begun with, whatever came after.
    let files = ["run/model.safetensors", "run/recipe.json"].map(|file| place.path(file));
    place.cache("words", &[("model.safetensors", &files[0]), ("config.json", &files[1])]);
    let of_hub = ["sample", "hf://org/words", "--prompts", "prompts", "--layout", "dpg", "--out", "hub-dpg"];
    place.run(&of_hub);
    let drawn = pixels("hub-dpg/whoops7.png");
    std::fs::remove_file(place.path("hub-dpg/whoops7.png")).unwrap();
    place.cache_at(
        &"1".repeat(40),
        "words",
        &[("model.safetensors", &place.path("lora/model.safetensors")), ("config.json", &files[1])],
    );
    place.run(&of_hub);
    assert!(pixels("hub-dpg/whoops7.png") == drawn);

    // Marks of editors are no part of a prompt, nor is what is around it.
    write("marked.txt", "\u{feff}  a red circle \r\n");
    place.run(&[
        "sample",
        "run",
        "--prompts",
        "marked.txt",
        "--layout",
        "t2i-compbench",
        "--each",
        "1",
        "--out",
        "marked",
    ]);
    assert!(place.path("marked/samples/a red circle_000000.png").is_file());

    // Lines of a file in one array, as by flags.
    place.run(&["sample", "run", "--prompts", "color_val.txt", "--out", "all.npz"]);
    write("bad.txt", "a_b\n");
    write("twice.jsonl", "{\"prompt\":\"a\"}\n{\"prompt\":\"a\"}\n");
    for (layout, prompts, words) in [
        ("geneval", "color_val.txt", "line 1: expected value"),
        ("geneval2", "nothing.jsonl", "nothing.jsonl"),
        ("t2i-compbench", "bad.txt", "line 1: a file cannot be named after a prompt with `_`"),
        ("t2i-compbench", "run/recipe.json", "run/recipe.json holds JSON, no prompts: expected one a line"),
        ("t2i-compbench", "three.jsonl", "three.jsonl holds JSON, no prompts: expected one a line"),
        ("dpg", "three.jsonl", "three.jsonl"),
        ("geneval2", "twice.jsonl", "has a prompt twice"),
    ] {
        place.refuse(&["sample", "run", "--prompts", prompts, "--layout", layout, "--out", "no"], &[words]);
    }
    place.refuse(&["sample", "run", "--prompts", "three.jsonl", "--out", "no.png"], &["three.jsonl holds JSON"]);
    let three = ["sample", "run", "--prompts", "prompts", "--layout", "dpg", "--each", "3", "--out", "no"];
    place.refuse(&three, &["1 or 4 images of each prompt, not 3"]);
    let many = ["sample", "run", "--prompts", "three.jsonl", "--layout", "geneval", "--each", "10001", "--out", "no"];
    place.refuse(&many, &["1 to 10000 images of each prompt, not 10001"]);
    let both = ["sample", "run", "--prompt", "a", "--layout", "dpg", "--out", "no"];
    assert_eq!(place.call(&both).status.code(), Some(2));
    place.refuse(&["export", "run", "--out", "run"], &["run is there: expected a new folder"]);
    place.refuse(&["export", "run", "--out", "no"], &["words: diffusers has no pipeline for this network"]);
    assert!(!place.path("no").exists());
}

#[test]
fn a_minit2i_draws_as_its_recipe_says() {
    let place = Place::new();
    let train = ["train", "minit2i", "--out", "run"];
    let only = ["--set", "network.transformer.hidden=16", "--set", "post_training=null"];
    place.run(&[&train[..], &SMALL, &only].concat());
    let sample = ["sample", "run", "--prompt", "red circle", "--out"];
    let said = place.run(&[&sample[..], &["circle.png"]].concat());
    assert!(said.contains("6 network evaluations for each"), "{said}");
    for (flags, words) in [
        (["--preset", "diffusers"], "--preset is for Stable Diffusion 3, not for MiniT2I (MM-JiT)"),
        (["--size", "10"], "height must be a multiple of 4 pixels, at most 262144, found 10"),
    ] {
        place.refuse(&[&sample[..], &["no.png"], &flags].concat(), &[words]);
    }
}

#[test]
fn a_folder_of_captioned_images_stands_for_the_recipes_own() {
    let place = Place::new();
    std::fs::create_dir(place.path("mine")).unwrap();
    for (name, caption) in [("a", "a red boat"), ("b", "two boats")] {
        image::RgbImage::new(64, 64).save(place.path(format!("mine/{name}.png"))).unwrap();
        std::fs::write(place.path(format!("mine/{name}.txt")), caption).unwrap();
    }
    let plan = ["plan", "sd3.5-medium-lora-mixflow", "--data", "mine", "--device", "h100"];
    let said = place.run(&[&plan[..], &["--set", "network.prompts=2"]].concat());
    assert!(said.contains("2 images") && said.contains("reading 2 prompts"), "{said}");
    // Its captions are what the network is told.
    place.refuse(&[&plan[..], &["--set", "network.prompts=3"]].concat(), &["network.prompts=2"]);
}
