use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ::parquet::basic::Compression;
use ::parquet::column::writer::ColumnWriter;
use ::parquet::data_type::ByteArray;
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use super::*;
use crate::data::OnBroken;
use crate::data::latents::{
    Contents, EncodeConfig, EncodeOutcome, EncodedBatch, ImageBatch, Origin, StoragePrecision, Writer, encode_dataset,
};

/// What stands in a column; none are nulls.
enum Column<'a> {
    Bytes(Vec<Option<Vec<u8>>>),
    Long(&'a [Option<i64>]),
    Int(&'a [Option<i32>]),
    Bool(&'a [Option<bool>]),
    Double(&'a [Option<f64>]),
    /// Lists of these.
    Texts(&'a [&'a [&'a str]]),
    Doubles(&'a [&'a [f64]]),
}

/// Definition and repetition levels of lists of that many.
fn levels(lengths: impl Iterator<Item = usize>) -> (Vec<i16>, Vec<i16>) {
    let of = |length: usize| (0..length.max(1)).map(move |at| (if length == 0 { 1 } else { 3 }, i16::from(at > 0)));
    lengths.flat_map(of).unzip()
}

fn text(values: &[&str]) -> Column<'static> {
    Column::Bytes(values.iter().map(|value| Some(value.as_bytes().to_vec())).collect())
}

fn pngs(values: &[u8]) -> Column<'static> {
    Column::Bytes(values.iter().map(|&value| Some(png(value))).collect())
}

/// A shard of a schema, whose groups of rows have these columns, all of which are optional.
fn write(path: &Path, schema: &str, about: Option<&str>, groups: &[Vec<Column<'_>>]) {
    let schema = Arc::new(parse_message_type(&format!("message schema {{ {schema} }}")).unwrap());
    let pairs = about.map(|about| vec![KeyValue::new("huggingface".into(), about.to_owned())]);
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).set_key_value_metadata(pairs);
    let file = fs::File::create(path).unwrap();
    let mut file = SerializedFileWriter::new(file, schema, Arc::new(properties.build())).unwrap();
    for columns in groups {
        let mut group = file.next_row_group().unwrap();
        for column in columns {
            let mut writer = group.next_column().unwrap().unwrap();
            macro_rules! put {
                ($writer:expr, $values:expr) => {{
                    let most = $writer.get_descriptor().max_def_level();
                    let levels: Vec<_> =
                        $values.iter().map(|value| if value.is_some() { most } else { most - 1 }).collect();
                    let values: Vec<_> = $values.iter().flatten().cloned().collect();
                    $writer.write_batch(&values, Some(&levels), None).unwrap();
                }};
            }
            match (writer.untyped(), column) {
                (ColumnWriter::ByteArrayColumnWriter(writer), Column::Bytes(values)) => {
                    let values: Vec<Option<ByteArray>> =
                        values.iter().map(|value| value.clone().map(ByteArray::from)).collect();
                    put!(writer, values);
                }
                (ColumnWriter::Int64ColumnWriter(writer), Column::Long(values)) => put!(writer, values),
                (ColumnWriter::Int32ColumnWriter(writer), Column::Int(values)) => put!(writer, values),
                (ColumnWriter::BoolColumnWriter(writer), Column::Bool(values)) => put!(writer, values),
                (ColumnWriter::DoubleColumnWriter(writer), Column::Double(values)) => put!(writer, values),
                (ColumnWriter::ByteArrayColumnWriter(writer), Column::Texts(lists)) => {
                    let values: Vec<ByteArray> = lists.iter().copied().flatten().map(|text| (*text).into()).collect();
                    let (defined, repeated) = levels(lists.iter().map(|list| list.len()));
                    writer.write_batch(&values, Some(&defined), Some(&repeated)).unwrap();
                }
                (ColumnWriter::DoubleColumnWriter(writer), Column::Doubles(lists)) => {
                    let (defined, repeated) = levels(lists.iter().map(|list| list.len()));
                    writer.write_batch(&lists.concat(), Some(&defined), Some(&repeated)).unwrap();
                }
                _ => panic!("the schema has another column"),
            }
            writer.close().unwrap();
        }
        group.close().unwrap();
    }
    file.close().unwrap();
}

const IMAGE: &str = "OPTIONAL group image { OPTIONAL BYTE_ARRAY bytes; OPTIONAL BYTE_ARRAY path (UTF8); }";

/// A group of rows of images of these brightnesses, with labels.
fn group<'a>(values: &[u8], labels: Column<'a>) -> Vec<Column<'a>> {
    vec![pngs(values), text(&vec!["n.png"; values.len()]), labels]
}

fn shard(path: &Path) -> Result<Parquet, Error> {
    Parquet::open(&[path.into()], &Options::default())
}

fn named(names: &[&str]) -> Options {
    Options { classes: Some(names.iter().map(|&name| name.into()).collect()), ..Options::default() }
}

#[test]
fn rows_come_in_order_from_any_on() {
    let root = tempfile::tempdir().unwrap();
    let paths = ["0.parquet", "1.PARQUET"].map(|name| root.path().join(name));
    let schema = format!("{IMAGE} OPTIONAL INT64 label;");
    let (first, second) = ([Some(1), Some(2), Some(0)], [Some(1), Some(2)]);
    write(&paths[0], &schema, None, &[group(&[1, 2, 3], Column::Long(&first)), group(&[4, 5], Column::Long(&second))]);
    write(&paths[1], &schema, None, &[group(&[6], Column::Long(&[Some(0)])), group(&[7, 8], Column::Long(&second))]);
    let source = open(&paths, &Options::default()).unwrap();
    assert_eq!((source.len(), source.classes().len()), (8, 3));
    assert_eq!(
        all(&*source, 4),
        [("0.parquet/4", 2, 5), ("1.PARQUET/0", 0, 6), ("1.PARQUET/1", 1, 7), ("1.PARQUET/2", 2, 8)]
            .map(|(name, class, value)| (name.to_owned(), class, value))
    );
    assert_continues(&*source);
    let few = Parquet::open(&paths, &named(&["a", "b"])).unwrap_err().to_string();
    assert!(few.contains("row 1 has label 2; expected from 0 to 1"), "{few}");
    fs::write(&paths[1], b"PAR1 no parquet PAR1").unwrap();
    assert!(Parquet::open(&paths, &Options::default()).unwrap_err().to_string().contains("1.PARQUET"));
}

#[test]
fn labels_may_be_any_integer_or_text() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.parquet");
    let values = [Some(1), Some(0)];
    for (column, labels, classes) in [
        ("INT32 label", Column::Int(&values), ["0", "1"]),
        ("INT32 label (INTEGER(8, true))", Column::Int(&values), ["0", "1"]),
        ("INT32 label (INTEGER(8, false))", Column::Int(&values), ["0", "1"]),
        ("INT32 label (INTEGER(16, true))", Column::Int(&values), ["0", "1"]),
        ("BOOLEAN label", Column::Bool(&[Some(true), Some(false)]), ["0", "1"]),
        ("BYTE_ARRAY label (UTF8)", text(&["owl", "cat"]), ["cat", "owl"]),
        ("BYTE_ARRAY label", text(&["owl", "cat"]), ["cat", "owl"]),
    ] {
        write(&path, &format!("{IMAGE} OPTIONAL {column};"), None, &[group(&[10, 20], labels)]);
        let source = shard(&path).unwrap();
        assert_eq!(source.classes(), classes, "{column}");
        assert_eq!(all(&source, 0), [("a.parquet/0".into(), 1, 10), ("a.parquet/1".into(), 0, 20)], "{column}");
    }
    // Given names order them.
    let schema = format!("{IMAGE} OPTIONAL BYTE_ARRAY label (UTF8);");
    write(&path, &schema, None, &[group(&[10, 20], text(&["owl", "cat"]))]);
    let source = Parquet::open(std::slice::from_ref(&path), &named(&["owl", "dog", "cat"])).unwrap();
    assert_eq!(all(&source, 0).iter().map(|(_, class, _)| *class).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(source.notices(), ["1 of 3 classes have no image: dog"]);
}

#[test]
fn rows_without_label_or_image_are_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.parquet");
    let (long, bytes) = (format!("{IMAGE} OPTIONAL INT64 label;"), "OPTIONAL BYTE_ARRAY image; OPTIONAL INT64 label;");
    let one: &[Option<i64>] = &[Some(0)];
    for (schema, columns, words) in [
        (&long[..], group(&[1, 2], Column::Long(&[Some(0), None])), &["row 1 has no label"][..]),
        (&long, group(&[1], Column::Long(&[Some(-1)])), &["row 0 has label -1", "leave this file out"]),
        (&long, group(&[1], Column::Long(&[Some(1 << 40)])), &["label 1099511627776"]),
        (&format!("{IMAGE} OPTIONAL DOUBLE label;"), group(&[1], Column::Double(&[Some(0.5)])), &["label 0.5"]),
        (
            &format!("{IMAGE} OPTIONAL INT64 other;"),
            group(&[1], Column::Long(one)),
            &["lacks the column label", "has image, other", "--label-column"],
        ),
        (bytes, vec![Column::Bytes(vec![None]), Column::Long(one)], &["a.parquet/0", "no bytes", "--on-broken skip"]),
        (
            &format!("{long} OPTIONAL INT64 label;"),
            [group(&[1], Column::Long(one)), vec![Column::Long(&[Some(1)])]].into_iter().flatten().collect(),
            &["2 columns label", "rename"],
        ),
        (&format!("{IMAGE} OPTIONAL BYTE_ARRAY label (UTF8);"), group(&[1], text(&[""])), &["row 0", "empty label"]),
        (
            "OPTIONAL BYTE_ARRAY image (UTF8); OPTIONAL INT64 label;",
            vec![text(&["a.png"]), Column::Long(one)],
            &["a.parquet/0", "text"],
        ),
        (
            &format!("{IMAGE} OPTIONAL BYTE_ARRAY label;"),
            group(&[1], Column::Bytes(vec![Some(vec![255])])),
            &["label of bytes"],
        ),
    ] {
        write(&path, schema, None, &[columns]);
        let message = match shard(&path) {
            Ok(source) => source.samples(0).unwrap().find_map(Result::err).unwrap(),
            Err(error) => error,
        };
        let message = message.to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{words:?}: {message}");
    }
    // Plain bytes are images too.
    write(&path, bytes, None, &[vec![pngs(&[7]), Column::Long(one)]]);
    assert_eq!(all(&shard(&path).unwrap(), 0), [("a.parquet/0".into(), 0, 7)]);
}

#[test]
fn a_row_without_an_image_is_one_broken_image() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.parquet");
    let images = Column::Bytes(vec![Some(png(10)), None, Some(png(30))]);
    let columns = vec![images, Column::Long(&[Some(0); 3])];
    write(&path, "OPTIONAL BYTE_ARRAY image; OPTIONAL INT64 label;", None, &[columns]);
    let source = shard(&path).unwrap();
    let origin = Origin { name: "means".into(), sha256: "00".repeat(32) };
    let contents = Contents {
        shape: [1, 1, 1],
        precision: StoragePrecision::F32,
        deviation: false,
        flipped: false,
        normalised: true,
        image_size: 2,
        buckets: None,
        masked: false,
        several_captions: false,
        classes: source.classes().to_vec(),
        autoencoder: origin,
        features: vec![],
        source: source.describe(),
        shard_examples: 2,
    };
    let encode = |on_broken| {
        let writer = Writer::open(&root.path().join(format!("{on_broken:?}")), contents.clone()).unwrap();
        let first = |images: ImageBatch| EncodedBatch {
            mean: images.pixels.chunks(12).map(|image| image[0]).collect(),
            deviation: None,
            features: vec![],
            mask: None,
        };
        let config = EncodeConfig { batch: 2, on_broken };
        match encode_dataset(&source, config, writer, &AtomicBool::new(false), vec![first], |_| {})? {
            EncodeOutcome::Finished(manifest) => Ok::<_, crate::Error>(*manifest),
            EncodeOutcome::Interrupted => panic!("nobody asked to stop"),
        }
    };
    let manifest = encode(OnBroken::Skip).unwrap();
    assert_eq!((manifest.examples(), manifest.broken), (2, vec!["a.parquet/1".to_string()]));
    let error = encode(OnBroken::Refuse).unwrap_err().to_string();
    assert!(error.contains("a.parquet/1") && error.contains("--on-broken skip"), "{error}");
}

#[test]
fn metadata_name_classes_and_columns() {
    let root = tempfile::tempdir().unwrap();
    let paths = ["0.parquet", "1.parquet"].map(|name| root.path().join(name));
    let about = |names: &str| {
        format!(
            r#"{{"info": {{"features": {{"image": {{"_type": "Image"}},
            "sort": {{"names": {names}, "_type": "ClassLabel"}}}}}}}}"#
        )
    };
    let schema = format!("{IMAGE} OPTIONAL INT64 sort; OPTIONAL INT64 other;");
    let both = |labels| {
        let mut columns = group(&[10, 20], Column::Long(labels));
        columns.push(Column::Long(&[Some(1), Some(1)]));
        columns
    };
    write(&paths[0], &schema, Some(&about(r#"["cat", "owl"]"#)), &[both(&[Some(1), Some(0)])]);
    let source = shard(&paths[0]).unwrap();
    assert_eq!((source.classes(), all(&source, 0)[0].1), (&["cat".to_owned(), "owl".into()][..], 1));
    let other = Options { label_column: Some("other".into()), ..Options::default() };
    let source = Parquet::open(&paths[..1], &other).unwrap();
    assert_eq!((source.classes().len(), all(&source, 0)[1].1), (2, 1));
    let missing = Options { image_column: Some("picture".into()), ..Options::default() };
    let message = Parquet::open(&paths[..1], &missing).unwrap_err().to_string();
    assert!(message.contains("lacks the column picture, and has image, sort, other"), "{message}");

    write(&paths[1], &schema, Some(&about(r#"["owl", "cat"]"#)), &[both(&[Some(1), Some(0)])]);
    let message = Parquet::open(&paths, &Options::default()).unwrap_err().to_string();
    assert!(message.contains("other classes than those of") && message.contains("--classes"), "{message}");
    assert_eq!(Parquet::open(&paths, &named(&["a", "b"])).unwrap().len(), 4);
    write(&paths[1], &schema, Some(&about(r#"["cat", "owl"]"#)), &[both(&[Some(2), Some(0)])]);
    let message = Parquet::open(&paths, &Options::default()).unwrap_err().to_string();
    assert!(message.contains("row 0 has label 2; expected from 0 to 1"), "{message}");
}

#[test]
fn a_file_of_hugging_face_is_read_as_it_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/parquet/hugging_face.parquet");
    let source = shard(Path::new(path)).unwrap();
    assert_eq!(source.classes(), ["owl", "cat"]);
    let found: Vec<_> = all(&source, 0).into_iter().map(|(_, class, value)| (class, value)).collect();
    assert_eq!(found, [(1, 10), (0, 20), (1, 30), (1, 40)]);
    assert_continues(&source);
    let options = Options { label_column: Some("split".into()), ..Options::default() };
    let source = Parquet::open(&[path.into()], &options).unwrap();
    let found: Vec<_> = all(&source, 0).into_iter().map(|(_, class, _)| class).collect();
    assert_eq!((source.classes(), &found[..]), (&["a", "b"].map(String::from)[..], &[0, 1, 1, 0][..]));
}

#[test]
fn captions_are_a_column_of_text() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.parquet");
    let open = |column: Option<&str>| {
        let options = Options { captions: true, label_column: column.map(Into::into), ..Options::default() };
        Parquet::open(std::slice::from_ref(&path), &options)
    };
    for (column, name) in [("text", None), ("caption", None), ("words", Some("words"))] {
        let schema = format!("{IMAGE} OPTIONAL BYTE_ARRAY {column} (UTF8);");
        write(&path, &schema, None, &[group(&[10, 20, 30], text(&["two  owls\n", "", "two owls"]))]);
        let source = open(name).unwrap();
        assert_eq!(source.classes(), ["", "two owls"], "{column}");
        assert_eq!(all(&source, 0).iter().map(|(_, class, _)| *class).collect::<Vec<_>>(), [1, 0, 1]);
        assert_eq!(source.notices(), ["1 image with an empty caption, the first a.parquet/1"]);
    }
    let error = open(None).unwrap_err().to_string();
    assert!(error.contains("lacks the column text or caption, and has image, words; choose that of"), "{error}");
    let schema = format!("{IMAGE} OPTIONAL BYTE_ARRAY caption (UTF8); OPTIONAL BYTE_ARRAY text (UTF8);");
    let columns = |told: &str| {
        let mut columns = group(&[10], text(&["of the caption"]));
        columns.push(text(&[told]));
        columns
    };
    write(&path, &schema, None, &[columns("of the text")]);
    let source = open(None).unwrap();
    assert_eq!(source.classes(), ["of the text"]);
    assert_eq!(source.notices(), ["1 .parquet file with a `text` and a `caption`: `text` is taken"]);
    // Whoever names a column knows which.
    assert!(open(Some("caption")).unwrap().notices().is_empty());
    write(&path, &schema, None, &[columns("a\0b")]);
    assert!(open(None).unwrap_err().to_string().contains("row 0 has text with zeros"));
    let schema = format!("{IMAGE} OPTIONAL INT32 text;");
    write(&path, &schema, None, &[group(&[10], Column::Int(&[Some(3)]))]);
    assert!(open(None).unwrap_err().to_string().contains("row 0 has the caption 3; expected text"));
}

#[test]
fn rows_have_lists_of_captions_with_weights() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.parquet");
    let open = |weights: Option<&[&[f64]]>, lists: &[&[&str]]| {
        let list = "OPTIONAL group text (LIST) { REPEATED group list { OPTIONAL BYTE_ARRAY element (UTF8); } }";
        let weighed = "OPTIONAL group weights (LIST) { REPEATED group list { OPTIONAL DOUBLE element; } }";
        let mut columns = group(&[10, 20][..lists.len()], Column::Texts(lists));
        columns.extend(weights.map(Column::Doubles));
        let schema = format!("{IMAGE} {list} {}", if weights.is_some() { weighed } else { "" });
        write(&path, &schema, None, &[columns]);
        let options = Options { captions: true, ..Options::default() };
        Parquet::open(std::slice::from_ref(&path), &options)
    };
    let source = open(None, &[&["two  owls", "birds"], &["birds"]]).unwrap();
    assert_eq!((source.classes(), source.several_captions()), (&["birds", "two owls"].map(String::from)[..], true));
    let of = |source: &Parquet| source.entries().unwrap().into_iter().map(|entry| entry.captions).collect::<Vec<_>>();
    assert_eq!(of(&source), [vec![(1, 1.0), (0, 1.0)], vec![(0, 1.0)]]);
    assert!(source.notices().is_empty(), "{:?}", source.notices());
    let source = open(Some(&[&[3.0, 0.5], &[2.0]]), &[&["two owls", "birds"], &["birds"]]).unwrap();
    assert_eq!(of(&source), [vec![(1, 3.0), (0, 0.5)], vec![(0, 2.0)]]);
    assert_eq!(all(&source, 0).iter().map(|(_, class, _)| *class).collect::<Vec<_>>(), [1, 0]);
    let source = open(None, &[&["one"], &["other"]]).unwrap();
    assert!(!source.several_captions() && of(&source) == [vec![], vec![]]);
    for (weights, words) in [
        (Some(&[&[3.0][..], &[1.0]][..]), "row 0 has a list whose `weights` are not a number from 0 on for each text"),
        (Some(&[&[1.0, 2.0], &[-1.0]]), "row 1 has a list whose `weights`"),
    ] {
        let error = open(weights, &[&["two owls", "birds"], &["birds"]]).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(open(None, &[&["a"], &[]]).unwrap_err().to_string().contains("row 1 has an empty list"));
}
