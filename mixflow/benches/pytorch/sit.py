"""One case of the benchmark in PyTorch: prints a JSON line like `cargo xtask bench --case CASE`.

usage: python sit.py tiny-train|tiny-sample|small-train|small-sample|repa-train STEPS [THREADS]
"""
import math, os, sys

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # kinder to PyTorch on shared machines
import torch
from torch import nn
from torch.nn import functional as F

from steps import measure


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


def norm(width):
    return nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)


def modulate(x, shift, scale):
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2, self.attn = norm(width), norm(width), Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.ada = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x, c):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.ada(c).chunk(6, 1)
        x = x + gate1.unsqueeze(1) * self.attn(modulate(self.norm1(x), shift1, scale1))
        return x + gate2.unsqueeze(1) * self.mlp(modulate(self.norm2(x), shift2, scale2))


class SiT(nn.Module):
    def __init__(self, size, width, depth, heads, classes, sigma=True, projected=None, after=4):
        super().__init__()
        self.size, self.after, tokens = size, after, (size // 2) ** 2
        self.x, self.y = nn.Conv2d(4, width, 2, 2), nn.Embedding(classes + 1, width)
        self.pos = nn.Parameter(torch.randn(1, tokens, width), requires_grad=False)
        self.t = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.outputs = 8 if sigma else 4
        self.norm, self.linear = norm(width), nn.Linear(width, 2 * 2 * self.outputs)
        self.projector = projected and nn.Sequential(
            nn.Linear(width, 2048), nn.SiLU(), nn.Linear(2048, 2048), nn.SiLU(), nn.Linear(2048, projected)
        )
        self.ada = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x, t, y):
        x = self.x(x).flatten(2).transpose(1, 2) + self.pos
        angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(128, device=t.device) / 128)[None]
        c = self.t(torch.cat([angles.cos(), angles.sin()], 1)) + self.y(y)
        for depth, block in enumerate(self.blocks, 1):
            x = block(x, c)
            if self.projector and depth == self.after:
                self.projection = self.projector(x)
        x = self.linear(modulate(self.norm(x), *self.ada(c).chunk(2, 1)))
        grid = self.size // 2
        x = torch.einsum("nhwpqc->nchpwq", x.reshape(-1, grid, grid, 2, 2, self.outputs))
        return x.reshape(-1, self.outputs, self.size, self.size)[:, :4]


def main():
    case, steps = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(int(sys.argv[3]) if len(sys.argv) > 3 else 2)
    torch.manual_seed(0)
    networks = {
        "tiny": lambda: (SiT(8, 128, 4, 4, 10), 64),
        "small": lambda: (SiT(32, 384, 12, 6, 1000), 8),
        "repa": lambda: (SiT(32, 384, 12, 6, 1000, sigma=False, projected=768), 8),
    }
    model, batch = networks[case.split("-")[0]]()
    features = F.normalize(torch.rand(batch, 256, 768), dim=-1)
    data, labels = torch.randn(batch, 4, model.size, model.size), torch.ones(batch, dtype=torch.long)

    def loss():
        t, noise = torch.rand(batch), torch.randn_like(data)
        s = t[:, None, None, None]
        found = ((model(s * data + (1 - s) * noise, t, labels) - (data - noise)) ** 2).mean()
        if model.projector:
            found = found - 0.5 * (F.normalize(model.projection, dim=-1) * features).sum(-1).mean()
        return found

    measure(case, steps, model, batch, loss, lambda: model(data, torch.full((batch,), 0.5), labels))


if __name__ == "__main__":
    main()
