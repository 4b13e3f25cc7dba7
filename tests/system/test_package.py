"""What the package says of itself, and what it needs: quick checks beside make test-package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

import realnvp

ROOT = Path(__file__).parents[2]


def test_the_version_is_in_one_place_and_the_others_agree():
    changes = re.findall(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert changes[0] == citation["version"] == realnvp.__version__
    assert not re.search(r'^version = "', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)


def test_every_file_that_is_no_code_is_package_data():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    patterns = re.findall(r'"(.*?)"', re.search(r"^realnvp = \[(.*)\]$", text, re.M)[1])
    source = ROOT / "src" / "realnvp"
    packed = {path for pattern in patterns for path in source.glob(pattern)}
    others = {
        path
        for path in source.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
    }
    assert others == packed
    assert sum(path.stat().st_size for path in others) < 40e6


def test_workflows_run_targets_that_there_are():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    runs = []
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text("utf-8"))["jobs"].values():
            runs += [step["run"] for step in job["steps"] if "run" in step]
    # "${{ matrix.target || 'test' }}" is the target of the matrix, or test.
    runs = [re.sub(r"\$\{\{[^}]*'([\w-]+)' *\}\}", r"\1", run) for run in runs]
    called = {t for run in runs for t in re.findall(r"[\w-]+", run.partition("make ")[2])}
    assert {"test", "package"} <= called & targets
    assert called - targets <= {"PYTHON", "python"}


BLOCKED = """
import sys
names = "matplotlib tensorboard torchvision lightning_fabric rich pandas sklearn scipy"
blocked = {*names.split(), "PIL", "filelock"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


def test_samples_and_scores_need_little():
    code = BLOCKED + (
        "import realnvp\n"
        "flow = realnvp.load('mnist'); x = flow.sample(4); assert x.shape == (4, 1, 28, 28)\n"
        "assert flow.log_prob(x).shape == (4,)\n"
        "try: realnvp.plot\n"
        "except ModuleNotFoundError as error: assert 'pip install' in str(error), error\n"
        "from realnvp.cli.main import main\n"
        "assert main(['plot', 'moons']) == 2\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("realnvp: error: ")
    assert "pip install" in line
