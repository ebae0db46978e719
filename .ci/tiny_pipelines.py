"""See `diffusers` beside it."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel, SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)  # fmt: skip
from PIL import Image
from safetensors.torch import load_file, save_file

mixflow, fixtures = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()


class StableDiffusion3:
    pipeline, transformer = StableDiffusion3Pipeline, SD3Transformer2DModel
    # Parts as they were recorded.
    encoders = {"text_encoder": "text_encoder", "text_encoder_2": "text_encoder_2", "text_encoder_3": "text_encoder_3"}
    tokenizers = {"tokenizer": "tokenizer", "tokenizer_2": "tokenizer_2", "tokenizer_3": "tokenizer_3"}
    scheduler = {"shift": 3.0}
    text = {"kind": "stable-diffusion-3", "folder": "base"}
    shift = 3.0

    @staticmethod
    def config(recorded):
        return {key: value for key, value in recorded.items() if not key.startswith("_")}

    @staticmethod
    def recipe(config):
        return {
            "input_size": config["sample_size"], "patch": config["patch_size"], "channels": config["in_channels"],
            "width": config["caption_projection_dim"], "depth": config["num_layers"],
            "heads": config["num_attention_heads"], "context_width": config["joint_attention_dim"],
            "pooled_width": config["pooled_projection_dim"], "table": config["pos_embed_max_size"],
            "qk_norm": config.get("qk_norm") is not None, "dual_attention": list(config.get("dual_attention_layers", [])),
        }  # fmt: skip

    @staticmethod
    def inputs(config):
        return {
            "hidden_states": torch.randn(2, config.in_channels, config.sample_size, config.sample_size),
            "timestep": torch.tensor([900.0, 300.0]),
        }


class Flux:
    pipeline, transformer = FluxPipeline, FluxTransformer2DModel
    encoders = {"text_encoder": "text_encoder", "text_encoder_2": "text_encoder_3"}
    tokenizers = {"tokenizer": "tokenizer", "tokenizer_2": "tokenizer_3"}
    scheduler = {"use_dynamic_shifting": True}
    text = {"kind": "flux-1", "folder": "base", "tokens": 8}
    shift = {"tokens": 16}

    @staticmethod
    def config(recorded):
        return {
            "patch_size": 1, "in_channels": 16, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 8,
            "num_attention_heads": 2, "joint_attention_dim": 48, "pooled_projection_dim": 16, "guidance_embeds": True,
            "axes_dims_rope": [2, 2, 4],
        }  # fmt: skip

    @staticmethod
    def recipe(config):
        return {
            "kind": "flux", "input_size": 8, "channels": config["in_channels"] // 4, "width": 16,
            "depth": config["num_layers"], "single_depth": config["num_single_layers"],
            "heads": config["num_attention_heads"], "axes": config["axes_dims_rope"],
            "context_width": config["joint_attention_dim"], "pooled_width": config["pooled_projection_dim"], "guidance": 1,
        }  # fmt: skip

    @staticmethod
    def inputs(config):
        places = torch.stack(torch.meshgrid(torch.zeros(1), torch.arange(4.0), torch.arange(4.0), indexing="ij"), -1)
        return {
            "hidden_states": torch.randn(2, 16, config.in_channels), "timestep": torch.tensor([0.9, 0.3]),
            "guidance": torch.tensor([1.0, 3.5]), "img_ids": places.reshape(16, 3), "txt_ids": torch.zeros(5, 3),
        }  # fmt: skip


def write_base(kind, base):
    """A tiny pipeline, as `diffusers` writes its parts."""
    recorded = json.loads((fixtures / "sd3_prompt.json").read_text())["files"]
    weights = load_file(fixtures / "sd3_prompt.safetensors")
    for part, source in (kind.encoders | kind.tokenizers).items():
        (base / part).mkdir(parents=True)
        for name, content in recorded.items():
            if name.startswith(f"{source}/"):
                (base / part / name.removeprefix(f"{source}/")).write_text(json.dumps(content))
    for part, source in kind.encoders.items():
        own = {name.removeprefix(f"weights.{source}."): tensor for name, tensor in weights.items()
               if name.startswith(f"weights.{source}.")}  # fmt: skip
        if kind is Flux:
            # Its CLIP has no projection.
            own = {name: tensor for name, tensor in own.items() if "projection" not in name}
        save_file(own, base / part / "model.safetensors", {"format": "pt"})
    for part, source in kind.tokenizers.items():
        name = "t5" if source.endswith("_3") else "clip"
        (base / part / "tokenizer.json").write_text((fixtures / f"tokenizer_{name}.json").read_text())
    torch.manual_seed(0)
    config = kind.config(recorded["transformer/config.json"])
    kind.transformer(**config).save_pretrained(base / "transformer")
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    vae = AutoencoderKL(
        block_out_channels=[4, 8], latent_channels=kind.recipe(config)["channels"], norm_num_groups=2, scaling_factor=1.5,
        shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False, **blocks,
    )  # fmt: skip
    vae.save_pretrained(base / "vae")
    FlowMatchEulerDiscreteScheduler(**kind.scheduler).save_pretrained(base / "scheduler")
    return config, vae.config


def write_recipe(kind, place, config, vae):
    """Four captioned pictures, and an adapter of rank 2."""
    transformer = kind.recipe(config)
    side = 2 * transformer["input_size"]
    (place / "pictures").mkdir()
    for number in range(4):
        Image.new("RGB", (side, side), (60 * number, 100, 200)).save(place / "pictures" / f"{number}.png")
        (place / "pictures" / f"{number}.txt").write_text(f"picture {number}")
    autoencoder = {
        "image_channels": 3, "latent_channels": vae["latent_channels"], "widths": [4, 8], "depth": 1, "groups": 2,
        "quant_conv": False, "scale": 1.5, "shift": 0.1,
    }  # fmt: skip
    value = {
        "name": "tiny",
        "data": {"kind": "captions", "path": "pictures", "size": side},
        "autoencoder": {"kind": "kl", "network": autoencoder, "weights": "base/vae/diffusion_pytorch_model.safetensors"},
        "network": {"transformer": transformer, "text": kind.text, "prompts": 4},
        "objective": {"schedule": {"kind": "linear", "reversed": True}, "timesteps": {"kind": "mixflow", "gamma": 0.8}},
        "training": {"steps": 20, "batch": 4, "optimizer": {"learning_rate": {"kind": "constant", "rate": 0.01}, "average": 0.5}},
        "sampling": {"solver": {"kind": "euler"}, "grid": {"steps": 4, "shift": kind.shift}},
        "adapter": {"kind": "lora", "rank": 2, "alpha": 4},
    }
    (place / "tiny.json").write_text(json.dumps(value))
    return side


def same(found, expected):
    """The largest difference beside the largest number."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def check(kind):
    place = Path(tempfile.mkdtemp())
    base = place / "base"
    side = write_recipe(kind, place, *write_base(kind, base))
    for words in [
        ["train", "tiny.json", "--from", "base/transformer/diffusion_pytorch_model.safetensors", "--out", "run"],
        ["export", "run", "--out", "whole"],
        ["export", "base", "--adapter", "run", "--out", "fused"],
    ]:
        subprocess.run([mixflow, *words], cwd=place, check=True, stdout=subprocess.DEVNULL)

    whole = kind.pipeline.from_pretrained(place / "whole", local_files_only=True)
    trained = load_file(place / "run/model.safetensors")
    stored = {name: tensor for name, tensor in whole.transformer.state_dict().items() if name in trained}
    assert stored.keys() == trained.keys() and all(torch.equal(stored[name], trained[name]) for name in trained)
    print(f"{kind.__name__}: {len(trained)} tensors of the transformer are those of the run")
    assert all(whole.scheduler.config[key] == value for key, value in kind.scheduler.items())

    config = whole.transformer.config
    inputs = kind.inputs(config) | {
        "encoder_hidden_states": torch.randn(2, 5, config.joint_attention_dim),
        "pooled_projections": torch.randn(2, config.pooled_projection_dim),
    }
    with torch.no_grad():
        expected = whole.transformer(**inputs).sample
        fused = kind.pipeline.from_pretrained(place / "fused").transformer(**inputs).sample
        plain = kind.transformer.from_pretrained(base / "transformer")
        before = plain(**inputs).sample
        plain.load_lora_adapter(str(place / "run"), weight_name="pytorch_lora_weights.safetensors", prefix="transformer")
        adapted = plain(**inputs).sample
    moved, apart, added = same(before, expected), same(adapted, expected), same(fused, expected)
    print(f"training moved the output by {moved:.2g} of its size")
    print(f"the adapter in diffusers is apart from the exported weights by {apart:.1g}, fused by {added:.1g}")
    assert moved > 1e-3 and apart < 1e-5 and added < 1e-5
    image = whole("picture 1", num_inference_steps=2, height=side, width=side, max_sequence_length=8).images[0]
    print(f"an image of {image.size[0]} x {image.size[1]} pixels")


check(StableDiffusion3)
check(Flux)
