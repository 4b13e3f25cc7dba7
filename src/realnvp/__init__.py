"""realnvp: normalizing flows with Real NVP (Dinh et al., arXiv 1605.08803) and its successors.

>>> import torch, realnvp
>>> flow = realnvp.load("digits")
>>> images = torch.randint(0, 17, (4, 1, 8, 8), dtype=torch.uint8)
>>> flow.bits_per_dim(images).shape
torch.Size([4])

All layers are in :mod:`realnvp.bijections`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from realnvp import plots as plot
    from realnvp.bijections import Bijection, Chain, Coupling
    from realnvp.builders import image_flow, vector_flow
    from realnvp.conditioners import MLP, Conditioner, ResNet
    from realnvp.data import load_data
    from realnvp.energy import fit_energy
    from realnvp.estimator import RealNVPDensity, RealNVPOutlierDetector
    from realnvp.evaluation import evaluate
    from realnvp.flow import Flow
    from realnvp.posterior import PosteriorEstimator
    from realnvp.pretrained import load
    from realnvp.recipes import load_recipe
    from realnvp.recipes import load_recipe as recipe
    from realnvp.reports.card import push_to_hub
    from realnvp.tables.scorer import Scorer
    from realnvp.training.train import fit, train
    from realnvp.utils.registry import (
        register_architecture,
        register_builder,
        register_conditioner,
        register_coupling,
        register_domain,
    )

__version__ = "0.1.0"

_HOMES = {
    "Bijection": "realnvp.bijections",
    "Chain": "realnvp.bijections",
    "Conditioner": "realnvp.conditioners",
    "Coupling": "realnvp.bijections",
    "Flow": "realnvp.flow",
    "MLP": "realnvp.conditioners",
    "PosteriorEstimator": "realnvp.posterior",
    "RealNVPDensity": "realnvp.estimator",
    "RealNVPOutlierDetector": "realnvp.estimator",
    "ResNet": "realnvp.conditioners",
    "Scorer": "realnvp.tables.scorer",
    "evaluate": "realnvp.evaluation",
    "fit": "realnvp.training.train",
    "fit_energy": "realnvp.energy",
    "image_flow": "realnvp.builders",
    "load": "realnvp.pretrained",
    "load_data": "realnvp.data",
    "load_recipe": "realnvp.recipes",
    "plot": "realnvp.plots:",
    "push_to_hub": "realnvp.reports.card",
    "recipe": "realnvp.recipes:load_recipe",
    "register_architecture": "realnvp.utils.registry",
    "register_builder": "realnvp.utils.registry",
    "register_conditioner": "realnvp.utils.registry",
    "register_coupling": "realnvp.utils.registry",
    "register_domain": "realnvp.utils.registry",
    "train": "realnvp.training.train",
    "vector_flow": "realnvp.builders",
}

_MODULES = {
    "bijections", "codec", "conditioners", "config", "data", "energy", "estimator", "evaluation",
    "interop", "latents", "outliers", "posterior", "pretrained", "recipes", "training",
}  # fmt: skip
"""Modules that are imported when they are first used, as in ``realnvp.codec.compress``."""

__all__ = [
    "MLP",
    "Bijection",
    "Chain",
    "Conditioner",
    "Coupling",
    "Flow",
    "PosteriorEstimator",
    "RealNVPDensity",
    "RealNVPOutlierDetector",
    "ResNet",
    "Scorer",
    "evaluate",
    "fit",
    "fit_energy",
    "image_flow",
    "load",
    "load_data",
    "load_recipe",
    "plot",
    "push_to_hub",
    "recipe",
    "register_architecture",
    "register_builder",
    "register_conditioner",
    "register_coupling",
    "register_domain",
    "train",
    "vector_flow",
]


def __getattr__(name: str) -> Any:
    # PyTorch takes a second to import, and the command line's help must not wait for it.
    if name in _HOMES:
        home, colon, attribute = _HOMES[name].partition(":")
        try:
            module = import_module(home)
        except ModuleNotFoundError as error:
            from realnvp.utils.errors import describe

            raise ModuleNotFoundError(describe(error), name=error.name) from error
        return module if colon and not attribute else getattr(module, attribute or name)
    if name in _MODULES:
        return import_module(f"realnvp.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
