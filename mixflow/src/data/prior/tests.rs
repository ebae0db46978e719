use super::*;
use crate::data::{Loader, LoaderConfig, OnBroken, split};

const PRIOR: Prior = Prior { first: 5, weight: 0.25 };

#[test]
fn every_other_position_is_a_prior_image_and_all_are_seen_alike() {
    let seen: Vec<u64> = (0..2 * 5 * 7).map(|position| PRIOR.index_at(3, position, 12)).collect();
    for (position, index) in seen.iter().enumerate() {
        assert_eq!(position % 2 == 1, *index >= 5, "position {position}");
    }
    let passes = |odd: usize, all: std::ops::Range<u64>| {
        let own: Vec<u64> = seen.iter().copied().skip(odd).step_by(2).collect();
        for pass in own.chunks(all.clone().count()) {
            let mut sorted = pass.to_vec();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(all.clone()), "{pass:?}");
        }
        own
    };
    let (own, prior) = (passes(0, 0..5), passes(1, 5..12));
    assert!(own[..5] != own[5..10] && prior[..7] != prior[7..14]);
}

#[test]
fn the_mean_of_weighted_losses_is_the_sum_of_both_means() {
    let losses = [3.0, 8.0, 5.0, 2.0, 1.0, 6.0];
    let weighted = losses.iter().zip(0..).map(|(loss, position)| loss * PRIOR.weight_at(position));
    let expected = (3.0 + 5.0 + 1.0) / 3.0 + 0.25 * (8.0 + 2.0 + 6.0) / 3.0;
    assert!((weighted.sum::<f32>() / 6.0 - expected).abs() < 1e-6);
}

/// Images of so many pixels a side, a colour each, with captions but for those of the class.
fn folders() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (folder, count, first) in [("own", 6, 0), ("class", 3, 100)] {
        std::fs::create_dir(root.path().join(folder)).unwrap();
        for number in 0..count {
            let path = root.path().join(folder).join(format!("{number}.png"));
            image::RgbImage::from_pixel(4, 4, image::Rgb([first + number; 3])).save(&path).unwrap();
            if folder == "own" {
                std::fs::write(path.with_extension("txt"), format!("my dog {number}")).unwrap();
            }
        }
    }
    root
}

fn open(root: &Path, on_broken: OnBroken, changes: &[(&str, serde_json::Value)]) -> Result<Arc<dyn Dataset>, Error> {
    let mut prior = serde_json::json!({ "path": root.join("class"), "caption": "a  dog", "weight": 0.5 });
    changes.iter().for_each(|(key, value)| prior[key] = value.clone());
    let config = serde_json::json!({
        "kind": "captions", "path": root.join("own"), "size": 4, "on_broken": on_broken, "prior": prior
    });
    serde_json::from_value::<crate::data::DataConfig>(config).unwrap().open()
}

#[test]
fn images_of_a_class_are_half_of_every_batch_and_never_held_out() {
    let root = folders();
    let data = open(root.path(), OnBroken::Refuse, &[]).unwrap();
    crate::testing::check_dataset(&*data);
    assert_eq!((data.len(), data.prior()), (Some(9), Some(Prior { first: 6, weight: 0.5 })));
    let class = data.classes().iter().position(|class| class == "a dog").unwrap();
    let config = LoaderConfig { seed: 2, batch: 4, workers: 0, ..LoaderConfig::default() };
    let read = |data: Arc<dyn Dataset>, config| Loader::new(data, config).unwrap().map(Result::unwrap);
    for batch in read(data.clone(), config).take(9) {
        let is_prior: Vec<bool> = batch.labels.iter().map(|label| *label == class).collect();
        assert_eq!((is_prior, batch.weights), (vec![false, true, false, true], vec![2.0, 1.0, 2.0, 1.0]));
    }
    let (train, held_out) = split(&data, 4, 0).unwrap();
    assert_eq!((train.len(), train.prior().unwrap().first, held_out.prior()), (Some(5), 2, None));
    let labels = |part: &dyn Dataset| (0..part.len().unwrap()).map(|i| part.label(i).unwrap()).collect::<Vec<_>>();
    let (learned, kept) = (labels(&train), labels(&held_out));
    assert!(learned[2..] == [class; 3] && !learned[..2].contains(&class) && !kept.contains(&class));
    assert!(learned[..2].iter().all(|label| !kept.contains(label)));
    for batch in read(Arc::new(train), config).take(9) {
        assert!((0..4).all(|place| (batch.labels[place] == class) == (place % 2 == 1)));
    }
    // Five batches of eight see what ten of four do.
    let all = |batch, count| {
        let batches = read(data.clone(), LoaderConfig { batch, ..config }).take(count);
        batches.flat_map(|batch| batch.pixels).collect::<Vec<_>>()
    };
    assert!(all(8, 5) == all(4, 10));
    assert!(data.notices().iter().any(|line| line.contains("fewer prior images than others")), "{:?}", data.notices());
}

#[test]
fn a_broken_image_is_replaced_by_one_of_its_kind() {
    let root = folders();
    for broken in ["own/2.png", "class/1.png"] {
        std::fs::write(root.path().join(broken), "no image").unwrap();
    }
    let data = open(root.path(), OnBroken::Skip, &[]).unwrap();
    let class = data.classes().iter().position(|class| class == "a dog").unwrap();
    let labels: Vec<bool> = (0..9).map(|index| data.example(index).unwrap().label == class).collect();
    assert_eq!(labels, [vec![false; 6], vec![true; 3]].concat());
    assert_eq!(data.broken().len(), 2);
}

#[test]
fn images_that_cannot_be_a_class_are_refused_in_one_sentence() {
    let root = folders();
    let (empty, inside) = (root.path().join("empty"), root.path().join("own"));
    std::fs::create_dir(&empty).unwrap();
    for (change, words) in [
        (("weight", (-1.0).into()), "data.prior has a weight that must be 0 or above, found -1"),
        (("path", serde_json::json!(empty)), "--prompt CAPTION --size HEIGHTxWIDTH --count 100 --out FOLDER"),
        (("path", serde_json::json!(inside)), "among those of data.path: move them beside"),
        (("path", "nowhere".into()), "data.prior.path must be a directory of images of the class"),
        (("path", serde_json::Value::Null), "data.prior has a caption that no image has, \"a  dog\""),
        (("caption", "my dog 3".into()), "data.prior has the caption of an image of data.path, "),
    ] {
        let error = open(root.path(), OnBroken::Refuse, &[change]).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
    // Masks beside them are no images, as they are not beside others.
    std::fs::copy(root.path().join("class/0.png"), root.path().join("class/0-mask.png")).unwrap();
    let prior = PriorConfig { caption: "a dog".into(), path: None, weight: 1.0 };
    let found = |masks| prior.images(&root.path().join("class"), &[], masks).unwrap().len();
    assert_eq!((found(None), found(Some("-mask"))), (4, 3));
    // Without a directory, those of the data that have the caption.
    let own = [("path", serde_json::Value::Null), ("caption", "my dog 3".into())];
    let data = open(root.path(), OnBroken::Refuse, &own).unwrap();
    assert_eq!((data.len(), data.prior().unwrap().first), (Some(6), 5));
}

/// Half of each batch are of a class, in the size of the batch; a size that the class does not have is refused.
#[test]
fn in_buckets_every_other_image_is_one_of_the_class_in_the_size_of_the_batch() {
    let root = tempfile::tempdir().unwrap();
    let draw = |folder: &str, number: u8, width, height| {
        let path = root.path().join(folder).join(format!("{number}.png"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(width, height, image::Rgb([number; 3])).save(&path).unwrap();
        std::fs::write(path.with_extension("txt"), format!("my dog {number}")).unwrap();
    };
    // Instances: two squares and three wide ones. The class: three squares, two wide ones, and a tall one that none is like.
    let (square, wide) = ([0, 1], [10, 11, 12]);
    square.iter().for_each(|number| draw("own", *number, 8, 8));
    wide.iter().for_each(|number| draw("own", *number, 16, 4));
    [100, 101, 102].iter().for_each(|number| draw("class", *number, 8, 8));
    [110, 111].iter().for_each(|number| draw("class", *number, 16, 4));
    draw("class", 120, 4, 16);
    let bucketed = || {
        let prior = serde_json::json!({ "path": root.path().join("class"), "caption": "a dog", "weight": 0.5 });
        let config = serde_json::json!({
            "kind": "captions", "path": root.path().join("own"), "size": 8, "buckets": { "step": 4 }, "prior": prior
        });
        serde_json::from_value::<crate::data::DataConfig>(config).unwrap().open()
    };
    let data = bucketed().unwrap();
    crate::testing::check_dataset(&*data);
    let unseen = "1 prior image of a size that no other image has: not seen in training";
    assert!(data.notices().iter().any(|line| line == unseen), "{:?}", data.notices());

    let read = |config, count| -> Vec<crate::data::Examples> {
        Loader::new(data.clone(), config).unwrap().take(count).map(Result::unwrap).collect()
    };
    let config = LoaderConfig { seed: 2, batch: 4, workers: 0, ..LoaderConfig::default() };
    // Twelve epochs of five instances, two in a batch.
    let batches = read(config, 30);
    let mut seen = std::collections::BTreeMap::<u8, u32>::new();
    for batch in &batches {
        let numbers: Vec<u8> = batch
            .pixels
            .chunks(batch.shape.iter().product())
            .map(|image| {
                assert!(image.iter().all(|value| *value == image[0]));
                ((image[0] + 1.0) * 127.5).round() as u8
            })
            .collect();
        let [_, height, width] = batch.shape;
        let is_wide = width > height;
        for (place, number) in numbers.iter().enumerate() {
            *seen.entry(*number).or_default() += 1;
            assert_eq!((*number >= 100, number % 100 / 10 == 1), (place % 2 == 1, is_wide), "{numbers:?}");
        }
        assert_eq!(batch.weights, [2.0, 1.0, 2.0, 1.0]);
    }
    // Each instance is seen in each epoch, and the class alike in its size: 24 square ones and 36 wide ones.
    let expected = [(0, 12), (1, 12), (10, 12), (11, 12), (12, 12), (100, 8), (101, 8), (102, 8), (110, 18), (111, 18)];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
    for workers in [0, 3] {
        assert!(read(LoaderConfig { step: 13, workers, ..config }, 17) == batches[13..]);
    }
    assert!(Loader::new(data.clone(), LoaderConfig { batch: 5, ..config }).is_err());

    let (train, held_out) = split(&data, 3, 0).unwrap();
    assert!(
        held_out.prior().is_none() && Loader::new(Arc::new(train), config).unwrap().take(9).all(|batch| batch.is_ok())
    );
    [110, 111].iter().for_each(|number| std::fs::remove_file(root.path().join(format!("class/{number}.png"))).unwrap());
    let error = bucketed().unwrap_err().to_string();
    assert!(
        error.contains("data.prior has no image in the size of 3 other images, 4 x 16 (height x width): draw"),
        "{error}"
    );
}
