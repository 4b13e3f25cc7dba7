"""Outliers among images: AUROC of four scores, for shipped models beside other images.

    python benchmarks/outlier_images.py mnist[=SOURCE] cifar10[=SOURCE] --others faces=FOLDER ...

Of each shipped model, test images of its own, which neither it nor its calibration has seen, are to
be distinguished from those of other sets of the same size and channels (folders of images are
resized, other sets of another size left out), and from its own images made strange: noise, blur
(Gaussian, of one pixel), inversion, and constants. Higher is better; 0.5 is chance.

*Likelihood* is minus the log-likelihood, *typicality* its distance from the mean, *codec* bits/dim
beyond those of the image as an optimized PNG, and *outlier_score* what ``realnvp score`` writes,
also with ``--symmetries``.
Results are kept in CACHE, so that models may be run one by one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

import realnvp
from common import Cache, held_out, table, write
from realnvp.codec import fingerprint
from realnvp.config import DataConfig
from realnvp.data.sources import load_examples, resizes
from realnvp.outliers import OutlierScorer
from realnvp.outliers.calibration import excess_bits
from realnvp.pretrained import shipped_names

SETS = ("mnist", "fashion-mnist", "cifar10")
SCORES = ("likelihood", "typicality", "codec", "outlier_score", "--symmetries")


def made_strange(x: Tensor) -> dict[str, Tensor]:
    """Return kinds of strange images by name, made of uint8 images ``(N, C, H, W)``."""
    generator = torch.Generator().manual_seed(0)
    grey = torch.linspace(0, 255, len(x)).round().to(torch.uint8)
    return {
        "noise": torch.randint(0, 256, x.shape, generator=generator, dtype=torch.uint8),
        "blur": gaussian_blur(x, [7, 7], [1.0, 1.0]),
        "inversion": 255 - x,
        "constant": grey.view(-1, 1, 1, 1).expand_as(x).contiguous(),
    }


def config_for_source(source: str, shape: tuple[int, ...], count: int) -> Tensor:
    """Return the first images of a source, as large as a model's."""
    options = {"size": shape[1], "channels": shape[0]} if resizes(source) else {}
    if Path(source).is_dir() and not resizes(source):
        config = DataConfig("fashion-mnist", root=source)
    else:
        config = DataConfig(source, **options)
    return load_examples(config, shape=shape, levels=256).x[:count]


def scores(flow: realnvp.Flow, x: Tensor) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    """Return scores by name, each ``(N,)``, and the p-values of two of them."""
    scorer = OutlierScorer(flow, symmetries=True)
    scorers = {"outlier_score": OutlierScorer(flow), "--symmetries": scorer}
    parts, generator = [], torch.Generator().manual_seed(0)
    for part in x.split(100):
        found = scorer.statistics(part, None, generator)
        parts.append({name: values.numpy() for name, values in found.items()})
        print(".", end="", file=sys.stderr, flush=True)
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert scorer.calibration is not None
    mean = scorer.calibration.statistics["log_likelihood"].mean().item()
    result = {
        "likelihood": -found["log_likelihood"],
        "typicality": np.abs(found["log_likelihood"] - mean),
        "codec": excess_bits(found, flow),
        **{name: each.score(found) for name, each in scorers.items()},
    }
    return result, {name: each.p_values(found) for name, each in scorers.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(SETS), metavar="NAME[=SOURCE]")
    parser.add_argument("--others", nargs="*", default=[], metavar="NAME=SOURCE")
    parser.add_argument("--count", type=int, default=1000, help="images of a set")
    parser.add_argument("--few", type=int, default=300, help="images made strange, of each kind")
    parser.add_argument("--cache", default="outlier_images.jsonl")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sources = dict(pair.partition("=")[::2] for pair in args.models)
    others = dict(pair.partition("=")[::2] for pair in args.others)
    cache = Cache(args.cache)
    text = []
    for name in dict.fromkeys([*SETS, *sources]):
        if name not in shipped_names():
            text.append(f"{name}: skipped, since no model of it comes with the package.")
            continue
        flow = realnvp.load(name)
        key = (name, fingerprint(flow).hex(), args.count, args.few, *sorted(others))
        if key not in cache:
            if name not in sources:
                continue
            try:
                cache.add(
                    key,
                    measured(flow, held_out(name, sources[name], args.count), args.few, others),
                )
            except (ValueError, OSError, RuntimeError) as error:
                text.append(f"{name}: skipped, since {str(error).splitlines()[0]}")
                continue
        record = cache[key]
        kinds = list(record["auroc"])
        rows = [[s, *(f"{record['auroc'][kind][s]:.3f}" for kind in kinds)] for s in SCORES]
        (p05, p01), (with_p05, with_p01) = record["p"].values()
        text += [
            f"## {name}",
            table(["score", *kinds], rows),
            f"Of {record['images']:,} images of its own, {p05:.3f} have p <= 0.05, and {p01:.3f} "
            f"p <= 0.01; with `--symmetries`, {with_p05:.3f} and {with_p01:.3f}.",
        ]
    write("outlier_images", "Outliers among images", *(__doc__ or "").split("\n\n")[2:], *text)


def measured(
    flow: realnvp.Flow, own: Tensor, few: int, others: dict[str, str]
) -> dict[str, object]:
    """Return the AUROC of each kind of images by each score, and shares of small p-values."""
    strange = made_strange(own[:few])
    for other, source in others.items():
        if other == flow.source:
            continue
        try:
            strange[other] = config_for_source(source, flow.shape, len(own))
        except ValueError as error:  # of another size, or in color
            print(f"{other} left out: {error}", file=sys.stderr)
    ordinary, p = scores(flow, own)
    auroc = {}
    for kind, x in strange.items():
        found, _ = scores(flow, x)
        y = np.repeat([0, 1], [len(own), len(x)])
        auroc[kind] = {
            s: float(roc_auc_score(y, np.nan_to_num(np.concatenate([ordinary[s], found[s]]))))
            for s in SCORES
        }
    shares = {s: [float((values <= a).mean()) for a in (0.05, 0.01)] for s, values in p.items()}
    return {"images": len(own), "auroc": auroc, "p": shares}


if __name__ == "__main__":
    main()
