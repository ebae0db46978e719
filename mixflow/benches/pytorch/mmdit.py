"""diffusers' SD3Transformer2DModel, one case of the benchmark: prints a JSON line like `mmdit bench --case CASE`.

usage: python mmdit.py mmdit-train|mmdit-sample STEPS [THREADS]        needs: pip install torch diffusers
"""
import os, sys

case, steps = sys.argv[1], int(sys.argv[2])
threads = int(sys.argv[3]) if len(sys.argv) > 3 else 2
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # kinder to PyTorch on shared machines
import torch
from diffusers import SD3Transformer2DModel

from steps import measure

torch.set_num_threads(threads)
torch.manual_seed(0)
BATCH = 4
model = SD3Transformer2DModel(
    sample_size=32, patch_size=2, in_channels=16, num_layers=6, attention_head_dim=64, num_attention_heads=6,
    joint_attention_dim=768, caption_projection_dim=384, pooled_projection_dim=768, out_channels=16,
    pos_embed_max_size=32, dual_attention_layers=(0, 1, 2), qk_norm="rms_norm",
)
data, text, pooled = torch.randn(BATCH, 16, 32, 32), torch.randn(BATCH, 77, 768), torch.randn(BATCH, 768)


def predict(x, t):
    return model(x, encoder_hidden_states=text, pooled_projections=pooled, timestep=1000 * t, return_dict=False)[0]


def loss():
    t, noise = torch.rand(BATCH), torch.randn_like(data)
    s = t[:, None, None, None]
    return ((predict((1 - s) * data + s * noise, t) - (noise - data)) ** 2).mean()


measure(case, steps, model, BATCH, loss, lambda: predict(data, torch.full((BATCH,), 0.5)))
