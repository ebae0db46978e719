"""Alternates `cargo xtask bench --case` and PyTorch and prints the table of medians and ratios.

usage: python side_by_side.py [ROUNDS] [THREADS] [CASE ...]        needs: pip install torch; XTASK or target/release/mixflow
"""
import json, os, statistics, subprocess, sys

from cases import DEFAULT, PROGRAM, STEPS, script

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
threads = sys.argv[2] if len(sys.argv) > 2 else "2"


def run(command):
    env = dict(os.environ, RAYON_NUM_THREADS=threads)
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout.splitlines()[-1])


print(f"| case | mixflow ms | PyTorch ms | time ratio (range) | mixflow MB | PyTorch MB | memory ratio |")
print("|---|---|---|---|---|---|---|")
for case in sys.argv[3:] or DEFAULT:
    count = str(STEPS[case])
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(run([PROGRAM, "bench", "--case", case, "--steps", count]))
        theirs.append(run([sys.executable, script(case), case, count, threads]))
    time = [[r["seconds"] for r in side] for side in (ours, theirs)]
    peak = [max(r["peak_bytes"] for r in side) / 1e6 for side in (ours, theirs)]
    ratios = sorted(a / b for a, b in zip(*time))
    medians = [1000 * statistics.median(side) for side in time]
    print(
        f"| {case} | {medians[0]:.1f} | {medians[1]:.1f} | {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) "
        f"| {peak[0]:.0f} | {peak[1]:.0f} | {peak[0] / peak[1]:.2f} |",
        flush=True,
    )
