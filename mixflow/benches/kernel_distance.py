"""Why the kernel distance does not follow the Fréchet distance: `kernel_distance.py RUN FOLDER [STEPS ...]`.

Of a run of the recipe `emoji`: as many images of each class as there are pictures, by every trained network, against all
pictures. Splits the Fréchet distance into its two terms, of means and of covariances, and the kernel distance, whose kernel
(x·y / d + 1)³ is a sum of powers, into what means and what second and third moments add. MIXFLOW names the program."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ASSETS = Path(__file__).parent / "../assets"
CLASSES = {"face": 118, "Flags": 261}
ARMS = ["pretraining", *(f"{arm}-{seed}" for seed in range(3) for arm in ["standard", "mixflow"])]


def pictures():
    """Those of the two classes, as rows of pixels from -1 to 1."""
    sheet = np.asarray(Image.open(ASSETS / "emoji.png").convert("RGB"))
    columns = sheet.shape[1] // 32
    lines = [line.split("\t") for line in (ASSETS / "emoji.tsv").read_text().splitlines()]
    places = [place for place, (group, sub, _) in enumerate(lines) if group == "Flags" or sub.split("-")[0] == "face"]
    return rows(np.stack([sheet[y : y + 32, x : x + 32] for y, x in (np.array(divmod(p, columns)) * 32 for p in places)]))


def rows(images):
    return images.reshape(len(images), -1) / 127.5 - 1


def drawn(run, folder, arm, steps):
    """Images of every class, drawn once."""
    files = []
    for label, (name, count) in enumerate(CLASSES.items()):
        file = folder / f"{arm}-{steps}-{name}.npz"
        if not file.exists():
            flags = ["--arm", arm, "--steps", steps, "--labels", label, "--count", count, "--seed", 7, "--out", file]
            program = os.environ.get("MIXFLOW", "cargo xtask").split()
            subprocess.run([*program, "sample", run, *map(str, flags)], check=True, stdout=subprocess.DEVNULL)
        files.append(np.load(file)["arr_0"])
    return rows(np.concatenate(files))


def frechet(a, b):
    """The term of means, and that of covariances."""
    centred = [(x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b)]
    common = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    return ((a.mean(0) - b.mean(0)) ** 2).sum(), sum((x**2).sum() for x in centred) - 2 * common


def kernel(a, b):
    """What the first, second and third power add to the unbiased estimate."""
    products = [x @ y.T / a.shape[1] for x, y in ((a, a), (b, b), (a, b))]
    for power, factor in ((1, 3), (2, 3), (3, 1)):
        within_a, within_b, between = (product**power for product in products)
        within = sum((x.sum() - np.trace(x)) / len(x) / (len(x) - 1) for x in (within_a, within_b))
        yield factor * (within - 2 * between.mean())


def main():
    run, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    real = pictures()
    for steps in map(int, sys.argv[3:] or [2, 5]):
        found = []
        print(f"\n{4 * steps} evaluations, guided\n\n| network | Fréchet | means | covariances | 10³ kernel | first power | second | third |")
        print("|---|" + "---|" * 7)
        for arm in ARMS:
            images = drawn(run, folder, arm, steps)
            means, covariances = frechet(real, images)
            powers = [1e3 * power for power in kernel(real, images)]
            found.append((means, means + covariances, sum(powers)))
            cells = [means + covariances, means, covariances, sum(powers), *powers]
            print(f"| {arm} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")
        means, whole, kernels = np.array(found).T
        correlations = [np.corrcoef(kernels, x)[0, 1] for x in (means, whole)]
        print(f"\nkernel distance against means: r = {correlations[0]:.3f}; against Fréchet: r = {correlations[1]:.3f}")


main()
