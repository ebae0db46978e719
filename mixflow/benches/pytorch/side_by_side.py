"""Alternates `cargo xtask bench --case` and PyTorch and prints the table of medians and ratios.

usage: python side_by_side.py [ROUNDS] [THREADS]        needs: pip install torch; cargo build --release --bin xtask
"""
import json, os, statistics, subprocess, sys

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
threads = sys.argv[2] if len(sys.argv) > 2 else "2"
here = os.path.dirname(os.path.abspath(__file__))
root = os.path.abspath(os.path.join(here, "../../.."))
program = os.environ.get("XTASK", os.path.join(root, "target/release/xtask"))
steps = {"tiny-train": "40", "tiny-sample": "80", "small-train": "5", "small-sample": "8", "inception": "4"}


def run(command):
    env = dict(os.environ, RAYON_NUM_THREADS=threads)
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout.splitlines()[-1])


print(f"| case | mixflow ms | PyTorch ms | time ratio (range) | mixflow MB | PyTorch MB | memory ratio |")
print("|---|---|---|---|---|---|---|")
for case, count in steps.items():
    ours, theirs = [], []
    script = "inception.py" if case == "inception" else "sit.py"
    for _ in range(rounds):
        ours.append(run([program, "bench", "--case", case, "--steps", count]))
        theirs.append(run([sys.executable, os.path.join(here, script), case, count, threads]))
    time = [[r["seconds"] for r in side] for side in (ours, theirs)]
    peak = [max(r["peak_bytes"] for r in side) / 1e6 for side in (ours, theirs)]
    ratios = sorted(a / b for a, b in zip(*time))
    medians = [1000 * statistics.median(side) for side in time]
    print(
        f"| {case} | {medians[0]:.1f} | {medians[1]:.1f} | {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) "
        f"| {peak[0]:.0f} | {peak[1]:.0f} | {peak[0] / peak[1]:.2f} |",
        flush=True,
    )
