"""`cargo xtask bench --suite gpu` beside PyTorch: bf16 autocast, scaled_dot_product_attention, torch.compile, fused AdamW and an
average by foreach.

usage: python gpu.py [--minutes N] [--device cuda] [--no-compile] [--batch N] [--steps N] [NETWORK-train|NETWORK-sample ...]
       python gpu.py --alone CASE ...        PyTorch's part of one case, as a JSON line
needs: pip install torch diffusers; XTASK or target/release/mixflow, built with the feature cuda

Each case is run by both programs one after the other, each in a process of its own. Memory is what of the card is in use at
most, as nvidia-smi says, less what was in use before.
"""
import argparse, copy, json, os, subprocess, sys, threading, time

from cases import PROGRAM

# Width, depth, heads and side of the latents.
SIT = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16), "xl": (1152, 28, 16)}
# As `cargo xtask bench --suite gpu` has them, those that matter most first.
NETWORKS = ["sit-xl-256", "dit-dh-xl-256", "repa-xl-256", "sd3.5-medium-512", "sit-xl-512", "sit-l-256", "sit-b-256", "sit-s-256", "sit-l-512", "sit-b-512", "sit-s-512"]
CASES = [f"{network}-{mode}" for network in NETWORKS for mode in ("train", "sample")]

arguments = argparse.ArgumentParser()
arguments.add_argument("cases", nargs="*")
arguments.add_argument("--alone", action="store_true")
arguments.add_argument("--minutes", type=float, default=10)
arguments.add_argument("--device", default="cuda")
arguments.add_argument("--batch", type=int)
arguments.add_argument("--steps", type=int, default=20)
arguments.add_argument("--no-compile", action="store_true")
arguments = arguments.parse_args()


def network(name, batch):
    """The network, a batch of data, and what else it is told, as in `xtask/src/bench_suite.rs`."""
    import torch
    from torch.nn import functional as F

    labels = torch.ones(batch, dtype=torch.long)
    if name.startswith("sd3.5"):
        from diffusers import SD3Transformer2DModel

        model = SD3Transformer2DModel(
            sample_size=64, patch_size=2, in_channels=16, num_layers=24, attention_head_dim=64, num_attention_heads=24,
            joint_attention_dim=4096, caption_projection_dim=1536, pooled_projection_dim=2048, out_channels=16,
            pos_embed_max_size=384, dual_attention_layers=tuple(range(13)), qk_norm="rms_norm",
        )
        told = dict(encoder_hidden_states=torch.randn(batch, 333, 4096), pooled_projections=torch.randn(batch, 2048), return_dict=False)
        return model, torch.randn(batch, 16, 64, 64), told, None
    if name.startswith("dit-dh"):
        from dit_dh import DiTDH

        stacks = dict(width=1152, depth=28, heads=16, hidden=3072), dict(width=2048, depth=2, heads=16, hidden=5461)
        return DiTDH(*stacks), torch.randn(batch, 768, 16, 16), dict(y=labels), None
    from sit import SiT

    size, side = name.split("-")[1:] if name.startswith("sit") else ("xl", "256")
    side, features = int(side) // 8, None
    projected = 768 if name.startswith("repa") else None
    model = SiT(side, *SIT[size], 1000, sigma=projected is None, projected=projected, after=8)
    if projected:
        features = F.normalize(torch.rand(batch, (side // 2) ** 2, projected), dim=-1)
    return model, torch.randn(batch, 4, side, side), dict(y=labels), features


def alone(case):
    import torch
    from torch.nn import functional as F

    torch.manual_seed(0)
    name, mode = case.rsplit("-", 1)
    device, steps = torch.device(arguments.device), max(arguments.steps, 2)
    model, data, told, features = network(name, arguments.batch or batch(name))
    model.to(device)
    data, features = data.to(device), features if features is None else features.to(device)
    told = {key: value.to(device) if hasattr(value, "to") else value for key, value in told.items()}
    diffusers = name.startswith("sd3.5")

    def predict(x, t):
        return model(x, timestep=1000 * t, **told)[0] if diffusers else model(x, t, **told)

    def loss(t, noise):
        s = t[:, None, None, None]
        found = ((predict(s * data + (1 - s) * noise, t) - (data - noise)) ** 2).mean()
        if features is not None:
            found = found - 0.5 * (F.normalize(model.projection.float(), dim=-1) * features).sum(-1).mean()
        return found

    compiled = (lambda f: f) if arguments.no_compile else torch.compile
    loss, predict, times = compiled(loss), compiled(predict), []
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    if mode == "train":
        average = copy.deepcopy(model).requires_grad_(False)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0, fused=device.type == "cuda")
    averages, weights = [list(net.parameters()) for net in (average, model)] if mode == "train" else ([], [])
    for _ in range(steps):
        wait()
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16):
            if mode == "train":
                found = loss(torch.rand(len(data), device=device), torch.randn_like(data))
            else:
                with torch.no_grad():
                    predict(data, torch.full((len(data),), 0.5, device=device))
        if mode == "train":
            optimizer.zero_grad()
            found.backward()
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(averages, weights, 1e-4)
            found.item()
        wait()
        times.append(time.perf_counter() - start)
    times = sorted(times[max(steps // 4, 1):])
    print(json.dumps({"case": case, "seconds": times[len(times) // 2], "batch": len(data)}))


def batch(name):
    """As in `xtask/src/bench_suite.rs`."""
    return {"sit-s-256": 256, "sit-b-256": 256, "sit-l-256": 128, "sit-xl-256": 128, "sit-s-512": 128,
            "sd3.5-medium-512": 8, "sit-l-512": 32, "sit-xl-512": 32}.get(name, 64)


def card():
    """MiB of the card in use; 0 where there is none."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return 0


def measured(command):
    """Seconds of a step, images of a batch, and gigabytes; or why there are none."""
    before, most, done = card(), [0], threading.Event()

    def watch():
        while not done.wait(0.2):
            most[0] = max(most[0], card() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    run = subprocess.run(command, capture_output=True, text=True)
    done.set()
    watcher.join()
    try:
        found = json.loads(run.stdout.splitlines()[-1])
        return found["seconds"], found["batch"], most[0] * 2**20 / 1e9
    except (IndexError, ValueError):
        return (run.stderr.strip().splitlines() or ["it said nothing"])[-1][:100]


def main():
    started = time.monotonic()
    print("| case | batch | mixflow images/s | PyTorch images/s | time ratio | mixflow GB | PyTorch GB | memory ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for case in arguments.cases or CASES:
        if time.monotonic() - started > 60 * arguments.minutes:
            print(f"{arguments.minutes:g} minutes are over: {case} and what follows were left out", file=sys.stderr)
            break
        shared = ["--steps", str(arguments.steps)] + (["--batch", str(arguments.batch)] if arguments.batch else [])
        device = {"cpu": "flex"}.get(arguments.device, arguments.device)
        ours = measured([PROGRAM, "bench", "--case", case, "--device", device] + shared)
        options = ["--device", arguments.device] + (["--no-compile"] if arguments.no_compile else [])
        theirs = measured([sys.executable, os.path.abspath(__file__), "--alone", case] + options + shared)
        if isinstance(ours, str) or isinstance(theirs, str):
            told = [side if isinstance(side, str) else f"{side[1] / side[0]:.1f} images/s" for side in (ours, theirs)]
            print(f"| {case} | failed | {told[0]} | {told[1]} |", flush=True)
            continue
        (time_ours, images, memory_ours), (time_theirs, _, memory_theirs) = ours, theirs
        print(
            f"| {case} | {images} | {images / time_ours:.1f} | {images / time_theirs:.1f} | {time_ours / time_theirs:.2f} "
            f"| {memory_ours:.1f} | {memory_theirs:.1f} | {memory_ours / memory_theirs if memory_theirs else 0:.2f} |",
            flush=True,
        )


if arguments.alone:
    for case in arguments.cases:
        alone(case)
else:
    main()
