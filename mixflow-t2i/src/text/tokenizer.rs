//! From a prompt to the numbers of its tokens.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use mixflow::backbones::not_data::why_not_data;
use serde::Deserialize;
use tokenizers::AddedToken;

use super::{clip_tokenizer, config};
use crate::Error;

/// A vocabulary, how to take text apart into it, and how many tokens a prompt has.
///
/// Longer prompts are cut, shorter ones padded. Numbers are those of the fast tokenizers of Hugging Face. The slow one for
/// CLIP, which diffusers takes, differs in two points: it separates ideographs, and where the Python package `ftfy` is
/// installed it mends text, typographic quotes among other things.
///
/// A vocabulary with the tokens `<|im_start|>` and `<|im_end|>` is one of a chat. A prompt is a turn of it then, as `chat_template` of
/// Qwen3's tokenizer writes it where the assistant may think.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    words: tokenizers::Tokenizer,
    length: usize,
    padding: u32,
    chat: bool,
    origin: PathBuf,
}

/// What stands around a prompt in a chat of Qwen's: it is what the user says, and the assistant is about to answer.
const CHAT: [&str; 2] = ["<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"];

/// The tokens that turns of such a chat begin and end with.
const TURN: [&str; 2] = ["<|im_start|>", "<|im_end|>"];

/// A prompt as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// As many as the tokenizer's length. The end token follows the last token of the prompt; what ends a turn of a chat is cut as a
    /// prompt is.
    pub ids: Vec<u32>,
    /// How many of them are tokens of the prompt, the others padding.
    pub count: usize,
    /// The byte of the prompt from which on it did not fit, if it did not.
    pub cut: Option<usize>,
}

impl Tokenizer {
    /// The files that [`from_folder`](Self::from_folder) may read.
    pub(super) const FILES: [&str; 5] =
        ["tokenizer_config.json", "special_tokens_map.json", "tokenizer.json", "vocab.json", "merges.txt"];

    /// Reads a folder as Transformers writes it: `tokenizer.json`, or CLIP's `vocab.json` and `merges.txt`; the padding and
    /// the length from `tokenizer_config.json`, the padding otherwise from `special_tokens_map.json`.
    ///
    /// # Errors
    /// If a file is missing or damaged.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let folder = folder.as_ref();
        let settings: Settings = config::read(&folder.join("tokenizer_config.json"))?;
        let padding = match settings.pad_token {
            Some(token) => token,
            None => {
                let path = folder.join("special_tokens_map.json");
                let missing = || Error::tokenizer(&path, "names no `pad_token`, as tokenizer_config.json does not");
                config::read::<Settings>(&path)?.pad_token.ok_or_else(missing)?
            }
        };
        if settings.padding_side.as_deref() == Some("left") {
            let reason = "padding_side: expected right: tokens would have other places";
            return Err(Error::tokenizer(&folder.join("tokenizer_config.json"), reason));
        }
        let json = folder.join("tokenizer.json");
        let text = if json.exists() {
            fs::read(&json).map_err(Error::reading(&json))?
        } else {
            clip_tokenizer::read(folder)?.to_string().into_bytes()
        };
        // Lengths that stand for none are numbers such as 1e30.
        let length = settings.model_max_length.filter(|&length| length < 1e6).unwrap_or(512.0) as usize;
        Self::from_bytes(folder, &text, padding.content())?.with_length(length)
    }

    /// From the content of a `tokenizer.json`, with 512 tokens to a prompt. `padding` is a token of the vocabulary; it becomes
    /// a special one, which text is taken apart at, as Transformers does: `!` for the larger of Stable Diffusion's CLIPs.
    ///
    /// # Errors
    /// If it is damaged, does not end a prompt with a token of its own and has no chat, or lacks `padding`.
    pub fn from_json(json: impl AsRef<[u8]>, padding: &str) -> Result<Self, Error> {
        Self::from_bytes(Path::new("tokenizer.json"), json.as_ref(), padding)
    }

    fn from_bytes(origin: &Path, json: &[u8], padding: &str) -> Result<Self, Error> {
        if let Some(problem) = why_not_data(json) {
            return Err(Error::tokenizer(origin, format!("it {problem}")));
        }
        let mut words = guarded(origin, || tokenizers::Tokenizer::from_bytes(json))?;
        let missing = || Error::tokenizer(origin, format!("has no token `{padding}`, which prompts are padded with"));
        let number = words.token_to_id(padding).ok_or_else(missing)?;
        let special = AddedToken::from(padding, true).normalized(false);
        words.add_special_tokens([special]).map_err(|error| Error::tokenizer(origin, error))?;
        words.with_padding(None).with_truncation(None).map_err(|error| Error::tokenizer(origin, error))?;
        let chat = TURN.iter().all(|token| words.token_to_id(token).is_some());
        let read = Self { words, length: 512, padding: number, chat, origin: origin.into() };
        if read.encode_untruncated("")?.get_ids().is_empty() {
            let reason = "does not end a prompt with a token of its own, as those of CLIP and T5 do, and has no turns of a chat, as \
                          that of Qwen3 does";
            return Err(Error::tokenizer(origin, reason));
        }
        Ok(read)
    }

    /// With another number of tokens to a prompt.
    ///
    /// # Errors
    /// If there is no room for a token besides those that start and end every prompt.
    pub fn with_length(self, length: usize) -> Result<Self, Error> {
        let least = self.encode_untruncated("")?.get_ids().len() + 1;
        if length < least {
            let reason = format!("a prompt has at least {least} tokens, not {length}");
            return Err(Error::tokenizer(&self.origin, reason));
        }
        Ok(Self { length, ..self })
    }

    /// The number of tokens of a prompt.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The highest number of a token.
    pub fn max_token_id(&self) -> u32 {
        self.words.get_vocab(true).into_values().max().unwrap_or(0)
    }

    /// The numbers of a prompt's tokens.
    ///
    /// # Errors
    /// If the vocabulary cannot express it.
    pub fn encode(&self, prompt: &str) -> Result<Tokens, Error> {
        let encoding = self.encode_untruncated(prompt)?;
        let mut ids = encoding.get_ids().to_vec();
        let mut cut = None;
        if self.chat && ids.len() > self.length {
            let start = encoding.get_offsets()[self.length].0.saturating_sub(CHAT[0].len());
            // What ends the turn may be all that does not fit.
            cut = (start < prompt.len()).then_some(start);
            ids.truncate(self.length);
        } else if let (Some(&end), true) = (ids.last(), ids.len() > self.length) {
            ids.truncate(self.length - 1);
            ids.push(end);
            cut = Some(encoding.get_offsets()[self.length - 1].0);
        }
        let count = ids.len();
        ids.resize(self.length, self.padding);
        Ok(Tokens { ids, count, cut })
    }

    fn encode_untruncated(&self, prompt: &str) -> Result<tokenizers::Encoding, Error> {
        let [user, assistant] = if self.chat { CHAT } else { [""; 2] };
        guarded(&self.origin, || self.words.encode(format!("{user}{prompt}{assistant}"), true))
    }
}

/// What `f` returns. The crate `tokenizers` panics at some damaged files, which is an error like others.
fn guarded<T>(origin: &Path, f: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.map_err(|error| Error::tokenizer(origin, error)),
        Err(_) => Err(Error::tokenizer(origin, "is damaged")),
    }
}

/// What Transformers stores beside a vocabulary.
#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    pad_token: Option<Token>,
    #[serde(default)]
    model_max_length: Option<f64>,
    #[serde(default)]
    padding_side: Option<String>,
}

/// A token, alone or with its properties.
#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Plain(String),
    Described { content: String },
}

impl Token {
    fn content(&self) -> &str {
        match self {
            Self::Plain(content) | Self::Described { content } => content,
        }
    }
}
