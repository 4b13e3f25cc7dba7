"""The built package, as somebody gets it: make package test-package

Lists what is in the wheel and the source archive, and installs the wheel into an environment of its
own, outside of the repository, where it has to sample, score, fit and say what is missing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT = 40_000_000
"""Largest size of the wheel in bytes: of package indexes, the smallest limit is 100 MB."""

ESTIMATOR = """
import numpy as np
from realnvp.estimator import RealNVPDensity
x = np.random.default_rng(0).normal(size=(200, 3))
density = RealNVPDensity(random_state=0, max_steps=20).fit(x)
assert density.score_samples(x).shape == (200,) and density.sample(5).shape == (5, 3)
"""


def check_contents(dist: Path) -> Path:
    """Check the lists of files; return the wheel."""
    [wheel], [archive] = dist.glob("*.whl"), dist.glob("*.tar.gz")
    source = ROOT / "src" / "realnvp"
    expected = {
        f"realnvp/{path.relative_to(source).as_posix()}"
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    found = {name for name in names if ".dist-info/" not in name}
    assert found == expected, f"the wheel differs from src/: {sorted(found ^ expected)}"
    for part in ("realnvp/py.typed", "realnvp/recipes/mnist.yaml", "realnvp/weights/mnist."):
        assert any(name.startswith(part) for name in names), f"{part} is not in the wheel"
    assert any(name.endswith("licenses/LICENSE") for name in names), "no licence in the wheel"
    assert wheel.stat().st_size < LIMIT, f"{wheel.name} has {wheel.stat().st_size:,} bytes"
    with tarfile.open(archive) as file:
        inside = {name.partition("/")[2] for name in file.getnames()}
    missing = {f"src/{name}" for name in expected} | {"pyproject.toml", "README.md", "LICENSE"}
    assert not missing - inside, f"not in the source archive: {sorted(missing - inside)}"
    print(f"{wheel.name}  {wheel.stat().st_size:,} bytes, {len(names)} files: as in src/")
    return wheel


def use(python: Path, folder: Path) -> None:
    """Run what a newcomer does, in an empty folder."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}

    def run(*command: str) -> None:
        subprocess.run([str(python), *command], check=True, cwd=folder, env=env)
        print("ok ", " ".join(command).strip().splitlines()[0])

    run("-m", "realnvp", "--version")
    run("-m", "realnvp", "sample", "mnist", "-n", "4", "--out", "samples.png")
    run("-m", "realnvp", "eval", "digits", "--data", "digits", "--json")
    run("-m", "realnvp", "train", "moons", "--steps", "5", "--quiet")
    run("-c", ESTIMATOR)
    assert (folder / "samples.png").is_file()
    outside = "import realnvp, sys; assert sys.prefix in realnvp.__file__, realnvp.__file__"
    run("-c", outside)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dist", type=Path, nargs="?", default=ROOT / "dist")
    parser.add_argument("--python", type=Path, help="an environment that has the wheel already")
    args = parser.parse_args()
    wheel = check_contents(args.dist)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        python = args.python
        if python is None:
            venv.create(folder / "venv", with_pip=True)
            python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
            install = [python, "-m", "pip", "install", "--quiet", wheel]
            subprocess.run(install, check=True)
        (folder / "empty").mkdir()
        use(python, folder / "empty")


if __name__ == "__main__":
    sys.exit(main())
