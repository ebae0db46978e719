"""What ptxas said of a folder of kernels: how many, of which kind, with how many registers and spilled bytes. Fails where it failed."""

import re
import sys
from collections import defaultdict
from pathlib import Path

network, folder = sys.argv[1], Path(sys.argv[2])
# Those of this project; all others are Burn's.
OWN = "normalise_backward|normalise|sum_groups|gate_backward|gate|add_gated|sum_tokens|turn|forward|backward|update"
TENSOR_CORES = re.compile(r"\b(wgmma\.mma_async|wmma\.mma|mma\.sync)")
kinds, failed = defaultdict(list), []
for file in folder.glob("*.ptx"):
    log, ptx = file.with_suffix(".log").read_text(), file.read_text()
    name = re.search(r"\.entry ([A-Za-z0-9_$]+)", ptx)[1]
    own = re.match(rf"({OWN})_(e_(bf16|f32)_)?n_", name)
    kind = f"{own[1]}, {own[3] or 'f32'}" if own else "Burn's"
    registers, spilled = re.search(r"Used (\d+) registers", log), re.search(r"(\d+) bytes spill stores", log)
    if not registers:
        failed.append(f"{name}: {log.strip()[:200]}")
    else:
        kinds[kind].append((int(registers[1]), int(spilled[1]), bool(TENSOR_CORES.search(ptx))))
print(f"{network}: {sum(map(len, kinds.values()))} kernels assembled")
for kind, found in sorted(kinds.items()):
    registers, spilled, cores = zip(*found)
    print(
        f"  {kind:<26} {len(found):4}, {min(registers)} to {max(registers)} registers, "
        f"{sum(map(bool, spilled))} with spills, {sum(cores)} with tensor cores"
    )
if failed or not kinds:
    sys.exit("\n".join(["not assembled:", *failed]))
