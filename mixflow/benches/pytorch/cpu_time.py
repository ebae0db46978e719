"""Processor time of a step, mixflow's beside PyTorch's: for machines too busy to compare wall times.

usage: python cpu_time.py [CASE...]        needs: pip install torch; XTASK or target/release/mixflow

A step's time is the difference between a long and a short run, user and system, divided by the steps between them.
"""
import os, resource, subprocess, sys

from cases import DEFAULT, PROGRAM, STEPS, script


def seconds(command):
    def used():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    start = used()
    subprocess.run(command, check=True, capture_output=True, env=dict(os.environ, RAYON_NUM_THREADS="2"))
    return used() - start


def milliseconds_a_step(case, command):
    long = STEPS[case]
    short = max(2, long // 8)
    return 1000 * (seconds(command(long)) - seconds(command(short))) / (long - short)


print("| case | mixflow ms | PyTorch ms | ratio |")
print("|---|---|---|---|")
for case in sys.argv[1:] or DEFAULT:
    ours = milliseconds_a_step(case, lambda count: [PROGRAM, "bench", "--case", case, "--steps", str(count)])
    theirs = milliseconds_a_step(case, lambda count: [sys.executable, script(case), case, str(count), "2"])
    print(f"| {case} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} |", flush=True)
