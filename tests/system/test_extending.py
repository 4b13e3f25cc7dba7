"""What a user adds from outside the package: the examples of docs/extending.md, and more."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

import realnvp
from helpers.bijections import randomize
from realnvp.cli.main import main
from realnvp.utils import registry

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
TABLES = (registry.COUPLINGS, registry.CONDITIONERS, registry.ARCHITECTURES, registry.BUILDERS)


@pytest.fixture(autouse=True)
def outside(tmp_path, monkeypatch):
    """Work in a folder of one's own; forget what the examples import and register."""
    monkeypatch.chdir(tmp_path)
    modules, path = set(sys.modules), list(sys.path)
    entries = [dict(table._entries) for table in TABLES]
    sys.path.insert(0, str(tmp_path))
    importlib.invalidate_caches()
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    for table, before in zip(TABLES, entries, strict=True):
        table._entries = before


def blocks(section: str) -> list[tuple[str, str]]:
    """Return language and text of the fenced blocks of a section of the page."""
    text = re.split(r"^## ", PAGE.read_text(), flags=re.M)
    (body,) = [part for part in text if part.startswith(section)]
    return re.findall(r"^```(\w+)\n(.*?)^```$", body, flags=re.M | re.S)


def write_files(section: str) -> None:
    """Write the blocks that begin with the name of a file."""
    for _, text in blocks(section):
        if name := re.match(r"# (\w+\.\w+)\n", text):
            Path(name[1]).write_text(text)
    importlib.invalidate_caches()


def forget(module: str) -> None:
    """Leave the process as a new one is: nothing of the user's is imported or registered."""
    for table in TABLES:
        table._entries = {
            name: entry
            for name, entry in table._entries.items()
            if isinstance(entry, str) or entry.__module__ != module
        }
    sys.modules.pop(module, None)


@pytest.mark.parametrize(
    "section",
    ["A coupling", "A conditioner", "An architecture", "A flow by hand", "Any other layer"],
)
def test_the_examples_of_the_page_run(section, capsys):
    write_files(section)
    names: dict = {}
    for language, text in blocks(section):
        if language == "sh":
            for line in text.splitlines():
                assert main(shlex.split(line)[1:]) == 0, (line, capsys.readouterr().err)
        elif language == "python" and not re.match(r"# \w+\.py\n", text):
            exec(compile(text, str(PAGE), "exec"), names)


def tails():
    write_files("A coupling")
    return importlib.import_module("tails")


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (1, 4, 6)])
def test_the_coupling_has_the_invariants_of_every_bijection(shape):
    from realnvp.architectures import make_coupling
    from realnvp.bijections import ChannelMask, CheckerboardMask
    from realnvp.config import ImageModel, VectorModel

    tails()
    options = {"coupling": "tails", "coupling_options": {"bound": 1.5}, "hidden": 4, "blocks": 1}
    model = VectorModel(**options) if len(shape) == 1 else ImageModel(**options)
    network = {} if len(shape) == 1 else {"norm": "none", "block": "residual", "patch": 1}
    mask = CheckerboardMask() if shape[0] == 1 else ChannelMask()
    layer = make_coupling(mask, shape[0], model, **network).double().eval()
    x = 3 * torch.randn(4, *shape, dtype=torch.float64)
    z, log_det = layer(x)
    torch.testing.assert_close(z, x)  # it starts as the identity
    torch.testing.assert_close(log_det, torch.zeros(4, dtype=torch.float64))
    randomize(layer)
    z, log_det = layer(x)
    assert not torch.equal(z, x)
    assert log_det.shape == (4,)
    back, inverse_log_det = layer.inverse(z)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(inverse_log_det, -log_det)
    for i in range(4):
        jacobian = torch.autograd.functional.jacobian(lambda v: layer(v)[0], x[i : i + 1])
        flat = jacobian.reshape(x[i].numel(), x[i].numel())
        torch.testing.assert_close(log_det[i], torch.linalg.slogdet(flat)[1])


def test_the_coupling_trains_from_a_recipe_is_saved_and_loaded(capsys):
    module = tails()
    recipe = realnvp.load_recipe("tails.yaml", training={"steps": 60})
    result = realnvp.train(recipe, Path("run"), quiet=True)
    torch.manual_seed(0)
    start = recipe.build(2).eval()
    flow = realnvp.load("run")
    layers = [m for m in flow.modules() if isinstance(m, module.TailCoupling)]
    assert len(layers) == 4
    assert layers[0].bound == 2.0
    x = realnvp.load_data(recipe.data).validation.x[:200].float()
    gain = (flow.log_prob(x) - start.log_prob(x)).mean().item()
    assert gain > 0.3, "it learned"
    assert result.steps == 60
    assert main(["train", "tails.yaml", "--dry-run", "--model.coupling_options.bound", "3"]) == 0


def test_a_model_is_loaded_only_after_its_module_is_imported(capsys):
    tails()
    realnvp.vector_flow(2, coupling="tails").save_pretrained("m")
    forget("tails")
    with pytest.raises(ValueError, match="unknown coupling 'tails'"):
        realnvp.load("m")
    assert main(["sample", "m", "--out", "a.csv"]) == 2
    assert "--import" in capsys.readouterr().err
    assert "tails" not in sys.modules
    assert main(["sample", "m", "--out", "a.csv", "--import", "tails"]) == 0
    forget("tails")
    assert main(["sample", "m", "--out", "b.csv", "--import=tails"]) == 0


@pytest.mark.parametrize("arguments", [["--import"], ["--import", "nowhere"], ["--import="]])
def test_a_module_that_cannot_be_imported_is_an_error_in_one_line(arguments, capsys):
    assert main(["recipes", *arguments]) == 2
    assert capsys.readouterr().err.startswith("realnvp: error: --import")


def test_a_builders_flow_is_saved_with_its_arguments():
    write_files("A flow by hand")
    mynet = importlib.import_module("mynet")
    flow = mynet.make_flow(3, hidden=8)
    flow.loss_terms(torch.randn(50, 3))
    flow.save_pretrained("mine")
    forget("mynet")
    with pytest.raises(ValueError, match="unknown builder 'mynet'"):
        realnvp.load("mine")
    importlib.import_module("mynet")
    again, x = realnvp.load("mine"), torch.randn(5, 3)
    assert again.config["arguments"] == {"dim": 3, "hidden": 8}
    assert torch.equal(again.log_prob(x), flow.log_prob(x))


def test_a_bug_in_a_part_of_ones_own_is_not_hidden():
    @realnvp.register_coupling("broken")
    class Broken(realnvp.bijections.AffineCoupling):
        def __init__(self, mask, conditioner, channels):
            super().__init__(mask, conditioner, channels)
            raise RuntimeError("a bug of mine")

    recipe = realnvp.load_recipe("moons", model={"coupling": "broken"}, training={"steps": 1})
    with pytest.raises(RuntimeError, match="a bug of mine"):
        realnvp.train(recipe, Path("run"), quiet=True)
    large = realnvp.load_recipe("digits", model={"hidden": 10**12}, training={"steps": 1})
    with pytest.raises(ValueError, match="larger than any memory"):
        realnvp.train(large, Path("run"), quiet=True)
