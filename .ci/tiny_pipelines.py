"""See `diffusers` beside it."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from PIL import Image
from safetensors.torch import load_file, save_file

mixflow, fixtures = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
place = Path(tempfile.mkdtemp())
base = place / "base"


def run(*words):
    subprocess.run([mixflow, *words], cwd=place, check=True, stdout=subprocess.DEVNULL)


def write_base():
    """A tiny pipeline, as `diffusers` writes its parts."""
    recorded = json.loads((fixtures / "sd3_prompt.json").read_text())["files"]
    weights = load_file(fixtures / "sd3_prompt.safetensors")
    for name, content in recorded.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(json.dumps(content))
    for part in ["text_encoder", "text_encoder_2", "text_encoder_3"]:
        prefix = f"weights.{part}."
        own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        save_file(own, base / part / "model.safetensors", {"format": "pt"})
    for part, tokenizer in [("tokenizer", "clip"), ("tokenizer_2", "clip"), ("tokenizer_3", "t5")]:
        (base / part).mkdir(exist_ok=True)
        (base / part / "tokenizer.json").write_text((fixtures / f"tokenizer_{tokenizer}.json").read_text())
    torch.manual_seed(0)
    config = json.loads((base / "transformer/config.json").read_text())
    config = {key: value for key, value in config.items() if not key.startswith("_")}
    SD3Transformer2DModel(**config).save_pretrained(base / "transformer")
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    vae = AutoencoderKL(
        block_out_channels=[4, 8], latent_channels=config["in_channels"], norm_num_groups=2, scaling_factor=1.5,
        shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False, **blocks,
    )  # fmt: skip
    vae.save_pretrained(base / "vae")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(base / "scheduler")
    return config, vae.config


def recipe(config, vae):
    """Four captioned pictures, and an adapter of rank 2."""
    side = 2 * config["sample_size"]
    (place / "pictures").mkdir()
    for number in range(4):
        Image.new("RGB", (side, side), (60 * number, 100, 200)).save(place / "pictures" / f"{number}.png")
        (place / "pictures" / f"{number}.txt").write_text(f"picture {number}")
    transformer = {
        "input_size": config["sample_size"], "patch": config["patch_size"], "channels": config["in_channels"],
        "width": config["caption_projection_dim"], "depth": config["num_layers"], "heads": config["num_attention_heads"],
        "context_width": config["joint_attention_dim"], "pooled_width": config["pooled_projection_dim"],
        "table": config["pos_embed_max_size"], "qk_norm": config.get("qk_norm") is not None,
        "dual_attention": list(config.get("dual_attention_layers", [])),
    }  # fmt: skip
    autoencoder = {
        "image_channels": 3, "latent_channels": vae["latent_channels"], "widths": [4, 8], "depth": 1, "groups": 2,
        "quant_conv": False, "scale": 1.5, "shift": 0.1,
    }  # fmt: skip
    value = {
        "name": "tiny",
        "data": {"kind": "captions", "path": "pictures", "size": side},
        "autoencoder": {"kind": "kl", "network": autoencoder, "weights": "base/vae/diffusion_pytorch_model.safetensors"},
        "network": {"transformer": transformer, "text": {"kind": "stable-diffusion-3", "folder": "base"}, "prompts": 4},
        "objective": {"schedule": {"kind": "linear", "reversed": True}, "timesteps": {"kind": "mixflow", "gamma": 0.8}},
        "training": {"steps": 20, "batch": 4, "optimizer": {"learning_rate": {"kind": "constant", "rate": 0.01}, "average": 0.5}},
        "sampling": {"solver": {"kind": "euler"}, "grid": {"steps": 4, "shift": 3.0}},
        "adapter": {"kind": "lora", "rank": 2, "alpha": 4},
    }
    (place / "tiny.json").write_text(json.dumps(value))


def same(found, expected):
    """The largest difference beside the largest number."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


described = write_base()
recipe(*described)
run("train", "tiny.json", "--from", "base/transformer/diffusion_pytorch_model.safetensors", "--out", "run")
run("export", "run", "--out", "whole")
run("export", "base", "--adapter", "run", "--out", "fused")

whole = StableDiffusion3Pipeline.from_pretrained(place / "whole", local_files_only=True)
trained = load_file(place / "run/model.safetensors")
stored = {name: tensor for name, tensor in whole.transformer.state_dict().items() if name in trained}
assert stored.keys() == trained.keys() and all(torch.equal(stored[name], trained[name]) for name in trained)
print(f"{len(trained)} tensors of the transformer are those of the run")

config = whole.transformer.config
inputs = {
    "hidden_states": torch.randn(2, config.in_channels, config.sample_size, config.sample_size),
    "encoder_hidden_states": torch.randn(2, 5, config.joint_attention_dim),
    "pooled_projections": torch.randn(2, config.pooled_projection_dim),
    "timestep": torch.tensor([900.0, 300.0]),
}
with torch.no_grad():
    expected = whole.transformer(**inputs).sample
    fused = StableDiffusion3Pipeline.from_pretrained(place / "fused").transformer(**inputs).sample
    plain = SD3Transformer2DModel.from_pretrained(base / "transformer")
    before = plain(**inputs).sample
    plain.load_lora_adapter(str(place / "run"), weight_name="pytorch_lora_weights.safetensors", prefix="transformer")
    adapted = plain(**inputs).sample
print(f"training moved the output by {same(before, expected):.2g} of its size")
print(f"the adapter in diffusers is apart from the exported weights by {same(adapted, expected):.1g}, fused by {same(fused, expected):.1g}")
assert same(before, expected) > 1e-3 and same(adapted, expected) < 1e-5 and same(fused, expected) < 1e-5
side = 2 * config.sample_size
image = whole("picture 1", num_inference_steps=2, height=side, width=side, max_sequence_length=8).images[0]
print(f"an image of {image.size[0]} x {image.size[1]} pixels")
