"""DiT^DH in PyTorch, one case of the benchmark: prints a JSON line like `cargo xtask bench --case CASE`.

usage: python dit_dh.py dit-dh-train|dit-dh-sample STEPS [THREADS]
"""
import math, os, sys

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # kinder to PyTorch on shared machines
import torch
from torch import nn
from torch.nn import functional as F

from steps import measure

SIDE, CHANNELS, CLASSES, BATCH = 16, 768, 1000, 4
ENCODER, HEAD = dict(width=256, depth=4, heads=4, hidden=682), dict(width=512, depth=2, heads=8, hidden=1365)


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


def angles(width):
    """Cosine and sine for every token, row first, each angle twice."""
    frequency = 10000.0 ** (-torch.arange(0, width // 2, 2) / (width // 2))
    turn = (torch.arange(SIDE)[:, None] * frequency).repeat_interleave(2, 1)
    both = torch.cat([turn[:, None].expand(SIDE, SIDE, -1), turn[None].expand(SIDE, SIDE, -1)], 2).flatten(0, 1)
    return both.cos(), both.sin()


def rotate(x, cos, sin):
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
    return x * cos + turned * sin


class Block(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.heads, self.hidden = heads, hidden
        self.norm1, self.norm2 = RmsNorm(width), RmsNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.w12, self.w3 = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)
        self.ada = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        for name, table in zip(("cos", "sin"), angles(width // heads)):
            self.register_buffer(name, table)

    def attend(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = rotate(q, self.cos, self.sin), rotate(k, self.cos, self.sin)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))

    def forward(self, x, c):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.ada(c).chunk(6, -1)
        x = x + gate1 * self.attend(self.norm1(x) * (1 + scale1) + shift1)
        gate, value = self.w12(self.norm2(x) * (1 + scale2) + shift2).chunk(2, -1)
        return x + gate2 * self.w3(F.silu(gate) * value)


class DiTDH(nn.Module):
    def __init__(self, encoder=ENCODER, head=HEAD):
        super().__init__()
        stack = lambda width, depth, heads, hidden: nn.ModuleList(Block(width, heads, hidden) for _ in range(depth))
        self.encoder, self.head = stack(**encoder), stack(**head)
        encoder, head = encoder["width"], head["width"]
        self.s, self.x = nn.Conv2d(CHANNELS, encoder, 1), nn.Conv2d(CHANNELS, head, 1)
        self.project, self.y = nn.Linear(encoder, head), nn.Embedding(CLASSES + 1, encoder)
        self.place, self.w = nn.Parameter(torch.randn(1, SIDE * SIDE, encoder)), nn.Parameter(torch.randn(256))
        self.t = nn.Sequential(nn.Linear(512, encoder), nn.SiLU(), nn.Linear(encoder, encoder))
        self.norm, self.linear = RmsNorm(head), nn.Linear(head, CHANNELS)
        self.ada = nn.Sequential(nn.SiLU(), nn.Linear(head, 2 * head))

    def forward(self, x, t, y):
        turns = t[:, None] * self.w[None] * 2 * math.pi
        t = self.t(torch.cat([turns.sin(), turns.cos()], 1))
        c = F.silu(t + self.y(y))[:, None]
        s = self.s(x).flatten(2).transpose(1, 2) + self.place
        for block in self.encoder:
            s = block(s, c)
        s = self.project(F.silu(s + t[:, None]))
        x = self.x(x).flatten(2).transpose(1, 2)
        for block in self.head:
            x = block(x, s)
        shift, scale = self.ada(s).chunk(2, -1)
        x = self.linear(self.norm(x) * (1 + scale) + shift)
        return x.transpose(1, 2).reshape(-1, CHANNELS, SIDE, SIDE)


def main():
    case, steps = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(int(sys.argv[3]) if len(sys.argv) > 3 else 2)
    torch.manual_seed(0)
    model = DiTDH()
    data, labels = torch.randn(BATCH, CHANNELS, SIDE, SIDE), torch.ones(BATCH, dtype=torch.long)

    def loss():
        t, noise = torch.rand(BATCH), torch.randn_like(data)
        s = t[:, None, None, None]
        return ((model((1 - s) * data + s * noise, t, labels) - (noise - data)) ** 2).mean()

    measure(case, steps, model, BATCH, loss, lambda: model(data, torch.full((BATCH,), 0.5), labels))


if __name__ == "__main__":
    main()
