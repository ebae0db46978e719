//! Text encoders and tokenizers, alone and together, against the official code.

mod clip_score;
mod dropout;
mod encoders;
mod evaluator;
mod flux;
mod guide;
mod networks;
mod pipeline;
mod qwen3;
mod tokenizer;
