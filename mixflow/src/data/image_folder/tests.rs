use std::fs;

use image::{ImageFormat, Rgb, RgbImage};
use tempfile::TempDir;

use super::*;
use std::sync::Arc;

use crate::data::{Examples, Loader, LoaderConfig};

/// Two classes of flat images: `a` 10, 20 and 30 bright, `b` 200.
fn fixture() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, value: u8, format| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(12, 9, Rgb([value; 3])).save_with_format(path, format).unwrap();
    };
    write("a/1.png", 10, ImageFormat::Png);
    write("a/2.JPG", 20, ImageFormat::Jpeg);
    write("a/deeper/3.webp", 30, ImageFormat::WebP);
    write("b/misnamed.jpeg", 200, ImageFormat::Png);
    write("b/.hidden.png", 0, ImageFormat::Png);
    fs::write(root.path().join("b/notes.txt"), "no image").unwrap();
    fs::write(root.path().join("README"), "no class").unwrap();
    root
}

fn value(folder: &ImageFolder, index: u64) -> u8 {
    let pixels = folder.example(index).unwrap().pixels;
    assert_eq!(pixels.len(), 3 * 4 * 4);
    super::super::Quantize::Sit.byte(pixels[20])
}

#[test]
fn classes_and_files_come_in_order_of_name() {
    let root = fixture();
    let folder = ImageFolder::open(root.path(), 4, OnBroken::Refuse).unwrap();
    assert_eq!((folder.classes(), folder.len()), (&["a".to_owned(), "b".to_owned()][..], Some(4)));
    assert_eq!([0, 1, 2, 3].map(|i| value(&folder, i)), [10, 20, 30, 200]);
    assert_eq!([0, 1, 2, 3].map(|i| folder.example(i).unwrap().label), [0, 0, 0, 1]);
    assert_eq!([0, 1, 2, 3].map(|i| folder.label(i).unwrap()), [0, 0, 0, 1]);
}

#[test]
fn captions_are_classes_in_their_order() {
    let root = fixture();
    for (name, caption) in [("a/1", "two  cats\n"), ("a/2", "a dog"), ("a/deeper/3", "two cats"), ("b/misnamed", "")] {
        fs::write(root.path().join(name).with_extension("txt"), caption).unwrap();
    }
    let open = || ImageFolder::captioned(root.path(), 4, OnBroken::Refuse, CaptionFormat::Whole);
    let folder = open().unwrap();
    assert_eq!(folder.classes(), ["", "a dog", "two cats"]);
    assert_eq!(
        [0, 1, 2, 3].map(|i| (folder.label(i).unwrap(), value(&folder, i))),
        [(0, 200), (1, 20), (2, 10), (2, 30)]
    );

    // A table counts instead.
    let table = root.path().join("metadata.jsonl");
    let line = |name, key, text| format!("{{\"file_name\": \"{name}\", \"{key}\": \"{text}\", \"width\": 12}}\n");
    fs::write(&table, line("a/1.png", "text", "one") + "\n" + &line("b/misnamed.jpeg", "caption", "another")).unwrap();
    let folder = open().unwrap();
    assert_eq!((folder.classes(), value(&folder, 0)), (&["another".to_owned(), "one".into()][..], 200));
}

#[test]
fn images_without_captions_are_named() {
    let root = fixture();
    let complain = |word: &str| {
        let error =
            ImageFolder::captioned(root.path(), 4, OnBroken::Refuse, CaptionFormat::Whole).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    complain("a/1.txt");
    for (text, word) in [
        ("", "no images"),
        ("{}", "line 1: the key `file_name` is missing"),
        ("{\"file_name\": \"a/1.png\", \"text\": \"a\\u0000b\"}", "zeros in line 1"),
        ("\n{\"file_name\": \"a/1.png\"}", "no `text` in line 2"),
        ("{\"file_name\": \"none.png\", \"text\": \"\"}", "name none.png in line 1"),
        ("{\"file_name\": \"a/../../x.png\", \"text\": \"\"}", "name a/../../x.png in line 1, which is outside"),
        ("{\"file_name\": \"/etc/x.png\", \"text\": \"\"}", "name /etc/x.png in line 1, which is outside"),
        ("{\"file_name\": \"..\\\\x.png\", \"text\": \"\"}", "line 1, which is outside"),
        (
            "{\"file_name\": \"a/1.png\", \"text\": \"\"}\n{\"file_name\": \"./a\\\\1.png\", \"text\": \"\"}",
            "in line 1 and in line 2",
        ),
    ] {
        fs::write(root.path().join("metadata.jsonl"), text).unwrap();
        complain(word);
    }
}

#[test]
fn tables_and_texts_of_other_systems_are_read() {
    let root = fixture();
    let table = root.path().join("metadata.jsonl");
    let lines = [
        "\u{feff}{\"file_name\": \"a\\\\1.png\", \"caption\": \"tags\", \"text\": \"one\"}",
        "{\"file_name\": \"./a/2.JPG\", \"text\": \" \"}",
    ];
    fs::write(&table, lines.join("\r\n") + "\r\n\r\n").unwrap();
    let open = || ImageFolder::captioned(root.path(), 4, OnBroken::Refuse, CaptionFormat::Whole);
    let folder = open().unwrap();
    assert_eq!((folder.classes(), value(&folder, 1)), (&[String::new(), "one".into()][..], 10));
    let notices = folder.notices().join("\n").replace(&format!("{}/", root.path().display()), "");
    for words in [
        "passed over 2 files (1 .txt, 1 without ending)",
        "passed over 2 images without a line in metadata.jsonl, the first a/deeper/3.webp",
        "1 line of metadata.jsonl with a `text` and a `caption`: `text` is taken",
        "1 image with an empty caption, the first a/2.JPG",
    ] {
        assert!(notices.contains(words), "{words}: {notices}");
    }
    fs::write(&table, b"{\"file_name\": \"a/1.png\",\n \"text\": \"ch\xe2t\"}").unwrap();
    let message = open().unwrap_err().to_string();
    assert!(message.contains("not UTF-8 in line 2"), "{message}");

    fs::remove_file(&table).unwrap();
    for name in ["a/1.txt", "a/2.TXT", "a/deeper/3.txt", "b/misnamed.txt"] {
        fs::write(root.path().join(name), "\u{feff}a cat\r\n").unwrap();
    }
    let folder = open().unwrap();
    assert_eq!(folder.classes(), ["a cat"]);
    assert!(folder.notices()[0].contains("2 files (1 .txt, 1 without ending)"), "{:?}", folder.notices());
    fs::write(root.path().join("a/1.TXT"), "a dog").unwrap();
    assert!(open().unwrap_err().to_string().contains("only one of them"));
}

#[test]
fn what_is_passed_over_is_told() {
    let root = fixture();
    for name in ["a/4.bmp", "a/5.BMP", "a/6.gif", "b/7.tiff", "loose.png"] {
        fs::write(root.path().join(name), "x").unwrap();
    }
    let notices = ImageFolder::open(root.path(), 4, OnBroken::Refuse).unwrap().notices();
    let of = |name: &str| root.path().join(name).display().to_string();
    assert_eq!(
        notices,
        [
            format!(
                "passed over 6 files (2 .bmp, 1 .gif, 1 .tiff, 1 .txt, 1 without ending), which end in none of .png, .jpg, \
             .jpeg and .webp, the first {}",
                of("a/4.bmp")
            ),
            "passed over 1 names that start with a dot".into(),
            format!("passed over 1 image in no class, the first {}", of("loose.png")),
        ]
    );
    // Of two readers each finds the same.
    let folder: Arc<dyn Dataset> = Arc::new(ImageFolder::open(root.path(), 4, OnBroken::Refuse).unwrap());
    assert_eq!(super::super::split(&folder, 1, 0).unwrap().0.notices(), notices);
}

#[test]
fn names_that_are_hardly_classes_are_told() {
    for (classes, words) in [
        (&["train", "val"][..], "`train`, `val` are taken for classes and look like parts of a data set"),
        (&["Test"], "`Test` are taken for classes"),
        (&["cats"], "`cats` is the only class"),
        (&["1", "10", "2"], "classes are ordered as text: `10` is label 1, `2` is label 2"),
    ] {
        let classes: Vec<String> = classes.iter().map(|&class| class.into()).collect();
        let told = odd_classes(Path::new("photos"), &classes).unwrap();
        assert!(told.contains(words), "{told}");
    }
    for classes in [["1", "2"], ["01", "10"], ["train", "cats"]] {
        assert_eq!(odd_classes(Path::new("photos"), &classes.map(String::from)), None);
    }
}

#[test]
fn random_squares_differ_between_positions_and_not_between_readings() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("a")).unwrap();
    let ramp = RgbImage::from_fn(64, 48, |x, y| Rgb([3 * x as u8, 5 * y as u8, 0]));
    ramp.save(root.path().join("a/ramp.png")).unwrap();
    let folder = || ImageFolder::open(root.path(), 16, OnBroken::Refuse).unwrap();
    let cropped = folder().with_random_crop(24).unwrap();
    let at = |position| {
        let square = |flip| cropped.variant(0, Variation { seed: 1, position, flip }).unwrap().pixels;
        assert_eq!(square(false), square(false));
        square(false)
    };
    let squares: Vec<_> = (0..20).map(at).collect();
    assert!((1..20).any(|i| squares[i] != squares[0]));
    assert_eq!(cropped.example(0).unwrap(), folder().example(0).unwrap(), "outside training the centre is taken");
    assert!(folder().with_random_crop(15).unwrap_err().to_string().contains("found 15"));
}

#[test]
fn a_broken_image_is_named_and_refused_or_replaced() {
    let root = fixture();
    let broken = root.path().join("a/2.JPG");
    let bytes = fs::read(&broken).unwrap();
    for damage in [&bytes[..20], &bytes[..bytes.len() / 10], &bytes[..bytes.len() - 9], b"", b"not an image at all"] {
        fs::write(&broken, damage).unwrap();
        let refuse = ImageFolder::open(root.path(), 4, OnBroken::Refuse).unwrap();
        let error = refuse.example(1).unwrap_err();
        assert!(matches!(&error, Error::Image { path, .. } if *path == broken), "{error}");
        assert!(error.to_string().contains("2.JPG"));

        let skip = ImageFolder::open(root.path(), 4, OnBroken::Skip).unwrap();
        assert_eq!([1, 0, 1].map(|i| value(&skip, i)), [30, 10, 30]);
        assert_eq!(skip.broken(), [broken.as_path()]);
        let lines = skip.remarks();
        assert!(lines[0].starts_with("1 image is broken"), "{lines:?}");
        assert!(lines[1].contains("2.JPG: ") && error.to_string().contains(lines[1].split("2.JPG: ").nth(1).unwrap()));
    }
    fs::write(root.path().join("a/deeper/3.webp"), b"").unwrap();
    let skip = ImageFolder::open(root.path(), 4, OnBroken::Skip).unwrap();
    assert_eq!([1, 2].map(|i| value(&skip, i)), [10, 10]);
    fs::write(root.path().join("b/misnamed.jpeg"), b"").unwrap();
    assert!(matches!(skip.example(3), Err(Error::AllBroken { class, count: 1, .. }) if class == "b"));
}

#[test]
fn a_broken_image_with_a_caption_is_replaced_by_the_next_one_and_its_caption() {
    let root = fixture();
    let all = ["a/1.png", "a/2.JPG", "a/deeper/3.webp", "b/misnamed.jpeg"];
    for (name, caption) in all.iter().zip(["a cat", "a dog", "an owl", "a bird"]) {
        fs::write(root.path().join(name).with_extension("txt"), caption).unwrap();
    }
    let open = || ImageFolder::captioned(root.path(), 4, OnBroken::Skip, CaptionFormat::Whole).unwrap();
    let damage = |name: &str| fs::write(root.path().join(name), "not an image at all").unwrap();
    // In the order of the captions: a bird, a cat, a dog, an owl.
    let shown = |folder: &ImageFolder| [0, 1, 2, 3].map(|i| (value(folder, i), folder.example(i).unwrap().label));
    let labels = |folder: &ImageFolder| [0, 1, 2, 3].map(|i| folder.label(i).unwrap());
    // Other files, and no other captions.
    let fingerprint = || Fingerprint { sizes: None, ..open().fingerprint().unwrap() };
    let before = fingerprint();
    for (name, expected) in [
        ("a/2.JPG", [(200, 0), (10, 1), (30, 3), (30, 3)]),
        // Behind the last one is the first.
        ("a/deeper/3.webp", [(200, 0), (10, 1), (200, 0), (200, 0)]),
    ] {
        damage(name);
        // Whoever is asked first.
        assert_eq!((shown(&open()), labels(&open())), (expected, expected.map(|(_, label)| label)));
        crate::testing::check_dataset(&open());
        assert_eq!(fingerprint(), before);
    }
    let folder = open();
    let seen = folder.variant(3, Variation { seed: 0, position: 0, flip: false }).unwrap();
    assert_eq!((seen.label, folder.broken().len()), (0, 1));
    assert!(folder.remarks()[0].starts_with("1 image is broken and was replaced by another with its caption"));
    all.iter().for_each(|name| damage(name));
    let error = open().example(1).unwrap_err().to_string();
    assert!(error.starts_with("all 4 images are broken, first `") && error.contains("misnamed.jpeg"), "{error}");
    assert!(ImageFolder::captioned(root.path(), 4, OnBroken::Refuse, CaptionFormat::Whole).unwrap().label(2).is_ok());
}

#[test]
fn what_is_not_in_the_pixels_is_told_once_for_each_image() {
    let root = fixture();
    let clear = image::RgbaImage::from_fn(9, 9, |x, _| image::Rgba([1, 2, 3, 28 * x as u8]));
    clear.save(root.path().join("a/1.png")).unwrap();
    let folder = ImageFolder::open(root.path(), 10, OnBroken::Refuse).unwrap();
    assert!(folder.remarks().is_empty());
    for index in [0, 3, 0, 1, 2] {
        folder.example(index).unwrap();
    }
    let lines = folder.remarks();
    assert!(lines[0].starts_with("1 image is partly transparent") && lines[0].ends_with("1.png"), "{lines:?}");
    assert!(lines[1].starts_with("4 images are smaller"), "{lines:?}");
    assert_eq!(lines.len(), 2);
}

#[test]
fn huge_headers_are_refused_before_memory_is_taken() {
    let root = fixture();
    // 2³¹ − 1 pixels each way, in an otherwise valid header.
    let path = root.path().join("b/misnamed.jpeg");
    let mut png = fs::read(&path).unwrap();
    png[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    let checksum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    fs::write(&path, png).unwrap();
    let folder = ImageFolder::open(root.path(), 4, OnBroken::Refuse).unwrap();
    let message = folder.example(3).unwrap_err().to_string();
    assert!(["2147483647 x 2147483647", "1024 MiB"].iter().all(|word| message.contains(word)), "{message}");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn unusable_directories_are_explained() {
    let root = fixture();
    let open = |path: &Path| ImageFolder::open(path, 4, OnBroken::Refuse).unwrap_err();
    assert!(matches!(open(&root.path().join("absent")), Error::Read { .. }));
    assert!(matches!(open(&root.path().join("README")), Error::Read { .. }));
    let message = open(&root.path().join("b")).to_string();
    assert!(message.contains("no classes in") && message.contains("2 files (1 .jpeg, 1 .txt)"), "{message}");
    fs::create_dir(root.path().join("c")).unwrap();
    fs::write(root.path().join("c/1.bmp"), "").unwrap();
    let message = open(root.path()).to_string();
    assert!(message.contains("/c`, which holds 1 file (1 .bmp);"), "{message}");
}

#[cfg(unix)]
#[test]
fn loops_dangling_links_and_names_that_are_not_text_are_errors() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    let root = fixture();
    let open = || ImageFolder::open(root.path(), 4, OnBroken::Refuse);
    symlink(root.path().join("a"), root.path().join("a/again")).unwrap();
    assert!(matches!(open(), Err(Error::Loop { path }) if path.ends_with("a/again")));
    fs::remove_file(root.path().join("a/again")).unwrap();

    symlink("4.png", root.path().join("a/4.png")).unwrap();
    assert!(matches!(open().unwrap().example(2), Err(Error::Image { path, .. }) if path.ends_with("4.png")));
    fs::remove_file(root.path().join("a/4.png")).unwrap();

    let name = OsStr::from_bytes(b"\xff\xfe.png");
    fs::rename(root.path().join("a/1.png"), root.path().join("a").join(name)).unwrap();
    assert_eq!(value(&open().unwrap(), 2), 10);
    fs::create_dir(root.path().join(name)).unwrap();
    assert!(matches!(open(), Err(Error::NotUtf8 { .. })));
}

/// Of six images, whose captions are told as often as they are weighted, whoever reads them.
#[test]
fn several_captions_are_told_in_turns_that_do_not_depend_on_who_reads() {
    let root = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (0..6)
        .map(|number| {
            RgbImage::from_pixel(4, 4, Rgb([40 * number; 3])).save(root.path().join(format!("{number}.png"))).unwrap();
            format!(r#"{{"file_name":"{number}.png","text":["a {number}","the  {number}"],"weights":[1,3]}}"#)
        })
        .collect();
    fs::write(root.path().join("metadata.jsonl"), lines.join("\n")).unwrap();
    let folder = ImageFolder::captioned(root.path(), 4, OnBroken::Refuse, CaptionFormat::Whole).unwrap();
    crate::testing::check_dataset(&folder);
    assert_eq!((folder.classes().len(), folder.len()), (12, Some(6)));
    assert_eq!(folder.classes()[..7], ["a 0", "a 1", "a 2", "a 3", "a 4", "a 5", "the 0"]);
    assert_eq!(folder.label(3).unwrap(), 3);
    let print = folder.fingerprint().unwrap();
    let data: Arc<dyn Dataset> = Arc::new(folder);
    let read = |config: LoaderConfig, count: usize| -> Vec<(usize, u8)> {
        let batches = Loader::new(data.clone(), config).unwrap().take(count).map(Result::unwrap);
        let images = |batch: Examples| -> Vec<(usize, u8)> {
            let levels = batch.pixels.chunks(48).map(|pixels| crate::data::Quantize::Sit.byte(pixels[0]) / 40);
            batch.labels.iter().copied().zip(levels).collect()
        };
        batches.flat_map(images).collect()
    };
    let config = LoaderConfig { seed: 4, batch: 6, workers: 0, ..LoaderConfig::default() };
    let told = read(config, 400);
    // Each image is told one of its own captions, the second of them three times as often: five standard deviations.
    assert!(told.iter().all(|(label, image)| label % 6 == usize::from(*image)));
    for image in 0..6 {
        let second = told.iter().filter(|(label, of)| *of == image && *label >= 6).count() as f64;
        assert!((second - 300.0).abs() < 5.0 * (400.0f64 * 0.25 * 0.75).sqrt(), "{second} of 400");
    }
    for (batch, workers, step) in [(6, 3, 0), (6, 2, 50), (12, 1, 25), (3, 0, 100)] {
        let config = LoaderConfig { batch, workers, step, ..config };
        let start = step as usize * batch;
        assert_eq!(read(config, 600 / batch), told[start..start + 600], "{config:?}");
    }
    assert_ne!(read(LoaderConfig { seed: 5, ..config }, 100), told[..600]);

    // Other weights are other data.
    fs::write(root.path().join("metadata.jsonl"), lines.join("\n").replace("[1,3]", "[1,2]")).unwrap();
    let other = ImageFolder::captioned(root.path(), 4, OnBroken::Refuse, CaptionFormat::Whole).unwrap();
    let difference = print.difference(&other.fingerprint().unwrap());
    assert_eq!(difference.unwrap(), "the same names, but other content");
}

#[test]
fn a_caption_of_several_lines_is_one_unless_it_is_asked_for_lines() {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in [("1", "a cat\non a mat\n"), ("2", "a dog")] {
        RgbImage::new(4, 4).save(root.path().join(name).with_extension("png")).unwrap();
        fs::write(root.path().join(name).with_extension("txt"), text).unwrap();
    }
    let open = |format| ImageFolder::captioned(root.path(), 4, OnBroken::Refuse, format).unwrap();
    let whole = open(CaptionFormat::Whole);
    assert_eq!(whole.classes(), ["a cat on a mat", "a dog"]);
    assert!(whole.example(0).unwrap().captions.is_empty() && whole.fingerprint().unwrap().content.is_none());
    let lines = open(CaptionFormat::Lines);
    assert_eq!(lines.classes(), ["a cat", "a dog", "on a mat"]);
    assert_eq!([0, 1].map(|index| lines.example(index).unwrap().captions), [vec![(0, 1.0), (2, 1.0)], vec![(1, 1.0)]]);
    // One that stands for a broken one is told its own.
    fs::write(root.path().join("2.txt"), "a cat\nasleep").unwrap();
    fs::write(root.path().join("1.png"), "broken").unwrap();
    let skipping = ImageFolder::captioned(root.path(), 4, OnBroken::Skip, CaptionFormat::Lines).unwrap();
    assert_eq!(skipping.classes(), ["a cat", "asleep", "on a mat"]);
    assert_eq!(skipping.example(0).unwrap().captions, [(0, 1.0), (1, 1.0)]);
}

#[test]
fn lists_of_captions_that_are_wrong_are_named() {
    let root = tempfile::tempdir().unwrap();
    RgbImage::new(4, 4).save(root.path().join("1.png")).unwrap();
    for (rest, words) in [
        (r#""text":[]"#, "are wrong in line 1: an empty list"),
        (r#""text":3"#, "are wrong in line 1: `3`; expected text, or a list of texts"),
        (r#""text":["a","b"],"weights":[1]"#, "in line 1: a list whose `weights` are not a number from 0 on"),
        (r#""text":["a","b\u0000"]"#, "hold zeros in line 1"),
    ] {
        fs::write(root.path().join("metadata.jsonl"), format!(r#"{{"file_name":"1.png",{rest}}}"#)).unwrap();
        let error =
            ImageFolder::captioned(root.path(), 4, OnBroken::Refuse, CaptionFormat::Whole).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
