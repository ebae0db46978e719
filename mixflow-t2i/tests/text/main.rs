//! Text encoders and tokenizers, alone and together, against the official code.

mod dropout;
mod encoders;
mod flux;
mod networks;
mod pipeline;
mod tokenizer;
