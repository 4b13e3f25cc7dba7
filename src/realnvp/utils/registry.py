"""Tables of named classes and functions, to which settings and saved models refer.

A setting such as ``coupling: affine`` is a name in a :class:`Registry`. A name of your own is
added by a decorator, :func:`register_coupling` for example.

A saved model may be untrusted, so a name never imports anything: the module that it is in
must be imported already, by your script (``import mymodule``) or on the command line
(``--import mymodule``). Built-in entries are imported when they are first used, so that settings
can be checked before PyTorch is imported.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar

from realnvp.utils.errors import did_you_mean

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A table of classes or functions by name.

    Args:
        kind: name of what the table holds, for messages.
        base: import path of the class that entries derive from; None if they are functions.
        builtin: import paths of the entries that come with the package.

    >>> import collections, fractions
    >>> table = Registry("number", "numbers:Number", {"fraction": "fractions:Fraction"})
    >>> list(table), table["fraction"]
    (['fraction'], <class 'fractions.Fraction'>)
    >>> table["collections:OrderedDict"]
    Traceback (most recent call last):
    ValueError: unknown number 'collections:OrderedDict': there are fraction; import ...
    """

    def __init__(self, kind: str, base: str | None, builtin: Mapping[str, str]) -> None:
        self.kind = kind
        self._base = base
        self._entries: dict[str, Any] = dict(builtin)

    def register(self, name: str) -> Callable[[Any], Any]:
        """Return a decorator that adds a class or a function under a name.

        A cell of a notebook may run twice: a later definition of the same class replaces the
        earlier one.

        Raises:
            ValueError: if the name is taken, is not a plain name, or the class has another base.
        """
        if not isinstance(name, str) or not name:
            raise ValueError(f"the name of a {self.kind} is a word, got {name!r}")

        def add(entry: Any) -> Any:
            before = self._entries.get(name)
            if before is not None and _path(before) != _path(entry):
                raise ValueError(f"there is a {self.kind} {name!r} already: {_path(before)}")
            base = None if self._base is None else find(self._base)
            if base is not None and not (isinstance(entry, type) and issubclass(entry, base)):
                raise ValueError(f"{_path(entry)} is no {self.kind}: derive it from {self._base}")
            self._entries[name] = entry
            return entry

        return add

    def check(self, name: str) -> None:
        """Raise unless :meth:`__getitem__` would find the name; imports nothing.

        Raises:
            ValueError: naming the entries that there are, or the module to import.
        """
        if name not in self._entries:
            hint = did_you_mean(name, self._entries)
            raise ValueError(
                f"unknown {self.kind} {name!r}: {hint}there are {', '.join(self._entries)}; import "
                f"the module of your own first (on the command line: --import MODULE)"
            )

    def __getitem__(self, name: str) -> T:
        """Return the entry of a name.

        Raises:
            ValueError: as :meth:`check` does.
        """
        self.check(name)
        entry = self._entries[name]
        if isinstance(entry, str):
            entry = self._entries[name] = find(entry)
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def find(path: str) -> Any:
    """Import a name of this package by its path, ``module:name``."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def _path(entry: Any) -> str:
    return entry if isinstance(entry, str) else f"{entry.__module__}:{entry.__qualname__}"


COUPLINGS: Registry[type] = Registry(
    "coupling",
    "realnvp.bijections.coupling:Coupling",
    {
        "affine": "realnvp.bijections.coupling:AffineCoupling",
        "gaussian_mixture": "realnvp.bijections.gaussian_mixture:GaussianMixtureCoupling",
        "logistic_mixture": "realnvp.bijections.logistic_mixture:LogisticMixtureCoupling",
        "piecewise_linear": "realnvp.bijections.piecewise_linear:PiecewiseLinearCoupling",
        "spline": "realnvp.bijections.spline:SplineCoupling",
    },
)
"""Coupling layers: subclasses of :class:`realnvp.Coupling`."""


DOMAINS: Registry[type] = Registry(
    "domain",
    "realnvp.bijections.domains:Domain",
    {
        "interval": "realnvp.bijections.domains:Interval",
        "halfline": "realnvp.bijections.domains:HalfLine",
        "circle": "realnvp.bijections.domains:Circle",
        "simplex": "realnvp.bijections.domains:Simplex",
    },
)
"""Domains of columns: subclasses of :class:`realnvp.bijections.Domain`."""


CONDITIONERS: Registry[type] = Registry(
    "conditioner",
    "realnvp.conditioners:Conditioner",
    {"resnet": "realnvp.conditioners:ResNet", "mlp": "realnvp.conditioners:MLP"},
)
"""Networks of the couplings: subclasses of :class:`realnvp.Conditioner`."""


ARCHITECTURES: Registry[Callable] = Registry(
    "architecture",
    None,
    {
        "realnvp": "realnvp.architectures:realnvp",
        "autoregressive": "realnvp.architectures:autoregressive",
        "glow": "realnvp.architectures:glow",
        "coarse_to_fine": "realnvp.architectures:coarse_to_fine",
    },
)
"""Functions ``(shape, model, condition_dim) -> Bijection`` that arrange a model's layers."""


BUILDERS: Registry[Callable] = Registry(
    "builder",
    None,
    {
        "image_flow": "realnvp.builders:image_flow",
        "vector_flow": "realnvp.builders:vector_flow",
    },
)
"""Functions that return a :class:`realnvp.Flow`, named in the ``config.json`` of saved models."""


DISTRIBUTION = "realnvp.interop.distributions:FlowDistribution"
"""The distribution that a flow is for other libraries."""


def register_coupling(name: str) -> Callable[[Any], Any]:
    """Return a decorator that makes a coupling usable as ``model.coupling: name``.

    The class derives from :class:`realnvp.Coupling`, and its constructor takes
    ``(mask, conditioner, channels, **options)``: the options are ``model.coupling_options``, and
    ``components`` if the constructor has a parameter of that name.
    """
    return COUPLINGS.register(name)


def register_domain(name: str) -> Callable[[Any], Any]:
    """Return a decorator that makes a domain usable as an entry ``(name, *numbers)``.

    The class derives from :class:`realnvp.bijections.Domain`, whose constructor takes the numbers
    of each column.
    """
    return DOMAINS.register(name)


def register_conditioner(name: str) -> Callable[[Any], Any]:
    """Return a decorator that makes a network usable as ``model.conditioner: name``.

    The class derives from :class:`realnvp.Conditioner`. Its constructor takes the numbers of input
    and output channels, and by keyword ``hidden``, ``blocks`` and ``condition_dim``; for images
    also ``norm``, ``block`` and ``patch``.
    """
    return CONDITIONERS.register(name)


def register_architecture(name: str) -> Callable[[Any], Any]:
    """Return a decorator that makes a function usable as ``model.architecture: name``.

    The function takes ``(shape, model, condition_dim)``: the shape of one example, the validated
    :class:`realnvp.config.ImageModel` or :class:`realnvp.config.VectorModel`, and the size of the
    condition. It returns the bijection between preprocessing and latents, which keeps the shape.
    """
    return ARCHITECTURES.register(name)


def register_builder(name: str) -> Callable[[Callable], Callable]:
    """Return a decorator that allows the flows returned by a function to be saved and loaded.

    The arguments of a call are saved with the flow, so they must be JSON: numbers, text, booleans,
    None, and lists and dictionaries of them. Loading calls the function with them again, and then
    fills in the weights.

    Raises:
        ValueError: if the name is taken, or the function has parameters without names.
    """

    def add(make: Callable) -> Callable:
        signature = inspect.signature(make)
        if any(
            p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL) for p in signature.parameters.values()
        ):
            raise ValueError(f"the builder {name!r} needs parameters with names: no *args, no /")

        @functools.wraps(make)
        def build(*args: Any, **kwargs: Any) -> Any:
            flow = make(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            arguments: dict[str, Any] = {}
            for key, value in bound.arguments.items():
                more = signature.parameters[key].kind is inspect.Parameter.VAR_KEYWORD
                arguments |= value if more else {key: value}
            for key, value in arguments.items():
                try:
                    json.dumps(value)
                except (TypeError, ValueError) as error:
                    raise ValueError(
                        f"the argument {key} of the builder {name!r} cannot be saved: {error}"
                    ) from error
            flow.config = {"builder": name, "arguments": arguments}
            return flow

        return BUILDERS.register(name)(build)

    return add
