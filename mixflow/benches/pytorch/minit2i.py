"""The official MM-JiT of MiniT2I, one case of the benchmark: prints a JSON line like `mmdit bench --case CASE`.

usage: MINIT2I=FOLDER python minit2i.py minit2i-train|minit2i-sample STEPS [THREADS]        needs: pip install torch
FOLDER is `diffusers` of a clone of github.com/Hope7Happiness/minit2i-torch (e54e15d).
"""
import os, sys

case, steps = sys.argv[1], int(sys.argv[2])
threads = int(sys.argv[3]) if len(sys.argv) > 3 else 2
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # kinder to PyTorch on shared machines
sys.path.insert(0, os.environ["MINIT2I"])  # before the `mmdit` beside this file
import torch
from mmdit import MMJiT, MMJiTConfig

from steps import measure

torch.set_num_threads(threads)
torch.manual_seed(0)
BATCH = 4
model = MMJiT(MMJiTConfig(
    image_size=256, txt_input_size=768, hidden_size=384, txt_hidden_size=384, cond_vec_size=384, depth_double=6, num_heads=6,
    prompt_length=77,
))
images, text, mask = torch.randn(BATCH, 3, 256, 256), torch.randn(BATCH, 77, 768), torch.ones(BATCH, 77)


def loss():
    t, noise = torch.rand(BATCH), 2 * torch.randn_like(images)
    s = t[:, None, None, None]
    x = s * images + (1 - s) * noise
    return (((model(x, t, text, mask) - images) / (1 - s).clamp(min=0.05)) ** 2).mean()


measure(case, steps, model, BATCH, loss, lambda: model(images, torch.full((BATCH,), 0.5), text, mask))
