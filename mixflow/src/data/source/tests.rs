use std::fs;
use std::io::Cursor;
use std::path::PathBuf;

use image::{ImageFormat, Rgb, RgbImage};

use super::*;

fn png(value: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(3, 2, Rgb([value; 3])).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Names, classes and brightness from `start` on.
fn all(source: &dyn Source, start: u64) -> Vec<(String, usize, u8)> {
    let value = |sample: &SourceImage| crate::data::Quantize::Sit.byte(sample.planes(2).unwrap()[0]);
    let samples = source.samples(start).unwrap().map(Result::unwrap);
    samples.map(|sample| (sample.name.clone(), sample.class, value(&sample))).collect()
}

/// Whatever the form, the same images from any number on.
fn assert_continues(source: &dyn Source) {
    let whole = all(source, 0);
    assert_eq!(whole.len() as u64, source.len());
    for start in 0..=whole.len() {
        assert_eq!(all(source, start as u64), whole[start..], "from {start} of {}", source.describe());
    }
}

#[test]
fn a_directory_gives_its_files_in_order() {
    let root = tempfile::tempdir().unwrap();
    for (name, value) in [("b/2.png", 30), ("a/1.png", 10), ("a/deeper/0.png", 20)] {
        fs::create_dir_all(root.path().join(name).parent().unwrap()).unwrap();
        fs::write(root.path().join(name), png(value)).unwrap();
    }
    let source = Directory::open(root.path()).unwrap();
    let expected = [("a/1.png", 0, 10), ("a/deeper/0.png", 0, 20), ("b/2.png", 1, 30)];
    assert_eq!(all(&source, 0), expected.map(|(name, class, value)| (name.to_owned(), class, value)));
    assert_continues(&source);
}

fn tar(path: &Path, members: &[(&str, &[u8])]) {
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    archive.finish().unwrap();
}

#[test]
fn captions_stand_beside_their_images() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("0.tar");
    let read = |members: &[(&str, &[u8])]| {
        tar(&path, members);
        let options = Options { captions: true, ..Options::default() };
        open(std::slice::from_ref(&path), &options)
    };
    // As img2dataset writes them: .txt counts where there are both.
    let source = read(&[
        ("000.jpg", &png(10)),
        ("000.json", br#"{"text": null, "caption": "of the json", "key": "000", "width": 3}"#),
        ("000.txt", "two  gr\u{fc}ne cats\n".as_bytes()),
        ("001.json", br#"{"text": "a dog"}"#),
        ("001.png", &png(20)),
        ("002.png", &png(30)),
        ("002.cls", b"7"),
        ("002.txt", "two gr\u{fc}ne cats".as_bytes()),
    ])
    .unwrap();
    assert_eq!(source.classes(), ["a dog", "two gr\u{fc}ne cats"]);
    assert_eq!(all(&*source, 0).iter().map(|(_, class, _)| *class).collect::<Vec<_>>(), [1, 0, 1]);
    assert_continues(&*source);
    assert!(source.notices()[0].contains("passed over 1 members"), "{:?}", source.notices());
    // A .json that is wrong does no harm where there is a .txt, before or behind it.
    let wrong = br#"{"caption": 3}"#;
    let source = read(&[
        ("1.json", &wrong[..]),
        ("1.png", &png(10)),
        ("1.txt", b"a bird"),
        ("2.png", &png(20)),
        ("2.txt", b" \n"),
        ("2.json", b"{"),
        ("3.png", &png(30)),
        ("3.json", br#"{"text": "a dog", "caption": "of the json"}"#),
        ("4.json", br#"{"text": "a dog", "caption": "of the json"}"#),
        ("4.png", &png(40)),
        ("4.txt", b"a cat"),
    ])
    .unwrap();
    assert_eq!(source.classes(), ["", "a bird", "a cat", "a dog"]);
    assert_eq!(all(&*source, 0).iter().map(|(_, class, _)| *class).collect::<Vec<_>>(), [1, 0, 3, 2]);
    assert_eq!(
        source.notices(),
        [
            "1 .json file with a `text` and a `caption`: `text` is taken",
            "1 image with an empty caption, the first 0.tar/2.png"
        ]
    );
    for (members, words) in [
        (&[("1.png", &png(1)[..]), ("1.json", wrong)][..], "`1.json` is no caption but `3`; expected text"),
        (&[("1.png", &png(1)), ("1.json", b"{")], "`1.json` is no caption but JSON that is wrong"),
        (&[("1.png", &png(1)), ("1.json", br#"{"text": "a\u0000b"}"#)], "`1.json` is no caption but text with zeros"),
        (&[("1.png", &png(1)), ("1.txt", b"\na\0b")], "`1.txt` is no caption but text with zeros"),
        (&[("1.png", &png(1)), ("1.txt", b"a\n\xe4")], "text that is not UTF-8 in line 2"),
        (&[("1.png", &png(1)[..]), ("1.cls", b"1")], "sample `1` has no caption; add `1.txt` right behind its image"),
        (&[("1.png", &png(1)), ("1.json", b"{}")], "has no caption"),
        (&[("1.txt", b"a dog")], "sample `1` has no image"),
        (&[("1.png", &png(1)), ("1.txt", b"\xff\xfe")], "`1.txt` is no caption but text that is not UTF-8"),
        (
            &[("1.png", &png(1)), ("1.json", br#"{"caption": ["a", 3]}"#)],
            "is no caption but `[\"a\",3]`; expected text, or a list of texts",
        ),
        (
            &[("1.png", &png(1)), ("1.json", br#"{"caption": ["a", "b"], "weights": [1]}"#)],
            "`1.json` is no caption but a list whose `weights` are not a number",
        ),
    ] {
        let error = read(members).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    let several = [
        ("1.png", &png(1)[..]),
        ("1.json", br#"{"text": ["a dog", "my dog"], "weights": [1, 3]}"#),
        ("2.png", &png(2)),
        ("2.txt", b"two\nlines"),
    ];
    tar(&path, &several);
    for (format, classes, of) in [
        (CaptionFormat::Whole, &["a dog", "my dog", "two lines"][..], vec![(2, 1.0)]),
        (CaptionFormat::Lines, &["a dog", "lines", "my dog", "two"], vec![(3, 1.0), (1, 1.0)]),
    ] {
        let options = Options { captions: true, caption_format: format, ..Options::default() };
        let source = open(std::slice::from_ref(&path), &options).unwrap();
        assert!(source.classes() == classes && source.several_captions());
        let entries = source.entries().unwrap();
        let mine = classes.iter().position(|class| *class == "my dog").unwrap();
        assert_eq!(entries[0].captions, [(0, 1.0), (mine, 3.0)]);
        assert_eq!((entries[1].class, &entries[1].captions), (of[0].0, &of));
        assert!(source.notices().is_empty(), "{:?}", source.notices());
    }

    fs::write(root.path().join("1.png"), png(5)).unwrap();
    fs::write(root.path().join("1.txt"), "a dog").unwrap();
    let options = Options { captions: true, ..Options::default() };
    let folder = open(&[root.path().into()], &options).unwrap();
    assert_eq!((folder.classes(), folder.len()), (&["a dog".to_owned()][..], 1));
    let named = Options { classes: Some(vec![]), ..options };
    assert!(open(&[root.path().into()], &named).unwrap_err().to_string().contains("captions are the classes"));
}

#[test]
fn members_of_one_name_are_a_sample() {
    let root = tempfile::tempdir().unwrap();
    let paths = ["0.tar", "1.tar"].map(|name| root.path().join(name));
    let long = format!("{}/7.png", "folder".repeat(30));
    let mut broken = png(0);
    broken.truncate(40);
    tar(
        &paths[0],
        &[
            ("README", b"no sample"),
            ("x/1.jpg", &png(10)),
            ("x/1.cls", b" 2\n"),
            ("x/1.txt", b"a caption"),
            ("2.json", br#"{"label": 0, "width": 3}"#),
            ("2.PNG", &png(20)),
        ],
    );
    tar(&paths[1], &[(&long, &png(30)), (&long.replace("png", "cls"), b"1"), ("3.cls", b"0"), ("3.webp", &broken)]);
    let source = WebDataset::open(&paths[..], None).unwrap();
    assert_eq!((source.len(), source.classes()), (4, &["0", "1", "2"].map(str::to_owned)[..]));
    let last = source.samples(3).unwrap().next().unwrap().unwrap();
    assert!(last.planes(2).unwrap_err().to_string().contains("1.tar/3.webp"));

    let named = |classes: &[&str]| WebDataset::open(&paths[..1], Some(classes.iter().map(|&c| c.into()).collect()));
    let source = named(&["cat", "dog", "owl"]).unwrap();
    assert_eq!(all(&source, 0), [("0.tar/x/1.jpg".into(), 2, 10), ("0.tar/2.PNG".into(), 0, 20)]);
    assert_continues(&source);
    assert!(named(&["cat", "dog"]).unwrap_err().to_string().contains("`x/1` has class 2; expected less than 2"));
}

#[test]
fn folders_archives_and_evaluation_see_the_same_pixels() {
    use crate::data::{Dataset, ImageFolder, OnBroken, center_crop, to_planes};
    use crate::files::images::ImageSource;

    let file = crate::files::decode::tests::file;
    for name in ["orientation-6.jpg", "cmyk.jpg", "rgba-16.png", "palette-transparent.png", "animated-lossy.webp"] {
        let (root, bytes) = (tempfile::tempdir().unwrap(), file(name));
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("a").join(name), &bytes).unwrap();
        fs::write(root.path().join("a").join(name).with_extension("txt"), "a caption").unwrap();
        let archive = root.path().join("a.tar");
        tar(&archive, &[(name, &bytes), (&name.replace(name.rsplit('.').next().unwrap(), "cls"), b"0")]);

        let expected = ImageFolder::open(root.path(), 12, OnBroken::Refuse).unwrap().example(0).unwrap().pixels;
        let captions = ImageFolder::captioned(root.path(), 12, OnBroken::Refuse, CaptionFormat::Whole).unwrap();
        assert_eq!(captions.example(0).unwrap().pixels, expected, "{name}");
        let sources: [Box<dyn Source>; 2] =
            [Box::new(Directory::open(root.path()).unwrap()), Box::new(WebDataset::open(&[archive], None).unwrap())];
        for source in sources {
            let sample = source.samples(0).unwrap().next().unwrap().unwrap();
            assert_eq!(sample.planes(12).unwrap(), expected, "{name} of {}", source.describe());
        }
        let image = ImageSource::open(root.path()).unwrap().next().unwrap().unwrap();
        let [height, width, _] = image.shape.map(|side| side as u32);
        let image = RgbImage::from_raw(width, height, image.bytes).unwrap();
        assert_eq!(to_planes(&center_crop(&image, 12)), expected, "{name}");
    }
}

#[test]
fn archives_that_are_not_as_they_must_be_are_explained() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.tar");
    let (one, open) = (png(1), || WebDataset::open(&[PathBuf::from(&path)], None).unwrap_err().to_string());
    for (members, word) in [
        (&[][..], "no samples"),
        (&[("a.png", &one[..])], "`a` has no class"),
        (&[("a.png", &one), ("b.cls", b"0")], "`a` has no class"),
        (&[("a.cls", b"0")], "`a` has no image"),
        (&[("a.png", &one), ("a.cls", b"cat")], "`a.cls` is no class"),
        (&[("a.png", &one), ("a.cls", b"-1")], "`a.cls` is no class"),
        (&[("a.png", &one), ("a.cls", b"99999999999")], "expected less than"),
        (&[("a.png", &one), ("a.jpg", &one), ("a.cls", b"0")], "two images"),
        (&[("a.cls", b"0"), ("a.json", br#"{"label": 1}"#), ("a.png", &one)], "two classes"),
    ] {
        tar(&path, members);
        assert!(open().contains(word), "{word}: {}", open());
    }
    tar(&path, &[("a.cls", b"0"), ("a.png", &one)]);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..1024 + 512 + one.len() - 1]).unwrap();
    assert!(open().contains("`a.png` ends beyond"), "{}", open());
    fs::remove_file(&path).unwrap();
    assert!(open().contains("a.tar"));
}

/// A sample of an image and a class.
fn sample<'a>(image: &'a [u8], names: [&'a str; 2]) -> [(&'a str, &'a [u8]); 2] {
    [(names[0], image), (names[1], b"0\r\n")]
}

/// What is said of an archive, which nothing in a message may move the cursor for.
#[track_caller]
fn refused(path: &Path) -> String {
    let message = WebDataset::open(&[path.into()], None).unwrap_err().to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
    message
}

#[test]
fn an_archive_cut_anywhere_is_never_a_smaller_one() {
    let root = tempfile::tempdir().unwrap();
    let (path, one) = (root.path().join("a.tar"), png(1));
    tar(&path, &[sample(&one, ["a.png", "a.cls"]), sample(&one, ["b.png", "b.cls"])].concat());
    let whole = fs::read(&path).unwrap();
    // Four members of a header and a block each, and two blocks of zeros at least.
    assert!(whole.len() >= 10 * 512 && one.len() <= 512);
    for blocks in 1..=8 {
        fs::write(&path, &whole[..blocks * 512]).unwrap();
        let message = refused(&path);
        assert!(["no end mark", "ends beyond", "has no class"].iter().any(|word| message.contains(word)), "{message}");
    }
    // One block of zeros ends it for every reader.
    fs::write(&path, &whole[..9 * 512]).unwrap();
    assert_eq!(WebDataset::open(std::slice::from_ref(&path), None).unwrap().len(), 2);
    fs::write(&path, [&whole[..], &whole[..]].concat()).unwrap();
    assert!(refused(&path).contains("goes on behind its end"), "{}", refused(&path));
}

#[test]
fn what_is_no_archive_is_called_what_it_is() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.tar");
    tar(&path, &sample(&png(1), ["a.png", "a.cls"]));
    let mut gzip = flate2::read::GzEncoder::new(fs::File::open(&path).unwrap(), flate2::Compression::fast());
    let mut compressed = vec![];
    gzip.read_to_end(&mut compressed).unwrap();
    for (bytes, word) in [
        (&compressed[..], "is packed by gzip"),
        (b"\x28\xb5\x2f\xfd\x04\x00", "is packed by Zstandard"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"<!doctype html><html>", "is a web page"),
        (&b"\x07\x1b[2J no archive at all \x9b".repeat(30), "a.tar"),
    ] {
        fs::write(&path, bytes).unwrap();
        assert!(refused(&path).contains(word), "{word}: {}", refused(&path));
        let message = open(std::slice::from_ref(&path), &Options::default()).unwrap_err().to_string();
        assert!(message.contains(word), "{word}: {message}");
    }
    fs::rename(&path, root.path().join("a.tar.gz")).unwrap();
    let message = open(&[root.path().join("a.tar.gz")], &Options::default()).unwrap_err().to_string();
    assert!(message.contains("decompress"), "{message}");
}

#[test]
fn members_that_make_no_sample_are_named() {
    let root = tempfile::tempdir().unwrap();
    let (path, one) = (root.path().join("a.tar"), png(1));
    for (members, words) in [
        (&[("k.input.jpg", &one[..]), ("k.cls", b"0")][..], &["`k` has no image", "`k.input.jpg`", "first dot"][..]),
        (&[("k.input.jpg", &one)], &["`k.input.jpg`", "name it `k.jpg`"]),
        (&[("k.png", &one), ("k.cls", b"cat\n")], &["`k.cls` is no class but `cat`"]),
        (&[("k.png", &one), ("k.cls", b"1.5")], &["`k.cls` is no class but `1.5`"]),
        (&[("k.png", &one), ("k.json", br#"{"label": "cat"}"#)], &["`k.json`", "`\"cat\"`", "an integer"]),
        (&[("k.png", &one), ("k.json", br#"{"label": -3}"#)], &["`k.json`", "`-3`"]),
        (
            &[("k.png", &one), ("k.json", br#"{"label": 1, "class": 2}"#)],
            &["`k.json`", "the label `1` and the class `2`"],
        ),
        (&[("k.png", &one), ("k.json", br#"{"label": 1, "label": 2}"#)], &["`k.json`", "`label` is there twice"]),
        (&[("k.png", &one), ("k.json", br#"{"label": 1"#)], &["`k.json`", "JSON that is wrong"]),
        (&[("k.png", &one), ("l.png", &one), ("k.cls", b"0")], &["`k.cls` right behind its image", "--sort=name"]),
        (&[("k.png", &one), ("k.cls", b"\x1b[31m\xff")], &["`\\u{1b}[31m"]),
        (&[("\x1b[2J.png", &one)], &["`\\u{1b}[2J` has no class"]),
        (
            &[("k.png", &one), ("k.cls", b"0"), ("l.png", &one), ("l.cls", b"0"), ("k.png", &one), ("k.cls", b"0")],
            &["`k.png` is there twice"],
        ),
    ] {
        tar(&path, members);
        let message = refused(&path);
        assert!(words.iter().all(|word| message.contains(word)), "{words:?}: {message}");
    }

    let link = |kind| {
        let mut archive = tar::Builder::new(fs::File::create(&path).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        archive.append_link(&mut header, "k.png", "other.png").unwrap();
        archive.finish().unwrap();
        refused(&path)
    };
    assert!(link(tar::EntryType::Symlink).contains("`k.png` is a link"));
    assert!(link(tar::EntryType::Link).contains("--hard-dereference"));
}

#[test]
fn marks_line_ends_and_more_members_do_no_harm() {
    let root = tempfile::tempdir().unwrap();
    let (path, one) = (root.path().join("A.TAR"), png(1));
    tar(
        &path,
        &[
            ("._k.png", b"of a Mac"),
            ("k.png", &one),
            ("k.cls", b"\xef\xbb\xbf2\r\n"),
            ("k.seg.png", b"a mask"),
            ("k.txt", b"a caption"),
            ("\u{e4}/k.jpeg", &one),
            ("\u{e4}/k.json", b"\xef\xbb\xbf{\"label\": 0, \"class\": 0}"),
        ],
    );
    let source = open(std::slice::from_ref(&path), &Options::default()).unwrap();
    assert_eq!(all(&*source, 0), [("A.TAR/k.png".into(), 2, 1), ("A.TAR/\u{e4}/k.jpeg".into(), 0, 1)]);
    assert_eq!(
        source.notices(),
        [
            "passed over 2 members that are no image and no class, the first A.TAR/k.seg.png",
            "passed over 1 members whose names begin with a dot",
            "1 of 3 classes have no image: 1"
        ]
    );
    let twice = open(&[path.clone(), root.path().join("more").join("A.TAR")], &Options::default());
    assert!(twice.unwrap_err().to_string().contains("given twice"));
    let columns = Options { image_column: Some("img".into()), ..Options::default() };
    assert!(open(&[path], &columns).unwrap_err().to_string().contains(".parquet"));
}

#[cfg(feature = "parquet")]
mod shards;
