use std::fs;
use std::sync::Arc;

use burn::tensor::Device;
use image::{GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use tempfile::TempDir;

use super::*;
use crate::data::encoded::tests::Halves;
use crate::data::{BucketConfig, Dataset, Encoded, Example, ImageFolder, Loader, LoaderConfig, OnBroken, Variation};

/// Grey levels of a picture that looks like nothing else when it is turned or moved.
fn level(x: u32, y: u32) -> u8 {
    (31 * x + 17 * y + x * y) as u8
}

/// Pictures of several shapes, each of the grey levels that are also its mask: as alpha, and in a folder beside.
fn pictures() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("alpha/a/b")).unwrap();
    fs::create_dir_all(root.path().join("plain/a/b")).unwrap();
    fs::create_dir_all(root.path().join("masks/a/b")).unwrap();
    for (name, [width, height]) in [("a/1", [24, 24]), ("a/b/2", [40, 20]), ("a/b/3", [9, 33]), ("a/4", [12, 16])] {
        let grey = |x, y| [level(x, y); 3];
        let path = |part: &str| root.path().join(part).join(name);
        let alpha = |x, y| Rgba([grey(x, y)[0], grey(x, y)[1], grey(x, y)[2], level(x, y)]);
        RgbaImage::from_fn(width, height, alpha).save(path("alpha").with_extension("png")).unwrap();
        RgbImage::from_fn(width, height, |x, y| Rgb(grey(x, y))).save(path("plain").with_extension("png")).unwrap();
        let mask = GrayImage::from_fn(width, height, |x, y| Luma([level(x, y)]));
        mask.save(path("masks").with_extension("png")).unwrap();
    }
    root
}

/// Both ways to have the same masks.
fn folders(root: &Path) -> [ImageFolder; 2] {
    let open = |part: &str, mask| {
        ImageFolder::open(&root.join(part), 12, OnBroken::Refuse).unwrap().with_masks(&mask).unwrap()
    };
    [open("alpha", MaskConfig::Alpha), open("plain", MaskConfig::Folder(root.join("masks")))]
}

/// Whether a mask is its picture.
fn agrees(Example { pixels, mask, .. }: &Example) -> bool {
    let mask = mask.as_ref().unwrap();
    3 * mask.len() == pixels.len()
        && mask.iter().zip(pixels).all(|(mask, pixel)| (2.0 * mask - 1.0 - pixel).abs() < 1e-6)
}

#[test]
fn a_mask_is_cut_resized_and_mirrored_as_its_image() {
    let root = pictures();
    let buckets = BucketConfig { step: 4, sizes: vec![] };
    type Cut<'a> = &'a dyn Fn(ImageFolder) -> ImageFolder;
    let cuts: [Cut<'_>; 3] = [&|folder| folder, &|folder| folder.with_random_crop(20).unwrap(), &|folder| {
        folder.with_buckets(&buckets).unwrap()
    }];
    for cut in cuts {
        let [alpha, files] = folders(root.path()).map(cut);
        assert!(alpha.masked() && files.masked());
        crate::testing::check_dataset(&alpha);
        crate::testing::check_dataset(&files);
        for index in 0..4 {
            assert!(agrees(&alpha.example(index).unwrap()) && agrees(&files.example(index).unwrap()), "{index}");
            for position in 0..8 {
                let variation = Variation { seed: 3, position, flip: true };
                let seen = alpha.variant(index, variation).unwrap();
                assert!(agrees(&seen), "image {index} at {position}");
                assert_eq!(seen, files.variant(index, variation).unwrap());
            }
        }
    }
}

#[test]
fn a_mask_that_is_transparent_is_refused_and_not_taken_for_white() {
    let root = pictures();
    let file = root.path().join("masks/a/1.png");
    let mask = |alpha: u8| {
        RgbaImage::from_fn(24, 24, |x, _| Rgba([255, 255, 255, if x < 12 { alpha } else { 255 }])).save(&file).unwrap();
        let [_, folder] = folders(root.path());
        (0..4).find_map(|index| folder.example(index).err()).map(|error| error.to_string())
    };
    assert_eq!(mask(255), None);
    let told = mask(0).unwrap();
    assert!(told.contains("its mask cannot be used: it is partly transparent"), "{told}");
}

#[test]
fn a_place_of_a_latent_has_the_mean_of_its_pixels_mask() {
    let (root, store, device) = (pictures(), tempfile::tempdir().unwrap(), Device::default());
    let [alpha, _] = folders(root.path());
    let kept = Encoded::kept(&store.path().join("kept"), "", &alpha, &Halves, &device, &mut |_| Ok(())).unwrap();
    let again = Encoded::kept(&store.path().join("kept"), "", &alpha, &Halves, &device, &mut |_| Ok(())).unwrap();
    let buckets = alpha.with_buckets(&BucketConfig { step: 4, sizes: vec![] }).unwrap();
    for encoded in [Encoded::new(&folders(root.path())[0], &Halves, &device, &mut |_| Ok(())).unwrap(), kept, again] {
        assert!(encoded.masked());
        // The mask is the picture still, as both are means of the same pixels.
        for index in 0..4 {
            let Example { pixels, mask, .. } = encoded.example(index).unwrap();
            let mask = mask.unwrap();
            assert_eq!(mask.len(), 36);
            assert!(mask.iter().zip(&pixels).all(|(mask, pixel)| (2.0 * mask - 1.0 - pixel).abs() < 1e-6));
        }
    }
    let encoded = Encoded::new(&buckets, &Halves, &device, &mut |_| Ok(())).unwrap();
    for index in 0..4 {
        let Example { pixels, mask, .. } =
            encoded.variant(index, Variation { seed: 0, position: 0, flip: false }).unwrap();
        let mask = mask.unwrap();
        assert!(mask.len() == pixels.len() && !pixels.is_empty());
        assert!(mask.iter().zip(&pixels).all(|(mask, pixel)| (2.0 * mask - 1.0 - pixel).abs() < 1e-6));
    }
}

#[test]
fn grids_that_do_not_divide_stay_between_black_and_white() {
    let [height, width] = [7, 10];
    let mask: Vec<f32> = (0..70).map(|place| (place % 3) as f32 / 2.0).collect();
    assert_eq!(on_grid(&mask, [height, width], [height, width]), mask);
    for grid in [[3, 4], [7, 3], [1, 1], [14, 20], [9, 2]] {
        let found = on_grid(&mask, [height, width], grid);
        assert!(
            found.len() == grid[0] * grid[1] && found.iter().all(|number| (0.0..=1.0).contains(number)),
            "{grid:?}"
        );
        assert!(on_grid(&[1.0; 70], [height, width], grid).iter().all(|number| *number == 1.0), "{grid:?}");
    }
    let mean = f64::from(mask.iter().sum::<f32>()) / 70.0;
    assert!((f64::from(on_grid(&mask, [height, width], [1, 1])[0]) - mean).abs() < 1e-6);
    // Two rows and three columns of means of two by two pixels.
    let found = on_grid(&[1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0], [2, 6], [1, 3]);
    assert_eq!(found, [0.5, 0.0, 1.0]);
}

#[test]
fn a_loader_gives_masks_with_their_images_and_whole_ones_where_there_are_none() {
    #[derive(Debug)]
    struct Some2(Vec<String>);
    impl Dataset for Some2 {
        fn len(&self) -> Option<u64> {
            Some(5)
        }
        fn classes(&self) -> &[String] {
            &self.0
        }
        fn shape(&self) -> [usize; 3] {
            [1, 1, 2]
        }
        fn example(&self, index: u64) -> Result<Example, Error> {
            let mask = (index % 2 == 1).then(|| vec![index as f32 / 10.0, 0.0]);
            Ok(Example { mask, ..Example::new(vec![index as f32; 2], 0) })
        }
    }
    let data: Arc<dyn Dataset> = Arc::new(Some2(vec!["one".into()]));
    let config = LoaderConfig { batch: 5, flip: true, ..LoaderConfig::default() };
    let mut mirrored = 0;
    for examples in Loader::new(data, config).unwrap().take(20).map(Result::unwrap) {
        for (pixels, mask) in examples.pixels.chunks(2).zip(examples.masks.chunks(2)) {
            let own = pixels[0] / 10.0;
            let expected = if pixels[0] as u64 % 2 == 1 { [own, 0.0] } else { [1.0, 1.0] };
            mirrored += usize::from(mask[0] == 0.0);
            assert!(mask == expected || mask == [expected[1], expected[0]], "{pixels:?} {mask:?}");
        }
        assert_eq!(examples.masks.len(), 10);
    }
    assert!((5..35).contains(&mirrored), "{mirrored} of 40");
}

#[test]
fn masks_that_do_not_fit_are_named() {
    let root = pictures();
    let open = |masks: &Path| {
        let folder = ImageFolder::open(&root.path().join("plain"), 12, OnBroken::Refuse).unwrap();
        folder.with_masks(&MaskConfig::Folder(masks.into())).map(drop)
    };
    let masks = root.path().join("masks");
    open(&masks).unwrap();
    let complaint = |words: [&str; 2]| {
        let error = open(&masks).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    fs::rename(masks.join("a/b/2.png"), masks.join("a/b/5.png")).unwrap();
    complaint(["2.png` are not there; expected those of", "(1 of 4 images have none)"]);
    fs::rename(masks.join("a/b/5.png"), masks.join("a/b/2.png")).unwrap();
    GrayImage::new(20, 40).save(masks.join("a/b/2.png")).unwrap();
    complaint(["2.png` do not fit: 20 x 40 pixels", "are not those of the image, 40 x 20"]);
    GrayImage::new(40, 20).save(masks.join("a/b/2.webp")).unwrap();
    complaint(["2.webp` stand beside", "where only one of them can be meant"]);
    fs::remove_file(masks.join("a/b/2.png")).unwrap();
    open(&masks).unwrap();

    // Found when it is decoded: another image stands for the pair, or it is named.
    fs::write(masks.join("a/b/2.webp"), "broken").unwrap();
    let open = |on_broken| {
        let folder = ImageFolder::open(&root.path().join("plain"), 12, on_broken).unwrap();
        folder.with_masks(&MaskConfig::Folder(masks.clone())).unwrap()
    };
    let error = open(OnBroken::Refuse).example(2).unwrap_err().to_string();
    assert!(error.contains("2.png`: its mask cannot be used: expected a JPEG, PNG or WebP"), "{error}");
    let skipping = open(OnBroken::Skip);
    assert_eq!(skipping.example(2).unwrap(), skipping.example(3).unwrap());
    assert_eq!(skipping.broken(), [root.path().join("plain/a/b/2.png")]);

    let inside = MaskConfig::Folder(root.path().join("plain/a"));
    let error = inside.check(&root.path().join("plain")).unwrap_err().to_string();
    assert!(error.ends_with("lie among their images: move them beside"), "{error}");
    let nowhere = MaskConfig::Folder(root.path().join("nowhere")).check(root.path()).unwrap_err().to_string();
    assert!(nowhere.contains("expected a directory of masks"), "{nowhere}");
}

#[test]
fn masks_that_are_all_black_or_not_there_are_told() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("a")).unwrap();
    RgbaImage::from_pixel(4, 4, Rgba([9, 9, 9, 0])).save(root.path().join("a/1.png")).unwrap();
    RgbImage::new(4, 4).save(root.path().join("a/2.png")).unwrap();
    RgbaImage::from_pixel(4, 4, Rgba([9, 9, 9, 9])).save(root.path().join("a/3.png")).unwrap();
    let folder = ImageFolder::open(root.path(), 4, OnBroken::Refuse).unwrap().with_masks(&MaskConfig::Alpha).unwrap();
    let masks = [0, 1, 2].map(|index| folder.example(index).unwrap().mask.unwrap());
    assert_eq!(masks, [vec![0.0; 16], vec![1.0; 16], vec![9.0 / 255.0; 16]]);
    let told = folder.remarks();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("1 image is masked as a whole: nothing is learned there: ") && told[0].ends_with("1.png")
    );
    assert!(told[1].starts_with("1 image is without transparency") && told[1].ends_with("2.png"), "{told:?}");
    // A part of one that is black, here its middle, says nothing of the whole.
    let edge = |x, _| Rgba([9, 9, 9, if x == 0 { 255 } else { 0 }]);
    RgbaImage::from_fn(12, 4, edge).save(root.path().join("a/1.png")).unwrap();
    let folder = ImageFolder::open(root.path(), 4, OnBroken::Refuse).unwrap().with_masks(&MaskConfig::Alpha).unwrap();
    assert_eq!(folder.example(0).unwrap().mask.unwrap(), [0.0; 16]);
    assert_eq!(folder.remarks(), Vec::<String>::new());
}

/// A training that goes on tells them apart.
#[test]
fn other_masks_of_the_same_names_are_other_data() {
    let root = pictures();
    let open = || folders(root.path()).map(|folder| folder.fingerprint().unwrap());
    let [alpha, before] = open();
    assert!(before == open()[1] && before.content.is_some() && alpha.content.is_none());
    GrayImage::new(24, 24).save(root.path().join("masks/a/1.png")).unwrap();
    assert_ne!(open()[1], before);
}

#[test]
fn masks_beside_their_images_are_those_of_a_folder_and_no_images() {
    let root = pictures();
    let expected = folders(root.path())[1].fingerprint().unwrap();
    for (number, ending) in ["-masklabel", ".mask"].into_iter().enumerate() {
        let beside = root.path().join(number.to_string());
        for name in ["a/1", "a/b/2", "a/b/3", "a/4"] {
            let path = |part: &Path, name: &str| part.join(format!("{name}.png"));
            let to = path(&beside, &format!("{name}{ending}"));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(path(&root.path().join("masks"), name), to).unwrap();
            fs::copy(path(&root.path().join("plain"), name), path(&beside, name)).unwrap();
            fs::write(beside.join(format!("{name}.txt")), "a picture").unwrap();
        }
        let open = |kind: &str, mask: serde_json::Value| {
            let config = serde_json::json!({ "kind": kind, "path": beside, "size": 12, "mask": mask });
            serde_json::from_value::<crate::data::DataConfig>(config).unwrap().open()
        };
        for kind in ["folder", "captions"] {
            let [own, other] = [serde_json::json!({ "beside": ending }), serde_json::json!("alpha")];
            let data = open(kind, own).unwrap();
            assert_eq!((data.len(), data.masked()), (Some(4), true), "{kind} {ending}");
            assert!((0..4).all(|index| agrees(&data.example(index).unwrap())), "{kind} {ending}");
            if kind == "folder" {
                assert_eq!(data.fingerprint().unwrap(), expected);
                assert_eq!(open(kind, other).unwrap().len(), Some(8));
            }
        }
        let options =
            crate::data::source::Options { mask: Some(MaskConfig::Beside(ending.into())), ..Default::default() };
        let source = crate::data::source::open(std::slice::from_ref(&beside), &options).unwrap();
        assert_eq!(
            (source.len(), source.samples(0).unwrap().filter(|image| image.as_ref().unwrap().mask.is_some()).count()),
            (4, 4)
        );

        fs::remove_file(beside.join(format!("a/4{ending}.png"))).unwrap();
        let error = open("captions", serde_json::json!({ "beside": ending })).unwrap_err().to_string();
        assert!(error.contains(&format!("a/4{ending}.png` are not there; expected those of ")), "{error}");
        let error = open("folder", serde_json::json!({ "beside": "" })).unwrap_err().to_string();
        assert!(error.contains("say what their names end in"), "{error}");
    }
}
