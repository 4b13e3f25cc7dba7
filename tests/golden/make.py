"""Models as they were saved once, and what they said then: python tests/golden/make.py

Whatever changes inside, models that someone saved must load and say the same. ``FOLDER/shipped``
has inputs and results for each model that comes with the package; ``FOLDER/tables`` has small
models of tables, one for each kind of column, condition and ensemble, with their rows and results.
``test_golden.py`` computes the results again. Only public entry points are used here.

Files that exist are never replaced: a result that changed is a defect until someone deletes the
file and says why. Only missing ones are written.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import realnvp
from realnvp.cli.main import main as command
from realnvp.estimator import RealNVPDensity

FOLDER = Path(__file__).parent

SHIPPED = (
    "blobs", "checkerboard", "circles", "eight-gaussians", "moons", "pinwheel", "spirals",
    "uniform", "digits", "mnist", "fashion-mnist", "cifar10",
)  # fmt: skip

SCORED = 12
"""Rows of a table whose densities are kept; the others are fitted."""

SAMPLES = 6

SEED = 7

Results = dict[str, np.ndarray]


# ---------------------------------------------------------------------- shipped models


def shipped_inputs(name: str) -> Results:
    """Return inputs, latents and noise for a shipped model."""
    flow = realnvp.load(name).double()
    random = np.random.default_rng(SEED)
    count = 6 if flow.levels is None else 2
    z = random.normal(size=(count, *flow.shape))
    condition = {} if flow.classes is None else {"condition": np.arange(count) % flow.classes}
    if flow.levels is None:
        return {"z": z, "x": random.normal(size=(count, *flow.shape)), **condition}
    own = flow.decode(torch.as_tensor(z), **_tensors(condition)).numpy()
    # The last image is unusual, but not so much that float32 rounding decides its density.
    changed = own[-1].astype(int) + random.integers(-1, 2, flow.shape)
    own[-1] = np.clip(changed, 0, flow.levels - 1)
    return {"z": z, "x": own, "noise": random.random((count, *flow.shape)), **condition}


def shipped_results(name: str, inputs: Results) -> Results:
    """Return log-densities and decoded latents, in float64, and what ``realnvp score`` writes."""
    flow = realnvp.load(name).double()
    tensors = _tensors(inputs)
    condition = {key: tensors[key] for key in ("condition",) if key in tensors}
    noise = {key: tensors[key] for key in ("noise",) if key in tensors}
    with torch.no_grad():
        results = {
            "log_prob": flow.log_prob(tensors["x"], **condition, **noise),
            "decoded": flow.decode(tensors["z"], **condition),
        }
    found = {key: value.numpy() for key, value in results.items()}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "x.npy"
        labels = {} if "condition" not in inputs else {"y": inputs["condition"]}
        if labels:
            data = data.with_suffix(".npz")
            np.savez(data, x=inputs["x"], **labels)
        else:
            np.save(data, inputs["x"])
        return {**found, **scores(name, data)}


def scores(model: str | Path, data: Path) -> Results:
    """Return the numbers that ``realnvp score`` writes for a file."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "scores.csv"
        arguments = ["score", str(model), "--data", str(data), "--out", str(out), "--json"]
        printed, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            status = command([*arguments, "--device", "cpu"])
        if status != 0:
            raise RuntimeError(f"realnvp score {model} failed: {errors.getvalue()}")
        table = pd.read_csv(out)
    names = ("log_likelihood", "outlier_score", "p_value")
    return {f"score_{name}": table[name].to_numpy(float) for name in names if name in table}


def _tensors(arrays: Results) -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(value) for name, value in arrays.items()}


# ---------------------------------------------------------------------- tables


def _base(n: int = 600) -> tuple[pd.DataFrame, np.random.Generator]:
    """Return two columns on a noisy wave, which a mixture of Gaussians alone fits badly."""
    random = np.random.default_rng(SEED)
    a = random.normal(size=n)
    b = 1.5 * np.sin(2.5 * a) + 0.15 * random.normal(size=n)
    return pd.DataFrame({"a": a, "b": b}), random


def _number() -> pd.DataFrame:
    return _base()[0]


def _integer() -> pd.DataFrame:
    table, random = _base()
    return table.assign(k=random.poisson(4 + 2 * np.abs(table["a"])))


def _decimal() -> pd.DataFrame:
    table, random = _base()
    return table.assign(price=(20 + table["b"] + random.normal(size=len(table))).round(1))


def _positive() -> pd.DataFrame:
    table, _ = _base()
    return pd.DataFrame({"a": table["a"], "income": np.exp(8 + table["b"])})


def _atoms() -> pd.DataFrame:
    table, _ = _base()
    return pd.DataFrame({"a": table["a"], "rain": table["b"].clip(lower=0)})


def _category() -> pd.DataFrame:
    table, random = _base()
    noisy = table["a"] + 0.5 * random.normal(size=len(table))
    return table.assign(code=np.digitize(noisy, [-0.7, 0.4]) * 10)


def _text() -> pd.DataFrame:
    table, random = _base()
    names = np.array(["fair", "good", "very good"])
    noisy = table["a"] + 0.5 * random.normal(size=len(table))
    other = np.array(["no", "yes"])[(random.random(len(table)) < 0.3).astype(int)]
    return table.assign(cut=names[np.digitize(noisy, [-0.7, 0.4])], sold=other)


def _date() -> pd.DataFrame:
    table, random = _base()
    days = random.integers(0, 700, len(table)) + (30 * table["a"]).astype(int)
    seconds = random.integers(0, 86_400, len(table))
    start = pd.Timestamp("2021-03-01")
    return table.assign(
        day=start + pd.to_timedelta(days, unit="D"),
        time=start + pd.to_timedelta(days * 86_400 + seconds, unit="s"),
    )


def _missing() -> pd.DataFrame:
    table, random = _base()
    names = np.array(["x", "y"])[(table["b"] > 0.5).astype(int)]
    noisy = table["a"] + random.normal(size=len(table))
    table = table.assign(c=noisy, k=(noisy * 2).round(), kind=names)
    for column in ("c", "k", "kind"):
        table.loc[random.random(len(table)) < 0.2, column] = None
    return table


def _constant() -> pd.DataFrame:
    return _base()[0].assign(unit=3.5, country="NL")


def _copy() -> pd.DataFrame:
    table = _text()
    return table.assign(again=table["a"], cut_again=table["cut"])


def _linear() -> pd.DataFrame:
    table, _ = _base()
    return table.assign(total=2 * table["a"] - 3 * table["b"] + 1)


def _classes() -> pd.DataFrame:
    table, random = _base()
    label = np.array(["left", "middle", "right"])[random.integers(0, 3, len(table))]
    shift = {"left": -2.0, "middle": 0.0, "right": 2.0}
    return table.assign(a=table["a"] + pd.Series(label).map(shift), label=label)


def _numeric() -> pd.DataFrame:
    table, random = _base()
    u = random.random(len(table))
    return table.assign(a=table["a"] + 3 * u, u=u)


def _ensemble() -> pd.DataFrame:
    return _base()[0]


CONDITIONS = {"condition-class": "label", "condition-numeric": "u", "ensemble": "a"}
"""The column that a density is conditioned on."""

OPTIONS: dict[str, dict[str, Any]] = {
    "category": {"columns": {"code": "categorical"}},
    "ensemble": {"members": 3},
    "piecewise-linear": {"coupling": "piecewise_linear"},
    "affine": {"coupling": "affine"},
    "range": {"keep_range": True},
}
"""Settings of the estimator, besides those of all models."""

FITTED: dict[str, Callable[[], pd.DataFrame]] = {
    "number": _number,
    "integer": _integer,
    "decimal": _decimal,
    "positive": _positive,
    "atoms": _atoms,
    "category": _category,
    "text": _text,
    "date": _date,
    "missing": _missing,
    "constant": _constant,
    "copy": _copy,
    "linear": _linear,
    "condition-class": _classes,
    "condition-numeric": _numeric,
    "ensemble": _ensemble,
    "piecewise-linear": _text,
    "affine": _number,
    "range": _positive,
}
"""Tables that :class:`RealNVPDensity` was fitted to."""

TRAINED: dict[str, tuple[Callable[[], pd.DataFrame], list[str]]] = {
    "calibrated": (_text, []),
    "calibrated-missing": (_missing, []),
    "calibrated-class": (_classes, ["--data.condition", "label"]),
}
"""Tables that ``realnvp train table`` was given, which calibrates p-values, and its options."""

IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "integer": {"k": 2.5},
    "category": {"code": 40},
    "text": {"cut": "unheard of"},
    "constant": {"unit": 4.5},
    "copy": {"again": 0.125},
    "linear": {"total": 0.5},
    "number": {"a": 1e3},  # possible, but far away
}
"""Values that the last row of a table gets."""


KINDS = {
    "integer": "integer", "decimal": "decimal", "category": "categorical", "text": "categorical",
    "date": "datetime", "constant": "constant", "copy": "copy", "linear": "linear",
}  # fmt: skip
"""The kind that a column of a table must have been detected as, or its file guards nothing."""

SMALL = {
    "couplings": 2, "hidden": 8, "components": 4, "mixture_init": 1, "max_steps": 300,
    "lr": 0.01, "patience": 30, "random_state": SEED,
}  # fmt: skip
"""Settings of all fits."""


def fit(name: str, table: pd.DataFrame, folder: Path) -> None:
    """Fit a small density, and save it.

    Raises:
        RuntimeError: if the model would not guard what its name says.
    """
    density = RealNVPDensity(**{**SMALL, **OPTIONS.get(name, {})})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about columns that are constant or follow from others
        density.fit(*_parts(name, table)).save(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    if density.n_iter_ == 0:
        raise RuntimeError(f"the couplings of {name} are the identity: they would guard nothing")
    for setting in ("coupling", "members"):
        built = config["arguments"][setting]
        if built != OPTIONS.get(name, {}).get(setting, built):
            raise RuntimeError(f"{setting} of {name} is {built}")
    kinds = [column["kind"] for column in config["trained_on"]["table"]["columns"]]
    if KINDS.get(name, kinds[0]) not in kinds:
        raise RuntimeError(f"the columns of {name} were detected as {kinds}")


def train(name: str, table: pd.DataFrame, folder: Path) -> None:
    """Train a small model of a table by the command line, and keep its folder."""
    with tempfile.TemporaryDirectory() as work:
        data, run = Path(work) / "rows.csv", Path(work) / "run"
        table.to_csv(data, index=False)
        small = [
            "--model.couplings", "2", "--model.hidden", "8", "--model.components", "4",
            "--model.mixture_init", "1", "--training.steps", "200",
        ]  # fmt: skip
        options = ["--seed", str(SEED), "--quiet", "--no-report", *small, *TRAINED[name][1]]
        if command(["train", "table", "--data", str(data), "--out", str(run), *options]) != 0:
            raise RuntimeError(f"the training of {name} failed")
        folder.mkdir(parents=True)
        for path in (run / "model").iterdir():
            (folder / path.name).write_bytes(path.read_bytes())


def _parts(name: str, table: pd.DataFrame) -> tuple[Any, ...]:
    """Return the arguments of ``fit``: the columns, no target, and the condition."""
    if name not in CONDITIONS:
        return table, None, None
    return table.drop(columns=CONDITIONS[name]), None, table[CONDITIONS[name]]


def read_rows(path: Path) -> pd.DataFrame:
    """Return the rows of a file, with its dates."""
    table = pd.read_csv(path)
    dates = [name for name in ("day", "time") if name in table]
    return table.assign(**{name: pd.to_datetime(table[name]) for name in dates})


def table_results(name: str, folder: Path) -> dict[str, list[Any]]:
    """Return what a saved model says of the rows beside it."""
    results = {key: value.tolist() for key, value in scores(folder, folder / "rows.csv").items()}
    if name in TRAINED:
        flow = realnvp.load(folder)
        z = np.random.default_rng(SEED).normal(size=(SAMPLES, *flow.shape))
        condition = {} if flow.classes is None else {"condition": torch.arange(SAMPLES) % 3}
        decoded = flow.double().decode(torch.as_tensor(z), **condition)
        return {**results, "decoded": decoded.tolist()}
    density = RealNVPDensity.load(folder)
    X, _, condition = _parts(name, read_rows(folder / "rows.csv"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the impossible row
        results["log_prob"] = density.score_samples(X, condition).tolist()
    kept = None if condition is None else condition.iloc[:SAMPLES]
    samples = pd.DataFrame(density.sample(SAMPLES, random_state=SEED, condition=kept))
    results["samples"] = json.loads(samples.to_json(orient="values", date_format="iso"))
    return results


def write_table(name: str) -> None:
    """Save a model, its rows, and what it says of them."""
    target = FOLDER / "tables" / name
    if target.exists():
        print(f"kept  {target}")
        return
    build = FITTED[name] if name in FITTED else TRAINED[name][0]
    with tempfile.TemporaryDirectory(dir=FOLDER) as work:  # a failure leaves nothing behind
        folder = Path(work) / name
        # The scored rows are new: equal scores of held-out rows would leave p-values to rounding.
        (fit if name in FITTED else train)(name, build().iloc[SCORED:], folder)
        rows = build().iloc[:SCORED]
        for column, value in IMPOSSIBLE.get(name, {}).items():
            rows = rows.astype({column: object if isinstance(value, str) else type(value)})
            rows.loc[rows.index[-1], column] = value
        rows.to_csv(folder / "rows.csv", index=False)
        text = json.dumps(table_results(name, folder))
        (folder / "results.json").write_text(text + "\n", "utf-8")
        target.parent.mkdir(exist_ok=True)
        folder.rename(target)
    print(f"wrote {target}")


def write_shipped(name: str) -> None:
    """Write inputs and results of a shipped model."""
    path = FOLDER / "shipped" / f"{name}.npz"
    if path.exists():
        print(f"kept  {path}")
        return
    path.parent.mkdir(exist_ok=True)
    inputs = shipped_inputs(name)
    results = shipped_results(name, inputs)
    np.savez_compressed(
        path, **{f"in_{key}": v for key, v in inputs.items()},
        **{f"out_{key}": v for key, v in results.items()},
    )  # fmt: skip
    print(f"wrote {path}")


def main() -> None:
    torch.set_num_threads(1)
    for name in SHIPPED:
        write_shipped(name)
    for name in (*FITTED, *TRAINED):
        write_table(name)


if __name__ == "__main__":
    main()
