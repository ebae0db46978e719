#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

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
    let value = |sample: &Sample| crate::data::Quantize::Sit.byte(sample.planes(2).unwrap()[0]);
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
    use crate::data::{Dataset, Folder, OnBroken, center_crop, to_planes};
    use crate::images::ImageSource;

    let file = crate::data::decode::tests::file;
    for name in ["orientation-6.jpg", "cmyk.jpg", "rgba-16.png", "palette-transparent.png", "animated-lossy.webp"] {
        let (root, bytes) = (tempfile::tempdir().unwrap(), file(name));
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("a").join(name), &bytes).unwrap();
        fs::write(root.path().join("a").join(name).with_extension("txt"), "a caption").unwrap();
        let archive = root.path().join("a.tar");
        tar(&archive, &[(name, &bytes), (&name.replace(name.rsplit('.').next().unwrap(), "cls"), b"0")]);

        let expected = Folder::open(root.path(), 12, OnBroken::Refuse).unwrap().example(0).unwrap().pixels;
        let captions = Folder::captioned(root.path(), 12, OnBroken::Refuse).unwrap();
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

#[cfg(feature = "parquet")]
mod shards {
    use std::sync::Arc;

    use ::parquet::basic::Compression;
    use ::parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use ::parquet::file::properties::WriterProperties;
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;

    use super::*;

    const SCHEMA: &str = "message schema {
        OPTIONAL group image { OPTIONAL BYTE_ARRAY bytes; OPTIONAL BYTE_ARRAY path (UTF8); }
        OPTIONAL INT64 label; OPTIONAL INT64 more;
    }";

    /// A shard whose row groups have these brightnesses; the label is the brightness modulo three.
    fn write(path: &Path, compression: Compression, groups: &[&[u8]]) {
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
        let mut file = SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, properties).unwrap();
        for values in groups {
            let mut group = file.next_row_group().unwrap();
            let images: Vec<ByteArray> = values.iter().map(|&value| png(value).into()).collect();
            let paths: Vec<ByteArray> = values.iter().map(|_| "n.png".into()).collect();
            let labels: Vec<i64> = values.iter().map(|&value| i64::from(value) % 3).collect();
            for column in 0..4 {
                let mut writer = group.next_column().unwrap().unwrap();
                match column {
                    0 | 1 => {
                        let values = if column == 0 { &images } else { &paths };
                        writer.typed::<ByteArrayType>().write_batch(values, Some(&vec![2; values.len()]), None).unwrap()
                    }
                    _ => writer.typed::<Int64Type>().write_batch(&labels, Some(&vec![1; labels.len()]), None).unwrap(),
                };
                writer.close().unwrap();
            }
            group.close().unwrap();
        }
        file.close().unwrap();
    }

    #[test]
    fn rows_come_in_order_from_any_on() {
        let root = tempfile::tempdir().unwrap();
        let paths = ["0.parquet", "1.parquet"].map(|name| root.path().join(name));
        write(&paths[0], Compression::SNAPPY, &[&[1, 2, 3], &[4, 5]]);
        write(&paths[1], Compression::ZSTD(::parquet::basic::ZstdLevel::default()), &[&[6], &[7, 8]]);
        let source = Parquet::open(&paths, None).unwrap();
        assert_eq!((source.len(), source.classes().len()), (8, 3));
        assert_eq!(
            all(&source, 4),
            [("0.parquet/4", 2, 5), ("1.parquet/0", 0, 6), ("1.parquet/1", 1, 7), ("1.parquet/2", 2, 8)]
                .map(|(name, class, value)| (name.to_owned(), class, value))
        );
        assert_continues(&source);
        let few = Parquet::open(&paths, Some(vec!["a".into(), "b".into()])).unwrap_err().to_string();
        assert!(few.contains("row 1 has label 2; expected from 0 to 1"), "{few}");
        fs::write(&paths[1], b"PAR1 no parquet PAR1").unwrap();
        assert!(Parquet::open(&paths, None).unwrap_err().to_string().contains("1.parquet"));
    }
}
