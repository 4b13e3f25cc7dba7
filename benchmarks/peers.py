"""Tests that others wrote, run on our flows, estimators and adapters.

Each suite is what its project publishes for the pinned version; names of its own flows or detectors
are replaced by ours before the tests are collected. ``make peers`` makes an environment of its own,
fetches the suites and runs this. A failure that is not explained makes the run fail.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import realnvp
from common import table, write
from realnvp.estimator import RealNVPDensity, RealNVPOutlierDetector

Outcomes = dict[str, tuple[str, str]]
"""What became of each test ("passed", "failed" or "skipped"), and the last line of its error."""

FOLDER = Path("build/peers/suites")

WHY = {
    "check_array_api_input": "scikit-learn's array API is off unless SCIPY_ARRAY_API is set",
    "BoundaryAdherence": "a density has tails: some of its numbers are beyond all real ones",
    "test_init": "options of nessai's own networks (batch norm, dropout) are not those of our flow",
}
"""Sentences that explain failures, by parts of the names of tests."""

NETWORK = {"couplings": 2, "hidden": 16}


def _flow(dim: int, condition_dim: int = 0, **options: Any) -> realnvp.Flow:
    """Return a flow that is not the identity."""
    flow = realnvp.vector_flow(dim, condition_dim=condition_dim, **NETWORK, **options)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    return flow


def scikit_learn() -> Outcomes:
    from sklearn.utils.estimator_checks import check_estimator

    density = RealNVPDensity(max_steps=10, hidden=4, couplings=2, mixture_init=1)
    outcomes: Outcomes = {}
    for estimator in (density, RealNVPOutlierDetector(density)):
        for check in check_estimator(estimator, on_fail=None, on_skip=None):
            name = f"{type(estimator).__name__}: {check['check_name']}"
            outcomes[name] = (check["status"], str(check["exception"] or ""))
    return outcomes


def pyod() -> Outcomes:
    import pyod.models.kde

    from realnvp.estimator import PyODRealNVP

    density = RealNVPDensity(max_steps=30, couplings=2, hidden=8, mixture_init=1)
    detector = functools.partial(PyODRealNVP, density=density, random_state=0)
    pyod.models.kde.KDE = detector
    return run(from_tag("yzhao062/pyod", "v3.6.5") / "pyod/test/test_kde.py")


def sdmetrics() -> Outcomes:
    from sdmetrics import load_demo
    from sdmetrics.reports import DiagnosticReport, QualityReport

    tables, _, metadata = load_demo("single_table")
    [(name, real)] = tables.items()
    key = metadata["tables"][name]["primary_key"]
    density = RealNVPDensity(random_state=0).fit(real.drop(columns=key))
    synthetic = density.sample(len(real))
    synthetic.insert(0, key, range(len(real)))
    shuffled = real.sample(frac=1, random_state=0)
    half = len(real) // 2

    def report(kind: Any, first: Any, second: Any) -> Any:
        made = kind()
        made.generate({name: first}, {name: second}, metadata, verbose=False)
        return made

    outcomes: Outcomes = {}
    diagnostic = report(DiagnosticReport, real, synthetic)
    for part in ("Data Validity", "Data Structure"):
        for metric, scores in diagnostic.get_details(part).groupby("Metric")["Score"]:
            right = "passed" if scores.min() == 1 else "failed"
            outcomes[f"{metric} of all columns"] = (right, "")
    ours, theirs = (
        report(QualityReport, *tables).get_score()
        for tables in ((real, synthetic), (shuffled[:half], shuffled[half : 2 * half]))
    )
    note = (
        f"DiagnosticReport {diagnostic.get_score():.1%}; QualityReport {ours:.1%}, of two halves "
    )
    note += f"of the real rows {theirs:.1%}"
    outcomes["QualityReport"] = ("passed" if ours >= theirs else "failed", note)
    return outcomes


def sbi() -> Outcomes:
    from sbi.neural_nets import net_builders

    from realnvp.interop.sbi import posterior_flow

    def build_realnvp(batch_x: Tensor, batch_y: Tensor, embedding_net: nn.Module, **_: Any) -> Any:
        return posterior_flow(embedding_net=embedding_net)(batch_x, batch_y)

    net_builders.build_nsf = build_realnvp
    return run(from_index("sbi") / "tests/density_estimator_test.py", chosen="build_realnvp")


def zuko() -> Outcomes:
    import zuko.flows
    import zuko.transforms

    def conditional(**options: Any) -> type[nn.Module]:
        class RealNVP(nn.Module):
            """A flow as zuko's: called with a condition, it returns a distribution."""

            def __init__(self, features: int, context: int) -> None:
                super().__init__()
                self.flow = _flow(features, context, **options)

            def forward(self, condition: Tensor) -> Any:
                return self.flow.as_distribution(condition)

        name = f"RealNVP_{options['coupling']}"
        RealNVP.__name__ = RealNVP.__qualname__ = name
        RealNVP.__module__ = __name__
        globals()[name] = RealNVP  # where pickle looks
        return RealNVP

    for theirs, coupling in (("MAF", "affine"), ("NSF", "spline"), ("GF", "logistic_mixture")):
        setattr(zuko.flows, theirs, conditional(coupling=coupling))
    for theirs, coupling in (
        ("FreeFormJacobianTransform", "affine"), ("PermutationTransform", "spline"),
        ("RotationTransform", "logistic_mixture"), ("LULinearTransform", "gaussian_mixture"),
    ):  # fmt: skip
        flow = _flow(5, coupling=coupling)
        transform = realnvp.interop.FlowTransform(flow)
        setattr(zuko.transforms, theirs, lambda *_, transform=transform, **__: transform)
    return run(from_index("zuko") / "tests", chosen="RealNVP or test_multivariate_transforms")


def nessai() -> Outcomes:
    import nessai.flows

    from realnvp.interop.nessai import NessaiFlow

    class OurFlow(NessaiFlow):
        def __init__(self, *sizes: int, batch_norm_between_layers: bool = False, **options: Any):
            if batch_norm_between_layers:  # the tests of all but one turn theirs off
                options["batch_norm_between_layers"] = True
            super().__init__(*sizes, **options)

    nessai.flows.RealNVP = OurFlow
    tests = from_index("nessai") / "tests/test_flows/test_included_flows.py"
    return run(tests, chosen="OurFlow")


def pyro() -> Outcomes:
    """Pyro has no suite for distributions of others: its conventions, as its tutorials use them."""
    import pyro
    import pyro.distributions as dist
    from pyro.infer import SVI, Predictive, Trace_ELBO

    pyro.set_rng_seed(0)
    flow = realnvp.vector_flow(2, coupling="affine", **NETWORK)
    base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    transformed = dist.TransformedDistribution(base, [realnvp.interop.FlowTransform(flow)])

    def model() -> Tensor:
        z = pyro.sample("z", base)
        with pyro.plate("rows", 20):
            pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=torch.ones(20))
        return z

    def guide() -> Tensor:
        pyro.module("flow", flow)
        return pyro.sample("z", transformed)

    def plates() -> None:
        def rows() -> Tensor:
            with pyro.plate("rows", 5):
                return pyro.sample("x", transformed)

        trace = pyro.poutine.trace(rows).get_trace()
        trace.compute_log_prob()
        site = trace.nodes["x"]
        assert site["value"].shape == (5, 2)
        torch.testing.assert_close(site["log_prob"], flow.log_prob(site["value"]))

    def inference() -> None:
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO(10, True))
        for _ in range(200):
            svi.step()
        total = Predictive(guide, num_samples=2000)()["z"].sum(1)
        assert abs(total.mean() - 40 / 41) < 0.05, total.mean()  # variances: 2, of data 1 / 20
        assert abs(total.std() - (2 / 41) ** 0.5) < 0.03, total.std()

    def methods() -> None:
        assert transformed.expand((3,)).to_event(1).event_shape == (3, 2)
        assert transformed.mask(False).log_prob(torch.ones(2)) == 0

    def observed() -> None:
        conditional = _flow(2, 1, coupling="spline").as_distribution(torch.ones(7, 1))
        values = torch.zeros(7, 2)
        trace = pyro.poutine.trace(lambda: pyro.sample("x", conditional, obs=values)).get_trace()
        torch.testing.assert_close(trace.log_prob_sum(), conditional.log_prob(values).sum())

    return {test.__name__: attempt(test) for test in (plates, inference, methods, observed)}


def adapters() -> Outcomes:
    tests = ("estimator/test_pyod_adapter.py", "interop/test_nessai.py", "interop/test_sbi.py")
    return run(*(Path("tests") / test for test in tests), mode="importlib")


SUITES: dict[str, tuple[Callable[[], Outcomes], str]] = {
    "scikit-learn": (scikit_learn, "check_estimator, of both estimators"),
    "pyod": (pyod, "tests of a detector (KDE's), of PyODRealNVP"),
    "sdmetrics": (
        sdmetrics,
        "metrics of both reports, synthetic rows of its demo, 215 students",
    ),
    "sbi": (sbi, "density_estimator_test, of posterior_flow"),
    "zuko": (
        zuko,
        "flows, Bayesian flows and transforms, of as_distribution() and FlowTransform",
    ),
    "nessai": (nessai, "test_included_flows, of NessaiFlow"),
    "realnvp": (adapters, "our own tests of adapters, skipped where their libraries are missing"),
    "pyro-ppl": (pyro, "plates, SVI, masks and observations, of FlowTransform"),
}


def attempt(test: Callable[[], None]) -> tuple[str, str]:
    try:
        test()
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}".splitlines()[0]
    return "passed", ""


def from_index(name: str) -> Path:
    """Return the folder of a package's sources at the installed version."""
    folder = FOLDER / f"{name}-{version(name)}"
    if not folder.exists():
        with tempfile.TemporaryDirectory() as here:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--no-binary", ":all:", "--dest", here, f"{name}=={version(name)}"]
            subprocess.run(command, check=True)
            _unpack(next(Path(here).glob("*.tar.gz")))
    return folder


def from_tag(repository: str, tag: str) -> Path:
    """Return the folder of a repository's sources at a tag."""
    folder = FOLDER / f"{repository.split('/')[1]}-{tag.removeprefix('v')}"
    if not folder.exists():
        with tempfile.TemporaryDirectory() as here:
            archive = Path(here) / "sources.tar.gz"
            url = f"https://github.com/{repository}/archive/refs/tags/{tag}.tar.gz"
            urllib.request.urlretrieve(url, archive)
            _unpack(archive)
    return folder


def _unpack(archive: Path) -> None:
    with tarfile.open(archive) as files:
        files.extractall(FOLDER, filter="data")


class Recorder:
    """A plugin of pytest that keeps outcomes."""

    def __init__(self) -> None:
        self.outcomes: Outcomes = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            error = str(report.longrepr or "").strip().splitlines()
            self.outcomes[report.nodeid.split("::", 1)[1]] = (report.outcome, "".join(error[-1:]))


def run(*tests: Path, chosen: str = "", mode: str = "prepend") -> Outcomes:
    """Run tests with pytest in this process."""
    import pytest

    recorder = Recorder()
    options = ["-q", "--tb=short", "-p", "no:cacheprovider", "-k", chosen]
    options += ["-o", "addopts=", "-o", "filterwarnings=ignore"]
    options += ["--import-mode", mode]
    pytest.main([*map(str, tests), *options], plugins=[recorder])
    return recorder.outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("suites", nargs="*", default=list(SUITES), help="names of suites")
    parser.add_argument("--here", action="store_true", help="run one suite in this process")
    args = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if args.here:
        torch.set_num_threads(1)
        warnings.filterwarnings("ignore")
        start, name = time.process_time(), args.suites[0]
        record = {"outcomes": SUITES[name][0](), "seconds": time.process_time() - start}
        (FOLDER / f"{name}.json").write_text(json.dumps(record))
        return
    for name in args.suites:  # names that are replaced for one are not for another
        subprocess.run([sys.executable, __file__, name, "--here"], check=True)
    unexplained = _write()
    if unexplained:
        sys.exit("not explained: " + ", ".join(unexplained))


def _write() -> list[str]:
    """Write the table of the last outcomes of all suites, and return failures without a reason."""
    rows, unexplained = [], []
    for name, (_, about) in SUITES.items():
        if not (FOLDER / f"{name}.json").exists():
            continue
        record = json.loads((FOLDER / f"{name}.json").read_text())
        notes = []
        for test, (outcome, note) in record["outcomes"].items():
            why = next((why for part, why in WHY.items() if part in test), "")
            if outcome == "failed" and not why:
                unexplained.append(test)
            if outcome != "passed" or note:
                notes.append(why or note)
        outcomes = [outcome for outcome, _ in record["outcomes"].values()]
        counts = [outcomes.count(kind) for kind in ("passed", "failed", "skipped")]
        row = [f"{name} {version(name)}", about, *counts, "; ".join(dict.fromkeys(notes))]
        rows.append([*row, f"{record['seconds']:.0f} s"])
    columns = ["suite", "what is run, on what", "passed", "failed", "skipped", "why", "CPU"]
    about = (__doc__ or "").split("\n\n", 1)[1].strip()
    write("peers", "Tests of others", about, table(columns, rows))
    return unexplained


if __name__ == "__main__":
    main()
