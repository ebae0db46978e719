//! Prompts as the classes of a data set.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::thread;

use burn::tensor::{Device, Tensor};
use mixflow::backbones::Condition;
use mixflow::data::Conditioner;
use mixflow_t2i::prompts::PromptTable;
use mixflow_t2i::{Error, TextEmbedding, TextEncoder, Words};

const WORDS: Words = Words { width: 8, tokens: 3, places: false };

/// Words by another name, which count how often they are read and how many prompts are encoded, and stop after so many.
struct Counted {
    identity: &'static str,
    most: usize,
    reads: Cell<usize>,
    prompts: Cell<usize>,
}

impl Counted {
    fn new(identity: &'static str, most: usize) -> Self {
        Self { identity, most, reads: Cell::new(0), prompts: Cell::new(0) }
    }
}

impl TextEncoder for Counted {
    fn identity(&self) -> Result<String, Error> {
        Ok(self.identity.into())
    }

    fn encode(&self, _: &[&str]) -> Result<TextEmbedding, Error> {
        panic!("all blocks are encoded at once")
    }

    fn encode_blocks(
        &self,
        blocks: &[&[&str]],
        sink: &mut dyn FnMut(TextEmbedding) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.reads.set(self.reads.get() + 1);
        for prompts in blocks {
            self.prompts.set(self.prompts.get() + prompts.len());
            if self.prompts.get() > self.most {
                return Err(Error::Other("stopped".into()));
            }
            sink(WORDS.encode(prompts)?)?;
        }
        Ok(())
    }
}

fn prompts(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("cat number {number}")).collect()
}

fn prepare(folder: &Path, prompts: &[String], identity: &'static str) -> Result<PromptTable, Error> {
    PromptTable::prepare(folder, prompts, &Counted::new(identity, usize::MAX), |_| Ok(()))
}

/// All numbers of some embeddings.
fn numbers(text: TextEmbedding) -> Vec<f32> {
    let [tokens, pooled] = [text.tokens.into_data(), text.pooled.into_data()];
    tokens.iter().chain(pooled.iter()).collect()
}

/// The nearest number of 11 bits, whose last is at least 2⁻²⁴; of two, the even one.
fn half(number: f32) -> f32 {
    let exponent = number.abs().log2().floor().max(-14.0) as i32;
    let unit = 2f64.powi(exponent - 10);
    ((f64::from(number) / unit).round_ties_even() * unit) as f32
}

#[test]
fn rows_are_what_the_encoder_says_in_half_precision() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = prompts(300);
    let table = prepare(folder.path(), &prompts, "words").unwrap();
    assert_eq!(table.prompts(), 300);
    // Of both files, in any order and as often as asked for; the number after the last stands for none.
    let asked = [299, 0, 255, 256].map(|number: usize| prompts[number].as_str());
    let asked = [asked[0], asked[1], asked[2], asked[3], "", asked[1]];
    let exact = numbers(WORDS.encode(&asked).unwrap());
    // On a thread of the loader.
    let found = thread::scope(|scope| {
        let rows = || numbers(table.rows(&[299, 0, 255, 256, 300, 0], &Device::default()));
        scope.spawn(rows).join().unwrap()
    });
    assert_eq!(found, exact.iter().map(|&number| half(number)).collect::<Vec<_>>());
    for (found, exact) in found.iter().zip(&exact) {
        assert!((found - exact).abs() <= exact.abs() / 2048.0 + 2f32.powi(-25), "{found} for {exact}");
    }
}

#[test]
fn what_half_precision_does_not_hold_is_refused() {
    struct Constant(f32);

    impl TextEncoder for Constant {
        fn identity(&self) -> Result<String, Error> {
            Ok("constant".into())
        }

        fn encode(&self, prompts: &[&str]) -> Result<TextEmbedding, Error> {
            let rows = Tensor::full([prompts.len(), 1], self.0, &Device::default());
            Ok(TextEmbedding::new(rows.clone().unsqueeze_dim(1), rows))
        }
    }

    let folder = tempfile::tempdir().unwrap();
    for number in [65_520.0, -1e9, f32::INFINITY, f32::NAN] {
        let error = PromptTable::prepare(folder.path(), &prompts(1), &Constant(number), |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains(&format!("half precision does not hold {number}")), "{error}");
    }
    let table = PromptTable::prepare(folder.path(), &prompts(1), &Constant(-65_519.0), |_| Ok(())).unwrap();
    assert_eq!(numbers(table.rows(&[0], &Device::default())), [-65_504.0; 2]);
}

#[test]
fn encoders_are_read_once_and_prompts_encoded_once() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = prompts(600);
    let prepare = |most| {
        let (encoder, mut told) = (Counted::new("words", most), vec![]);
        let table = PromptTable::prepare(folder.path(), &prompts, &encoder, |done| {
            told.push(done);
            Ok(())
        });
        (table.is_ok(), encoder.reads.get(), encoder.prompts.get(), told)
    };
    // It is stopped in the third file, and goes on with that.
    assert_eq!(prepare(600), (false, 1, 601, vec![256, 512]));
    assert_eq!(prepare(600), (true, 1, 601 - 512, vec![600, 600]));
    assert_eq!(prepare(600), (true, 0, 0, vec![600]));
    for file in ["00000.safetensors", "00001.safetensors"] {
        fs::remove_file(folder.path().join(file)).unwrap();
    }
    assert_eq!(prepare(600), (true, 1, 512, vec![345, 600, 600]));
}

#[test]
fn prompts_are_encoded_until_a_run_is_to_stop() {
    let (folder, prompts) = (tempfile::tempdir().unwrap(), prompts(600));
    let prepare = |most: usize| {
        let encoder = Counted::new("words", usize::MAX);
        let table = PromptTable::prepare(folder.path(), &prompts, &encoder, |done| {
            if done < most { Ok(()) } else { Err(mixflow::Error::Stopped) }
        });
        (table.map(|table| table.prompts()), encoder.prompts.get())
    };
    assert!(matches!(prepare(256), (Err(Error::Mixflow(mixflow::Error::Stopped)), 256)));
    assert!(matches!(prepare(usize::MAX), (Ok(600), 345)));
}

#[test]
fn prompts_that_are_longer_than_the_encoder_reads_are_told_when_they_are_encoded() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = prompts(300);
    let told =
        |all: &[String]| PromptTable::prepare(folder.path(), all, &WORDS, |_| Ok(())).unwrap().notices().to_vec();
    all[7] = "two cats, and a dog".into();
    all[299] = "a cat on a roof".into();
    let first = "words reads 3 tokens and does not see the end of prompt 8: `a dog`";
    let expected = format!("2 of 300 prompts are longer than the encoders read; the first: {first}");
    assert_eq!(told(&all), std::slice::from_ref(&expected));
    assert!(told(&all).is_empty(), "it is told once");
    // Of all, also if only some were left to encode.
    fs::remove_file(folder.path().join("00001.safetensors")).unwrap();
    assert_eq!(told(&all), [expected]);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path(), &prompts(3), "words").unwrap();
    let complain = |prompts: &[String], identity, words: &str| {
        let error = prepare(folder.path(), prompts, identity).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    complain(&prompts(2), "words", "of other prompts");
    // Where one ends and the next begins counts.
    let joined = ["cat number 0,cat number 1".to_string(), "cat number 2".into()];
    complain(&joined, "words", "of other prompts");
    complain(&prompts(3), "letters", "of another encoder, or of one with other weights");

    let file = folder.path().join("00000.safetensors");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 4]).unwrap();
    complain(&prompts(3), "words", "00000.safetensors is damaged");
    prepare(&folder.path().join("other"), &[], "words").unwrap();
    fs::copy(folder.path().join("other/00000.safetensors"), &file).unwrap();
    complain(&prompts(3), "words", "has a `tokens` of F16 [1, 3, 8]");

    // As versions before wrote it, which stored 32 bits.
    let manifest = folder.path().join("prompts.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    json.as_object_mut().unwrap().remove("version");
    fs::write(&manifest, json.to_string()).unwrap();
    complain(&prompts(3), "words", "that another version of mixflow wrote: choose another folder, or remove it");
}

/// The names and bytes of a folder's files.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap())).collect();
    files.sort();
    files
}

#[test]
fn a_table_that_grows_has_the_files_of_one_that_was_made_at_once() {
    for (before, after) in [(3, 4), (3, 600), (255, 256), (255, 300), (256, 257), (300, 600), (0, 1)] {
        let [folder, whole] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let all = prompts(after);
        prepare(whole.path(), &all, "words").unwrap();
        let expected = files(whole.path());
        prepare(folder.path(), &all[..before], "words").unwrap();
        let grows = |identity| {
            PromptTable::needs_extension(folder.path(), &all, &Counted::new(identity, 0))
                .map_err(|error| error.to_string())
        };
        assert_eq!(grows("words"), Ok(true));
        assert_eq!(PromptTable::prefix_len(folder.path(), &all), Some(before));
        assert_eq!(PromptTable::prefix_len(folder.path(), &all[..before]), None);
        assert!(grows("letters").unwrap_err().contains("of another encoder"));
        let encoder = Counted::new("words", usize::MAX);
        let table = PromptTable::prepare(folder.path(), &all, &encoder, |_| Ok(())).unwrap();
        assert!(files(folder.path()) == expected, "{before} to {after}");
        assert_eq!(grows("words"), Ok(false));
        // Only the prompts that stood with the empty one are encoded again.
        assert_eq!(encoder.prompts.get(), after + 1 - before / 256 * 256);
        // Its first prompts are those of before, and none is the empty one as ever.
        let first = table.truncated(before);
        let told = numbers(first.rows(&[before], &Device::default()));
        assert_eq!(told, numbers(WORDS.encode(&[""]).unwrap()));
        let error = first.conditions(&[before], &Device::default()).unwrap_err().to_string();
        assert!(error.contains(&format!("found {before}")), "{error}");
    }
}

#[test]
fn a_table_that_is_stopped_while_it_grows_goes_on() {
    let all = prompts(1000);
    let whole = tempfile::tempdir().unwrap();
    prepare(whole.path(), &all, "words").unwrap();
    let expected = files(whole.path());
    let begun = || {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path(), &all[..300], "words").unwrap();
        folder
    };
    // In each of the three files that are to be written.
    for most in [0, 256, 512] {
        let folder = begun();
        let encoder = Counted::new("words", most);
        assert!(PromptTable::prepare(folder.path(), &all, &encoder, |_| Ok(())).is_err(), "{most}");
        let encoder = Counted::new("words", usize::MAX);
        PromptTable::prepare(folder.path(), &all, &encoder, |_| Ok(())).unwrap();
        assert_eq!(encoder.prompts.get(), 1001 - 256 - most, "{most}");
        assert!(files(folder.path()) == expected, "{most}");
        // Also where more have come meanwhile.
        let folder = begun();
        assert!(
            PromptTable::prepare(folder.path(), &all[..700], &Counted::new("words", most), |_| Ok(())).is_err()
                || most == 512
        );
        prepare(folder.path(), &all, "words").unwrap();
        assert!(files(folder.path()) == expected, "{most}");
    }
    // Killed between its first two steps: it is the old table still, or grows.
    for next in [300, 1000] {
        let folder = begun();
        fs::remove_file(folder.path().join("00001.safetensors")).unwrap();
        prepare(folder.path(), &all[..next], "words").unwrap();
        prepare(folder.path(), &all, "words").unwrap();
        assert!(files(folder.path()) == expected, "{next}");
    }
}

#[test]
fn a_label_is_told_its_prompt_and_none_the_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = prompts(5);
    let table = prepare(folder.path(), &prompts, "words").unwrap();
    let device = Device::default();
    let text = table.conditions(&[4, 0, 4], &device).unwrap();
    let expected = |asked: &[&str]| numbers(WORDS.encode(asked).unwrap()).into_iter().map(half).collect::<Vec<_>>();
    assert_eq!(numbers(text.clone()), expected(&[&prompts[4], &prompts[0], &prompts[4]]));
    assert_eq!(numbers(text.clone().null()), expected(&["", "", ""]));
    let first = Tensor::from_data([true, false, false], &device);
    assert_eq!(numbers(text.mask(first)), expected(&["", &prompts[0], &prompts[4]]));
    let error = table.conditions(&[5], &device).unwrap_err().to_string();
    assert!(error.contains("from 0 to 4, found 5"), "{error}");
}
