"""The decoder of the Stable Diffusion autoencoder in PyTorch: prints a JSON line like `cargo xtask bench --case sd-decode`.

usage: python vae.py sd-decode STEPS [THREADS]        one image of 256 px, random weights
"""
import json, os, resource, sys, time

case, steps = sys.argv[1], int(sys.argv[2])
threads = int(sys.argv[3]) if len(sys.argv) > 3 else 2
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # kinder to PyTorch on shared machines
import torch
from torch import nn
from torch.nn import functional as F

assert case == "sd-decode", case
torch.set_num_threads(threads)
torch.manual_seed(0)


def norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-6)


class Residual(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1, self.conv1 = norm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = norm(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        y = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(y)))


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm, self.qkv, self.out = norm(channels), nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x):
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).unsqueeze(1).chunk(3, -1)
        y = self.out(F.scaled_dot_product_attention(q, k, v).squeeze(1))
        return x + y.transpose(1, 2).reshape(x.shape)


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


layers = [nn.Conv2d(4, 4, 1), nn.Conv2d(4, 512, 3, padding=1), Residual(512, 512), Attention(512), Residual(512, 512)]
inputs = 512
for level, outputs in enumerate([512, 512, 256, 128]):
    for _ in range(3):
        layers.append(Residual(inputs, outputs))
        inputs = outputs
    if level < 3:
        layers.append(Upsample(outputs))
decoder = nn.Sequential(*layers, norm(128), nn.SiLU(), nn.Conv2d(128, 3, 3, padding=1)).eval()
latent = torch.randn(1, 4, 32, 32)
with torch.inference_mode():
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        assert decoder(latent).shape == (1, 3, 256, 256)
        times.append(time.perf_counter() - start)
times = sorted(times[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"case": case, "seconds": times[len(times) // 2], "batch": 1, "peak_bytes": peak}))
