"""Features of the FID Inception network in PyTorch: prints a JSON line like `cargo xtask bench --case inception`.

usage: python inception.py inception STEPS [THREADS]

The shape of the network, with random weights: convolution, batch norm and ReLU as three modules in evaluation mode, as
pytorch-fid runs them.
"""
import json, os, resource, sys, time

case, steps = sys.argv[1], int(sys.argv[2])
threads = int(sys.argv[3]) if len(sys.argv) > 3 else 2
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(threads)
torch.manual_seed(0)


def unit(inputs, outputs, height, width=None, stride=1, padding=None):
    width = width or height
    padding = (height // 2, width // 2) if padding is None else padding
    convolution = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs, eps=1e-3), nn.ReLU(inplace=True))


def average():
    return nn.AvgPool2d(3, 1, 1, count_include_pad=False)


class Join(nn.Module):
    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


def chain(*units):
    return nn.Sequential(*units)


def a(inputs, pool):
    return Join(
        unit(inputs, 64, 1),
        chain(unit(inputs, 48, 1), unit(48, 64, 5)),
        chain(unit(inputs, 64, 1), unit(64, 96, 3), unit(96, 96, 3)),
        chain(average(), unit(inputs, pool, 1)),
    )


def c(w):
    return Join(
        unit(768, 192, 1),
        chain(unit(768, w, 1), unit(w, w, 1, 7), unit(w, 192, 7, 1)),
        chain(unit(768, w, 1), unit(w, w, 7, 1), unit(w, w, 1, 7), unit(w, w, 7, 1), unit(w, 192, 1, 7)),
        chain(average(), unit(768, 192, 1)),
    )


def e(inputs, pool):
    split = lambda: Join(unit(384, 384, 1, 3), unit(384, 384, 3, 1))
    return Join(
        unit(inputs, 320, 1),
        chain(unit(inputs, 384, 1), split()),
        chain(unit(inputs, 448, 1), unit(448, 384, 3), split()),
        chain(pool, unit(inputs, 192, 1)),
    )


halve = dict(stride=2, padding=0)
network = chain(
    unit(3, 32, 3, **halve), unit(32, 32, 3, padding=0), unit(32, 64, 3), nn.MaxPool2d(3, 2),
    unit(64, 80, 1), unit(80, 192, 3, padding=0), nn.MaxPool2d(3, 2),
    a(192, 32), a(256, 64), a(288, 64),
    Join(unit(288, 384, 3, **halve), chain(unit(288, 64, 1), unit(64, 96, 3), unit(96, 96, 3, **halve)), nn.MaxPool2d(3, 2)),
    c(128), c(160), c(160), c(192),
    Join(
        chain(unit(768, 192, 1), unit(192, 320, 3, **halve)),
        chain(unit(768, 192, 1), unit(192, 192, 1, 7), unit(192, 192, 7, 1), unit(192, 192, 3, **halve)),
        nn.MaxPool2d(3, 2),
    ),
    e(1280, average()), e(2048, nn.MaxPool2d(3, 1, 1)),
).eval()

batch, times = 8, []
x = torch.rand(batch, 3, 299, 299) * 2 - 1
with torch.inference_mode():
    for _ in range(steps):
        start = time.perf_counter()
        assert network(x).mean((2, 3)).shape == (batch, 2048)
        times.append(time.perf_counter() - start)
times = sorted(times[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"case": case, "seconds": times[len(times) // 2], "batch": batch, "peak_bytes": peak}))
