"""The cases of the benchmark: the PyTorch program that is the counterpart of `cargo xtask bench --case CASE`."""
import os

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.environ.get("XTASK", os.path.join(HERE, "../../../target/release/mixflow"))
SCRIPTS = {"tiny": "sit.py", "small": "sit.py", "repa": "sit.py", "dit": "dit_dh.py", "sd": "vae.py", "mmdit": "mmdit.py", "flux": "flux.py", "minit2i": "minit2i.py", "inception": "inception.py"}
# Steps of a run, as many as take some seconds.
STEPS = {
    "tiny-train": 40,
    "tiny-sample": 80,
    "small-train": 5,
    "small-sample": 8,
    "repa-train": 5,
    "dit-dh-train": 5,
    "dit-dh-sample": 8,
    "sd-decode": 4,
    "inception": 4,
    "mmdit-train": 5,
    "mmdit-sample": 8,
    "flux-train": 5,
    "flux-sample": 8,
    "minit2i-train": 5,
    "minit2i-sample": 8,
}
# Those of `xtask`; text to image has a program of its own.
DEFAULT = [case for case in STEPS if not case.startswith(("mmdit", "flux", "minit2i"))]


def script(case):
    return os.path.join(HERE, SCRIPTS[case.split("-")[0]])
