"""Processor time of a step, mixflow's beside PyTorch's: for machines too busy to compare wall times.

usage: python cpu_time.py [CASE...]        needs: pip install torch; XTASK or target/release/xtask

A step's time is the difference between a long and a short run, user and system, divided by the steps between them.
"""
import os, resource, subprocess, sys

here = os.path.dirname(os.path.abspath(__file__))
program = os.environ.get("XTASK", os.path.join(here, "../../../target/release/xtask"))
steps = {"tiny-train": (5, 45), "tiny-sample": (5, 85), "small-train": (2, 5), "small-sample": (2, 7)}


def seconds(command):
    def used():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    start = used()
    subprocess.run(command, check=True, capture_output=True, env=dict(os.environ, RAYON_NUM_THREADS="2"))
    return used() - start


def milliseconds_a_step(case, command):
    short, long = steps[case]
    return 1000 * (seconds(command(long)) - seconds(command(short))) / (long - short)


print("| case | mixflow ms | PyTorch ms | ratio |")
print("|---|---|---|---|")
for case in sys.argv[1:] or steps:
    ours = milliseconds_a_step(case, lambda count: [program, "bench", "--case", case, "--steps", str(count)])
    theirs = milliseconds_a_step(case, lambda count: [sys.executable, f"{here}/sit.py", case, str(count), "2"])
    print(f"| {case} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} |", flush=True)
