"""The built package, as somebody gets it: make package test-package

Lists what is in the wheel and the source archive, and installs the wheel into an environment of its
own, outside of the repository. There it has to do what a newcomer does: all of the page Start, to
samples of a folder of images and scores of a table, and all commands of the README, with budgets of
a few steps, but for those that download data or wait for somebody.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT = 40_000_000
"""Largest size of the wheel in bytes: of package indexes, the smallest limit is 100 MB."""

SKIPPED = re.compile(r"cifar10|celeba|--data mnist$|train mnist --minutes|studio|push")
"""Commands of the README that need a network, hours, or somebody who looks."""

BRIEF = ["--steps", "4", "--quiet", "--no-report"]

SMALL = [*BRIEF, "--model.hidden", "8", "--model.blocks", "1"]

DATA = """
import numpy as np, pandas as pd
from pathlib import Path
from PIL import Image
rng = np.random.default_rng(0)
Path("photos").mkdir()
for i in range(24):
    Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(f"photos/{i}.png")
size = rng.normal(50, 10, 400).round(1)
price = (3 * size + rng.normal(0, 5, 400)).round(2)
table = pd.DataFrame({"size": size, "price": price, "kind": rng.choice(["flat", "house"], 400)})
table.to_csv("my.csv", index=False)
table.head(50).to_csv("new.csv", index=False)
table.head(50).mask(rng.random((50, 3)) < 0.1).to_csv("gaps.csv", index=False)
images = rng.integers(0, 256, (200, 1, 28, 28), dtype=np.uint8)
np.savez("mnist.npz", images=images, labels=rng.integers(0, 10, 200))
"""


def readme_commands() -> list[list[str]]:
    """Return the commands of the README's list that can be run anywhere, with small budgets."""
    text = (ROOT / "README.md").read_text("utf-8").partition("## The command line")[2]
    block = re.search(r"^```sh\n(.*?)^```$", text, flags=re.M | re.S)
    assert block is not None
    lines = [line.partition("#")[0].strip() for line in block[1].splitlines()]
    found = []
    for line in lines:
        if not line or SKIPPED.search(line):
            continue
        words = shlex.split(line)[1:]
        if "mnist.npz" in words:
            words += ["--data.validation", "0.1"]
        if words[0] == "train":
            words += BRIEF if words[1] == "table" else SMALL
        if "--overfit" in words:
            words.remove("--overfit")
        if words[0] == "export":  # of a model with fewer layers
            words[1] = "digits"
        found.append(words)
    return found


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


def start_steps(folder: Path) -> Iterator[list[str]]:
    """Yield arguments of Python for each step of the page Start; write its scripts in between."""
    page = (ROOT / "docs" / "start.md").read_text("utf-8")
    for kind, text in re.findall(r"^```(\w+)\n(.*?)^```$", page, flags=re.M | re.S):
        if kind == "python" and (name := re.match(r"# (\w+\.py)\n", text)):
            (folder / name[1]).write_text(text, "utf-8")
        elif kind == "python":
            yield ["-c", text]
        elif kind == "sh":
            for line in text.splitlines():
                program, *words = shlex.split(line)
                if words[0] == "train" and "--dry-run" not in words:
                    if "--minutes" in words:
                        at = words.index("--minutes")
                        del words[at : at + 2]
                    words += BRIEF
                yield words if program == "python" else ["-m", "realnvp", *words]


def use(python: Path, folder: Path) -> None:
    """Run what a newcomer does, in empty folders."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}

    def run(where: Path, *command: str) -> None:
        subprocess.run([str(python), *command], check=True, cwd=where, env=env)
        print("ok ", " ".join(command).strip().splitlines()[0], flush=True)

    start, readme = folder / "start", folder / "readme"
    start.mkdir()
    readme.mkdir()
    outside = "import realnvp, sys; assert sys.prefix in realnvp.__file__, realnvp.__file__"
    run(folder, "-c", outside)
    for command in start_steps(start):
        run(start, *command)
    made = {path.name for path in start.iterdir()}
    assert made >= {"samples.png", "threes.png", "mine.png", "scores.csv", "wine-scores.csv"}, made
    assert len((start / "wine-scores.csv").read_text().splitlines()) == 179

    run(readme, "-c", DATA)
    commands = readme_commands()
    own = next(words for words in commands if words[:2] == ["train", "mnist"])
    assert len(commands) >= 20, commands
    for words in [["train", "mnist-paper", *own[2:]], *commands]:
        run(readme, "-m", "realnvp", *words)


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
        use(python, folder)


if __name__ == "__main__":
    sys.exit(main())
