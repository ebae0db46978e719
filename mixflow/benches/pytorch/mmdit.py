"""diffusers' SD3Transformer2DModel, one case of the benchmark: prints a JSON line like `mmdit bench --case CASE`.

usage: python mmdit.py mmdit-train|mmdit-sample STEPS [THREADS]        needs: pip install torch diffusers
"""
import copy, json, os, resource, sys, time

case, steps = sys.argv[1], int(sys.argv[2])
threads = int(sys.argv[3]) if len(sys.argv) > 3 else 2
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # kinder to PyTorch on shared machines
import torch
from diffusers import SD3Transformer2DModel

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


times = []
if case.endswith("train"):
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0)
for _ in range(steps):
    start = time.perf_counter()
    if case.endswith("train"):
        t, noise = torch.rand(BATCH), torch.randn_like(data)
        s = t[:, None, None, None]
        loss = ((predict((1 - s) * data + s * noise, t) - (noise - data)) ** 2).mean()
        loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for ema, p in zip(average.parameters(), model.parameters()):
                ema.mul_(0.9999).add_(p, alpha=1e-4)
    else:
        with torch.no_grad():
            predict(data, torch.full((BATCH,), 0.5))
    times.append(time.perf_counter() - start)
times = sorted(times[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"case": case, "seconds": times[len(times) // 2], "batch": BATCH, "peak_bytes": peak}))
