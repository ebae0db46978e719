//! The plain vision transformer: what pretrained encoders and RAE's decoder are made of.
//!
//! One block for all of them; they differ in an activation, in a scale of the branches and in the names that their
//! files give to parameters.

mod block;
mod norm;
mod position;

pub use block::{VitBlock, VitBlockConfig};
pub use norm::LayerNorm;
pub use position::resize_positions;

/// The name that Hugging Face's ViT-MAE gives to a parameter of a block, RAE's decoder like its encoder.
pub(crate) fn mae_block_key(path: &str) -> String {
    path.replace("attn.proj.", "attention.output.dense.")
        .replace("attn.qkv.", "attention.attention.")
        .replace("mlp.fc1.", "intermediate.dense.")
        .replace("mlp.fc2.", "output.dense.")
        .replace("norm1.", "layernorm_before.")
        .replace("norm2.", "layernorm_after.")
}
