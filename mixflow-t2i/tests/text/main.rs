//! Text encoders and tokenizers against the official code.

mod networks;
mod pipeline;
mod tokenizer;
