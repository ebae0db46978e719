"""Every arm of the recipe `rivals` on seven sets: `results.py FOLDER [SET ...]`; RESULTS.md tells those that were run.

Hours of processor time; a run that was stopped goes on. `results.py FOLDER --tables` writes the tables of those that are
finished. Two of the sets need `pip install scikit-image pillow`. MIXFLOW names the program, `cargo xtask` where it is not
set. With several trainings at a time, RAYON_NUM_THREADS=1 is faster."""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

HEUN = {"kind": "heun"}
RECIPES = Path(__file__).parent / "../recipes"
NAMES = {
    "mix_flow": "**MixFlow**",
    "control": "λ control",
    "input-perturbation": "Input Perturbation",
    "off-path": "off-path perturbation",
    "defar": "DEFAR, without its unpublished weight",
    "beta": "Beta(2, 1), m = t",
    "independent": "uniform t, m ~ U[0, 1]",
    "slowed-uniform": "uniform t, m ~ U[0, t]",
    "standard-ssc": "standard, Scale Schedule Corrector",
    "mixflow-ssc": "MixFlow, Scale Schedule Corrector",
    "standard-es": "standard, Epsilon Scaling",
    "standard-shift": "standard, Time-Shift",
    "standard-dcw": "standard, DCW",
}


def sit(size, patch, width, classes, channels=3):
    """A SiT of four layers."""
    heads = width // 32
    shape = {"input_size": size, "patch": patch, "channels": channels, "classes": classes}
    return {"kind": "sit", **shape, "width": width, "depth": 4, "heads": heads, "hidden": 4 * width}


def training(steps, batch, rate=0.003):
    """A rate that rises in 100 steps and falls by a cosine."""
    rate = {"kind": "cosine", "rate": rate, "last": 0.0002, "start": 100, "end": steps, "from_zero": True}
    optimizer = {"learning_rate": rate, "clip": 1.0, "average": 0.99}
    return {"steps": steps, "batch": batch, "checkpoint_every": 500, "optimizer": optimizer}


def post_training(steps, images, data_variance, rate=0.001):
    """What each arm trains, how many images it is measured by, and the variance that Time-Shift is told."""
    arms = json.loads((RECIPES / "rivals.json").read_text())["post_training"]["arms"]
    for arm in arms:
        if isinstance(arm, dict) and "data_variance" in arm.get("correction", {}):
            # Of the linear path, whose variance tells the time no later.
            until = min(0.6, round(1 / (1 + data_variance) - 0.04, 2))
            arm["correction"] |= {"data_variance": data_variance, "until": until}
    optimizer = {"learning_rate": {"kind": "constant", "rate": rate, "warmup": 20}, "clip": 1.0, "average": 0.98}
    return {
        "post_training.steps": steps,
        "post_training.images": images,
        "post_training.solver_steps": [2],
        "post_training.optimizer": optimizer,
        "post_training.arms": arms,
    }


def pictures(data, network, training, post_training, guidance=None):
    """Changes of the recipe for a set of pictures."""
    sampling = {"solver": HEUN, "grid": {"steps": 5}} | ({"guidance": {"scale": guidance}} if guidance else {})
    return {"data": data, "network": network, "training": training, "sampling": sampling, **post_training}


def sets(folder):
    """The sets, cheapest first."""
    emoji = {"kind": "emoji", "size": 32}
    some = emoji | {"groups": ["face", "Flags"]}
    cut = lambda name, size: {"kind": "folder", "path": str(folder / "pictures" / name), "size": size, "flip": True}
    return {
        "digits": {},
        "faces": pictures(cut("faces", 24), sit(24, 6, 128, 1), training(1000, 16), post_training(150, 40, 0.158)),
        "emoji": pictures(some, sit(32, 8, 256, 2), training(1500, 16, 0.004), post_training(250, 64, 0.488), 2.0),
        "photographs": pictures(
            cut("photographs", 32), sit(32, 8, 128, 6), training(1500, 32), post_training(250, 200, 0.094)
        ),
        "shapes": pictures(
            {"kind": "shapes", "size": 32}, sit(32, 8, 128, 16), training(1500, 32), post_training(250, 200, 0.3)
        ),
        "emoji-latents": latents(some),
        "emoji-all": pictures(emoji, sit(32, 8, 128, 9), training(1500, 32), post_training(250, 128, 0.335), 2.0),
    }


def latents(data):
    """Latents of a representation autoencoder, which is trained first, as in the recipe `rae`."""
    recipe = json.loads((RECIPES / "rae.json").read_text())
    autoencoder, network = recipe["autoencoder"], recipe["network"]
    autoencoder["encoder"]["channels"] = autoencoder["decoder"]["channels"] = 3
    post = post_training(150, 64, 1.0, 0.002)
    post |= {"post_training.gamma": 0.4, "post_training.label_law": recipe["post_training"]["label_law"]}
    sampling = {"solver": HEUN, "grid": {"steps": 5}}
    keys = {key: recipe[key] for key in ["objective", "training"]}
    network |= {"classes": 2}
    return {"data": data, "autoencoder": autoencoder, "network": network, "sampling": sampling, **keys, **post}


def cut_pictures(folder):
    """faces: 100 grey ones of 25 x 25 pixels (Labeled Faces in the Wild); photographs: squares of 32, a class each."""
    import numpy as np
    from PIL import Image
    from skimage import data

    def write(pixels, name, number):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name / f"{number:04}.png")

    for number, face in enumerate(data.lfw_subset()[:100]):
        write(np.repeat((255 * face).round().astype(np.uint8)[..., None], 3, axis=2), "faces/face", number)
    names = ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg", "motorcycle_left.png"]
    for name in names:
        photograph = np.asarray(Image.open(Path(data.__file__).parent / name))
        height, width = photograph.shape[:2]
        corners = [(y, x) for y in range(0, height - 31, 32) for x in range(0, width - 31, 32)]
        for number, (y, x) in enumerate(corners):
            write(photograph[y : y + 32, x : x + 32], f"photographs/{Path(name).stem}", number)


class Scores:
    """What came out, by arm, evaluations and seed."""

    def __init__(self, results):
        rows = results["table"] + results["others"]
        self.of = {(row["arm"], row["evaluations"], row["seed"]): row["measurement"] for row in rows}
        self.arms = list(dict.fromkeys(row["arm"] for row in rows))
        self.counts = sorted({row["evaluations"] for row in rows})
        self.floor = next(iter(self.of.values()))["floor"]

    def values(self, arm, count, measure):
        return {seed: it["generated"][measure] for (name, at, seed), it in self.of.items() if (name, at) == (arm, count)}

    def cell(self, arm, count, measure, digits, sign=0):
        """Mean and deviation over seeds, marked where every seed is on one side of standard post-training."""
        values = self.values(arm, count, measure)
        if not values:
            return ""
        text = f"{mean(values.values()):.{digits}f}"
        if len(values) > 1:
            text += f" ± {stdev(values.values()):.{digits}f}"
        beside = self.values("standard", count, measure)
        if arm in ["start", "standard"]:
            return text
        gains = [sign * (value - beside[seed]) for seed, value in values.items()]
        return text + (" ▲" if min(gains) > 0 else " ▼" if max(gains) < 0 else "")


def table(scores):
    """All arms of a set."""
    print("| arm |" + "".join(f" {count} evaluations |" for count in scores.counts) + " recall | variance |")
    print("|---|" + "---|" * (len(scores.counts) + 2))
    most = scores.counts[-1]
    for arm in scores.arms:
        cells = [scores.cell(arm, count, "frechet", 1, -1) for count in scores.counts]
        cells += [scores.cell(arm, most, "recall", 2, 1), scores.cell(arm, most, "variance_ratio", 2)]
        print(f"| {NAMES.get(arm, arm)} | " + " | ".join(cells) + " |")
    measures = [("frechet", 1), ("recall", 2), ("variance_ratio", 2)]
    floor = [f"{scores.floor[measure]:.{digits}f}" for measure, digits in measures]
    print("| real images against others |" + " |" * (len(scores.counts) - 1) + " " + " | ".join(floor) + " |")


def overview(finished):
    """A line a set, at the most evaluations."""
    arms = ["start", "standard", "mix_flow", "control", "standard-ssc", "beta", "slowed-uniform"]
    print("| set | real | " + " | ".join(NAMES.get(arm, arm) for arm in arms) + " | recall: standard, MixFlow |")
    print("|---|" + "---|" * (len(arms) + 2))
    for name, scores in finished.items():
        most = scores.counts[-1]
        cells = [scores.cell(arm, most, "frechet", 0, -1) for arm in arms]
        recall = ", ".join(scores.cell(arm, most, "recall", 2) for arm in ["standard", "mix_flow"])
        print(f"| {name} | {scores.floor['frechet']:.0f} | " + " | ".join(cells) + f" | {recall} |")


def tables(folder):
    """Of every set that is finished."""
    files = {name: folder / name / "results.json" for name in sets(folder)}
    finished = {name: Scores(json.loads(file.read_text())["results"]) for name, file in files.items() if file.exists()}
    overview(finished)
    for name, scores in finished.items():
        print(f"\n## {name}\n")
        table(scores)


def main():
    folder, chosen = Path(sys.argv[1]).resolve(), sys.argv[2:]
    if chosen == ["--tables"]:
        return tables(folder)
    for name, changes in sets(folder).items():
        if chosen and name not in chosen or (folder / name / "results.json").exists():
            continue
        if name in ["faces", "photographs"] and not (folder / "pictures" / name).exists():
            cut_pictures(folder / "pictures")
        given = [flag for key, value in changes.items() for flag in ("--set", f"{key}={json.dumps(value)}")]
        given += ["--resume"] if (folder / name).exists() else []
        program = os.environ.get("MIXFLOW", "cargo xtask").split()
        subprocess.run(program + ["train", "rivals", "--out", folder / name, "--set", f"name={name}", *given], check=True)


main()
