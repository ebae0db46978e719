"""Training steps and evaluations of a network on the CPU, timed: what the cases of one network share."""
import copy, json, resource, time

import torch


def measure(case, steps, model, batch, loss, predict):
    """Prints the median seconds of a step as `cargo xtask bench --case CASE` does; the first one is not counted.

    `CASE-train` minimises `loss()` by AdamW with a moving average, every other case evaluates `predict()`.
    """
    training, times = case.endswith("train"), []
    if training:
        average = copy.deepcopy(model).requires_grad_(False)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0)
    for _ in range(steps):
        start = time.perf_counter()
        if training:
            found = loss()
            found.item()
            optimizer.zero_grad()
            found.backward()
            optimizer.step()
            with torch.no_grad():
                for ema, p in zip(average.parameters(), model.parameters()):
                    ema.mul_(0.9999).add_(p, alpha=1e-4)
        else:
            with torch.no_grad():
                predict()
        times.append(time.perf_counter() - start)
    times = sorted(times[1:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"case": case, "seconds": times[len(times) // 2], "batch": batch, "peak_bytes": peak}))
