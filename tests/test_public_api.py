"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import realnvp


@pytest.mark.parametrize("name", realnvp.__all__)
def test_every_public_name_is_found(name):
    assert getattr(realnvp, name) is not None
    assert name in dir(realnvp)


def test_the_public_names_are_those_with_a_home():
    assert sorted(realnvp.__all__) == sorted(realnvp._HOMES)
    with pytest.raises(AttributeError, match="no attribute 'ActNorm'"):
        realnvp.ActNorm  # noqa: B018
    from realnvp import bijections

    assert all(hasattr(bijections, name) for name in bijections.__all__)


@pytest.mark.parametrize(
    "code",
    [
        "import realnvp; realnvp.register_coupling, realnvp.load_recipe",
        "from realnvp.cli.main import main; main(['--help'])",
        "import realnvp; realnvp.load_recipe('digits', model={'coupling': 'gaussian_mixture'})",
    ],
)
def test_settings_and_help_do_not_wait_for_pytorch(code):
    code += "\nimport sys; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
