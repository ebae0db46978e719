"""diffusers' FluxTransformer2DModel, one case of the benchmark: prints a JSON line like `mmdit bench --case CASE`.

usage: python flux.py flux-train|flux-sample STEPS [THREADS]        needs: pip install torch diffusers
"""
import os, sys

case, steps = sys.argv[1], int(sys.argv[2])
threads = int(sys.argv[3]) if len(sys.argv) > 3 else 2
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # kinder to PyTorch on shared machines
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel

from steps import measure

torch.set_num_threads(threads)
torch.manual_seed(0)
BATCH = 4
model = FluxTransformer2DModel(
    in_channels=64, num_layers=3, num_single_layers=6, attention_head_dim=64, num_attention_heads=6,
    joint_attention_dim=768, pooled_projection_dim=768, guidance_embeds=True, axes_dims_rope=(16, 24, 24),
)
latents = FluxPipeline._pack_latents(torch.randn(BATCH, 16, 32, 32), BATCH, 16, 32, 32)
places = FluxPipeline._prepare_latent_image_ids(BATCH, 16, 16, "cpu", torch.float32)
text, pooled, guidance = torch.randn(BATCH, 77, 768), torch.randn(BATCH, 768), torch.ones(BATCH)


def predict(x, t):
    return model(
        x, encoder_hidden_states=text, pooled_projections=pooled, timestep=t, guidance=guidance, img_ids=places,
        txt_ids=torch.zeros(77, 3), return_dict=False,
    )[0]


def loss():
    t, noise = torch.rand(BATCH), torch.randn_like(latents)
    s = t[:, None, None]
    return ((predict((1 - s) * latents + s * noise, t) - (noise - latents)) ** 2).mean()


measure(case, steps, model, BATCH, loss, lambda: predict(latents, torch.full((BATCH,), 0.5)))
