r"""Builders of flows: preprocessing, an architecture and a prior, from the options of a recipe.

:func:`image_flow` and :func:`vector_flow` put dequantization and the logit, or a standardization,
before the layers of an architecture of :mod:`realnvp.architectures`, and store their arguments in
the flow, so that it can be saved and built again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, zeros

from realnvp.bijections import (
    Affine,
    AffineCoupling,
    Average,
    Bijection,
    Chain,
    ChannelMask,
    CheckerboardMask,
    CirclesFirst,
    CircularCoupling,
    ClassMeans,
    Dequantize,
    DomainMap,
    EncodedCondition,
    Logit,
    Rosenblatt,
    VariationalDequantize,
)
from realnvp.bijections.domains import DomainLike, as_domain
from realnvp.columns.layer import TableColumns
from realnvp.columns.network import CategoriesFirst
from realnvp.conditioners import MLP, ImageFeatures, ResNet
from realnvp.config import ImageModel, VectorModel
from realnvp.flow import Flow
from realnvp.utils.registry import ARCHITECTURES

__all__ = ["average_flow", "image_flow", "vector_flow"]

Model = TypeVar("Model", ImageModel, VectorModel)

NOISE_FEATURES = 16
"""Feature maps of the networks of variational dequantization."""


def image_flow(
    shape: tuple[int, int, int],
    *,
    levels: int = 256,
    condition_dim: int = 0,
    classes: int | None = None,
    model: ImageModel | None = None,
    architecture: str = ImageModel.architecture,
    scales: int = ImageModel.scales,
    steps: int | list[int] = ImageModel.steps,
    coupling: str = ImageModel.coupling,
    coupling_options: dict[str, Any] | None = ImageModel.coupling_options,
    components: int = ImageModel.components,
    dequantization: Literal["uniform", "variational"] = ImageModel.dequantization,
    linear: bool = ImageModel.linear,
    split_prior: bool = ImageModel.split_prior,
    conditioner: str = ImageModel.conditioner,
    hidden: int | list[int] = ImageModel.hidden,
    blocks: int | list[int] = ImageModel.blocks,
    block: Literal["residual", "gated"] = ImageModel.block,
    patch: int = ImageModel.patch,
    norm: Literal["batch", "act", "none"] = ImageModel.norm,
    norm_momentum: float = ImageModel.norm_momentum,
    conditioner_norm: Literal["batch", "instance", "none"] = ImageModel.conditioner_norm,
    labels: Literal["conditioners", "prior"] = ImageModel.labels,
    label_weight: float = ImageModel.label_weight,
    alpha: float = ImageModel.alpha,
    scale_penalty: float = ImageModel.scale_penalty,
) -> Flow:
    """Build a multi-scale flow for images, Real NVP's by default (arXiv 1605.08803, section 3.6).

    Images are dequantized and mapped by a logit. Each scale then has three checkerboard couplings,
    a squeeze and three channel-wise couplings, after which half of the variables are factored out;
    the last scale has four checkerboard couplings. Each coupling is followed by a normalization.
    The latents have the image's shape. Options replace parts by those of Glow (arXiv 1807.03039)
    and Flow++ (arXiv 1902.00275).

    Args:
        shape: ``(C, H, W)``, any C; H and W divisible by ``2 ** (scales - 1)``, or by
            ``2 ** scales`` with the architecture "glow".
        levels: grey levels of the pixels, which are integers ``0 .. levels - 1``.
        condition_dim: size of the condition, 0 for none.
        classes: number of classes, if the condition is a label.
        model: all of the following options in one object, as a recipe holds them.

    The other options are the fields of :class:`realnvp.config.ImageModel`, which explains them.

    Raises:
        ValueError: if the size does not fit the number of scales, an option is out of range, or
            ``model`` is given along with single options.

    >>> flow = image_flow((1, 8, 8), levels=17, hidden=8, blocks=1)
    >>> flow.sample(2).shape, flow.sample(2).dtype
    (torch.Size([2, 1, 8, 8]), torch.uint8)
    """
    model = _model_settings(ImageModel, locals())
    if len(shape) != 3:
        raise ValueError(f"the shape of an image is (channels, height, width), got {tuple(shape)}")
    channels, height, width = shape
    _check_sizes(channels=channels, height=height, width=width)
    _check_sizes(levels=levels, condition_dim=condition_dim, classes=classes)
    if channels * height * width == 1:
        raise ValueError("an image of one grey pixel cannot be split by a coupling")
    condition_dim = condition_dim if classes is None else classes
    in_prior = model.labels == "prior" and condition_dim > 0
    if in_prior and classes is None:
        raise ValueError('labels "prior" needs classes, but this condition is a vector of numbers')
    layers_condition = 0 if in_prior else condition_dim
    dequantize = _dequantize(levels, channels, model, layers_condition)
    layers = _layers_of(
        ARCHITECTURES[model.architecture]((channels, height, width), model, layers_condition)
    )
    if in_prior:
        layers.append(ClassMeans(condition_dim, (channels, height, width)))
    return Flow(
        Chain(dequantize, Logit(model.alpha), *layers),
        (channels, height, width),
        condition_dim=condition_dim,
        classes=classes,
        scale_penalty=model.scale_penalty,
        label_weight=model.label_weight if in_prior else 0.0,
        config={
            "builder": "image_flow",
            "arguments": {
                "shape": list(shape),
                "levels": levels,
                "condition_dim": condition_dim,
                "classes": classes,
                **dataclasses.asdict(model),
            },
        },
    )


def vector_flow(
    dim: int,
    *,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    mixture: tuple[Tensor, Tensor, Tensor] | None = None,
    conditional_mixture: bool = False,
    integers: Sequence[int] = (),
    columns: Sequence[Mapping[str, Any]] | None = None,
    column_tensors: Mapping[str, Tensor] | None = None,
    categories: Mapping[str, Any] | None = None,
    category_tensors: Mapping[str, Tensor] | None = None,
    members: int = 1,
    condition_dim: int = 0,
    classes: int | None = None,
    model: VectorModel | None = None,
    architecture: str = VectorModel.architecture,
    coupling: str = VectorModel.coupling,
    coupling_options: dict[str, Any] | None = VectorModel.coupling_options,
    components: int = VectorModel.components,
    condition_bins: int = VectorModel.condition_bins,
    couplings: int = VectorModel.couplings,
    conditioner: str = VectorModel.conditioner,
    hidden: int = VectorModel.hidden,
    blocks: int = VectorModel.blocks,
    dropout: float = VectorModel.dropout,
    networks: int = VectorModel.networks,
    norm: Literal["batch", "act", "none"] = VectorModel.norm,
    norm_momentum: float = VectorModel.norm_momentum,
    scale_penalty: float = VectorModel.scale_penalty,
    mixture_init: int | Literal["auto"] = VectorModel.mixture_init,
    domain: DomainLike = VectorModel.domain,
) -> Flow:
    """Build a flow for vectors: points, or the rows of a table.

    Columns are standardized, or made normal by a Gaussian mixture to start from; then couplings
    transform the two halves of the columns in turn, each followed by a normalization. A single
    column has no other half: its couplings are elementwise maps whose parameters are a function of
    the condition alone.

    Args:
        dim: number D of columns.
        mean: means ``(D,)`` of the columns, for the standardization; zeros if left out.
        std: standard deviations ``(D,)`` of the columns; ones if left out.
        mixture: means, Cholesky factors and weights of the Gaussians to start from; see
            :class:`realnvp.bijections.Rosenblatt`, whose ``shapes`` are theirs.
        conditional_mixture: let the mixture depend on the condition. Follows from the tensors of
            ``mixture`` where they are given, as the option ``mixture_init`` does.
        integers: indices of the integer columns, which are dequantized.
        columns: maps of a table's columns to coordinates, in place of ``integers``; see
            :class:`realnvp.columns.layer.TableColumns`. All other arguments are of the coordinates.
        column_tensors: tensors of these maps.
        categories: "links" and "features" of
            :class:`~realnvp.columns.network.CategoriesFirst`, which models the categories first
            and conditions the layers of the other columns on them.
        category_tensors: tensors of ``categories``.
        members: number of flows whose densities are averaged, of one column; see
            :class:`realnvp.bijections.Average`. All start with the same mixture.
        condition_dim: size of the condition, 0 for none.
        classes: number of classes, if the condition is a label.
        model: all of the following options in one object, as a recipe holds them.

        domain: for each column ``None``, or a domain with its numbers: ``("interval", a, b)``,
            ``("halfline", a)``, ``("circle",)`` or ``("simplex",)``; or the support of a
            distribution of PyTorch. See :mod:`realnvp.bijections.domains`. Outside of it, the
            density is 0.

    The other options are the fields of :class:`realnvp.config.VectorModel`, which explains them.

    Raises:
        ValueError: if an option is out of range, or ``model`` is given along with single options.

    >>> import torch
    >>> vector_flow(3).encode(torch.zeros(4, 3)).shape
    torch.Size([4, 3])
    >>> vector_flow(1, condition_dim=2).sample(4, condition=torch.zeros(4, 2)).shape
    torch.Size([4, 1])
    """
    _check_sizes(dim=dim, condition_dim=condition_dim, classes=classes)
    domain = as_domain(domain, dim)
    model = _model_settings(VectorModel, locals())
    condition_dim = condition_dim if classes is None else classes
    first: list[Bijection] = _columns_layer(dim, integers, columns, column_tensors)
    circles: list[int] = []
    if model.domain is not None:
        if first:
            raise ValueError("a domain is for real numbers, not for the columns of a table")
        first = [layer := DomainMap(as_domain(model.domain, dim) or [None] * dim)]
        circles = layer.columns.get("circle", [])
    # Number of columns that the couplings transform, and size of the condition that they receive.
    size, layers_condition, layers_classes = dim, condition_dim, classes
    if categories is not None:
        size, layers_condition = dim - len(categories["links"]), int(categories["features"])
        if columns is None or (size and not layers_condition):
            raise ValueError("categories need the columns of a table, and at least one feature")
        layers_condition, layers_classes = layers_condition + condition_dim, None
    if circles:
        size, layers_classes = dim - len(circles), None
        layers_condition = 2 * len(circles) + condition_dim
    mean, std = _statistics("mean", mean, size), _statistics("std", std, size)
    gaussians = 1 if isinstance(model.mixture_init, str) else model.mixture_init
    if mixture is not None:
        found = mixture[0].shape[-2]
        if gaussians not in (0, found):
            raise ValueError(f"mixture_init is {gaussians}, but mixture has {found}")
        gaussians, conditional_mixture = found, tuple(mixture[0].shape) != (found, size)
    model = dataclasses.replace(model, mixture_init=gaussians)
    if model.condition_bins and (classes is not None or not condition_dim or circles):
        raise ValueError("condition_bins needs a numeric condition, and no circles")
    _check_members(members, dim)
    if circles and members > 1:
        raise ValueError("flows on a circle cannot be averaged (members)")

    def make_body() -> list[Bijection]:
        if not size:  # all columns are modeled first
            return []
        start: Bijection
        if gaussians:
            dims = (layers_condition, layers_classes) if conditional_mixture else (0, None)
            start = _mixture_layer(gaussians, size, *dims, mixture)
        else:
            start = Affine(zeros(size) if mean is None else mean, std)
        return [start, *_couplings(size, layers_condition, model)]

    body = make_body()
    if members > 1:
        body = [Average(Chain(*body), *(Chain(*make_body()) for _ in range(members - 1)))]
    if circles:
        torus = _circular_couplings(len(circles), condition_dim, model)
        body = [CirclesFirst(circles, dim, torus, Chain(*body))]
    if categories is not None:
        body = [_categories_layer(dim, categories, category_tensors, body, model, condition_dim)]
    return Flow(
        Chain(*first, *body),
        (dim,),
        condition_dim=condition_dim,
        classes=classes,
        scale_penalty=model.scale_penalty,
        config={
            "builder": "vector_flow",
            "arguments": {  # mean, standard deviation and mixture are saved with the weights
                "dim": dim,
                "conditional_mixture": conditional_mixture,
                "integers": list(integers),
                "columns": None if columns is None else [dict(column) for column in columns],
                "categories": None if categories is None else dict(categories),
                "members": members,
                "condition_dim": condition_dim,
                "classes": classes,
                **dataclasses.asdict(model),
            },
        },
    )


def _statistics(name: str, values: Any, size: int) -> Tensor | None:
    """Return a number for each column in the type of the model, which float64 data need not have.

    Raises:
        ValueError: if there is another number of them.
    """
    if values is None:
        return None
    found = torch.as_tensor(values, dtype=torch.get_default_dtype())
    if found.shape != (size,):
        raise ValueError(f"{name} has the shape {tuple(found.shape)}, not ({size},)")
    return found


def average_flow(flows: Sequence[Flow]) -> Flow:
    r"""Return the flow whose density is the mean of those of flows of one column.

    .. math:: p(x) = \frac{1}{M} \sum_m p_m(x)

    Args:
        flows: flows built by :func:`vector_flow` with equal arguments. The map of the column and
            the standardization of the condition are taken from the first one.

    Raises:
        ValueError: if they were not built with equal arguments.

    >>> import torch
    >>> flows = [vector_flow(1, mean=torch.tensor([m])).eval() for m in (-1.0, 1.0)]
    >>> x = torch.tensor([[0.3], [2.0]])
    >>> expected = torch.stack([flow.log_prob(x).exp() for flow in flows]).mean(0)
    >>> torch.allclose(average_flow(flows).log_prob(x).exp(), expected)
    True
    """
    arguments = dict((flows[0].config or {}).get("arguments", {}))
    if any(flow.config != flows[0].config for flow in flows) or arguments.get("members") != 1:
        raise ValueError("only flows that were built with equal arguments can be averaged")
    names = [field.name for field in dataclasses.fields(VectorModel)]
    model = VectorModel(**{name: arguments.pop(name) for name in names})
    average = vector_flow(**arguments | {"members": len(flows)}, model=model).to(flows[0].dtype)
    assert isinstance(average.bijection, Chain)
    before = len(average.bijection) - 1  # layers that map the column
    states = [flow.state_dict() for flow in flows]
    found = {}
    layer = f"bijection.layers.{before}.members."
    for name in average.state_dict():
        if name.startswith(layer):
            member, _, index, rest = name.removeprefix(layer).split(".", 3)
            own = f"bijection.layers.{before + int(index)}.{rest}"
            found[name] = states[int(member)][own]
        else:
            found[name] = states[0][name]
    average.load_state_dict(found)
    return average.eval()


def _columns_layer(
    dim: int,
    integers: Sequence[int],
    columns: Sequence[Mapping[str, Any]] | None,
    tensors: Mapping[str, Tensor] | None,
) -> list[Bijection]:
    """Return the first layer of a table's columns, if they need one."""
    if columns is None:
        # Settings may come from an untrusted file: indexing with True would select everything.
        bad = [c for c in integers if isinstance(c, bool | float) or not 0 <= c < dim]
        if bad:
            raise ValueError(f"indices of integer columns are 0 .. {dim - 1}, got {bad[0]}")
        columns = [{"kind": "plain", "step": i in set(integers)} for i in range(dim)]
        return [TableColumns(columns)] if len(integers) else []
    if len(integers) or len(columns) != dim:
        raise ValueError(f"columns are {dim} mappings, without integers, got {len(columns)}")
    layer = TableColumns(columns)
    layer.fill(tensors or {})
    return [layer]


def _dequantize(levels: int, channels: int, model: ImageModel, condition_dim: int) -> Dequantize:
    if model.dequantization == "uniform":
        return Dequantize(levels)
    features = ImageFeatures(channels, NOISE_FEATURES, blocks=1, condition_dim=condition_dim)

    def layer(flip: bool) -> Bijection:
        net = ResNet(channels, 2 * channels, NOISE_FEATURES, 1, "none", 0, NOISE_FEATURES)
        return AffineCoupling(CheckerboardMask(flip), net, channels)

    noise = Chain(layer(False), layer(True), layer(False), layer(True))
    return VariationalDequantize(levels, features, noise)


def _mixture_layer(
    components: int,
    dim: int,
    condition_dim: int,
    classes: int | None,
    mixture: tuple[Tensor, Tensor, Tensor] | None,
) -> Rosenblatt:
    """Return the first layer, with the tensors of ``mixture``, or with placeholders."""
    shapes = Rosenblatt.shapes(components, dim, condition_dim, classes)
    condition_dim = condition_dim if classes is None else 0
    if mixture is None:
        return Rosenblatt(zeros(shapes["means"]), condition_dim=condition_dim)
    if tuple(mixture[0].shape) != shapes["means"]:
        raise ValueError(
            f"the means of the mixture must have shape {shapes['means']}, "
            f"got {tuple(mixture[0].shape)}"
        )
    return Rosenblatt(*mixture, condition_dim)


def _couplings(dim: int, condition_dim: int, model: VectorModel) -> list[Bijection]:
    """Return the layers of the architecture, which may receive an encoding of the condition."""
    bins = model.condition_bins
    features = EncodedCondition.num_features(condition_dim, bins)
    layers = ARCHITECTURES[model.architecture]((dim,), model, features)
    return [EncodedCondition(condition_dim, bins, layers)] if bins else _layers_of(layers)


def _circular_couplings(circles: int, condition_dim: int, model: VectorModel) -> Chain:
    """Return the couplings of angles, which are modeled first."""
    layers = []
    for i in range(model.couplings):
        mask = ChannelMask(flip=i % 2 == 1 or circles == 1)
        passive, active = mask.sizes(circles)
        outputs = CircularCoupling.num_params(model.components) * active
        net = MLP(2 * passive, outputs, model.hidden, model.blocks, condition_dim)
        layers.append(CircularCoupling(mask, net, active, components=model.components))
    return Chain(*layers)


def _categories_layer(
    dim: int,
    categories: Mapping[str, Any],
    tensors: Mapping[str, Tensor] | None,
    others: list[Bijection],
    model: VectorModel,
    condition_dim: int,
) -> CategoriesFirst:
    """Return the layer that models the categories, and the other columns given them."""
    links = categories["links"]
    tilt: Any = None
    if condition_dim:
        logits = sum(link["size"] for link in links)
        tilt = MLP(0, logits, model.hidden, model.blocks, condition_dim)
    layer = CategoriesFirst(
        links, dim, categories["features"], Chain(*others), condition_dim=condition_dim,
        conditioner=tilt,
    )  # fmt: skip
    layer.fill(tensors or {})
    return layer


# ------------------------------------------------------------------ arguments


def _layers_of(layers: Bijection) -> list[Bijection]:
    """Return the layers of a chain, or any other bijection as the only one."""
    return list(layers) if isinstance(layers, Chain) else [layers]


def _model_settings(kind: type[Model], given: Mapping[str, Any]) -> Model:
    """Return the validated options among a builder's arguments, ``model`` or the single ones."""
    names = [field.name for field in dataclasses.fields(kind)]
    model = given["model"]
    if model is None:
        return kind(**{name: given[name] for name in names})
    if not isinstance(model, kind):
        raise ValueError(f"model must be a realnvp.config.{kind.__name__}, got {str(model)[:50]!r}")
    for name in names:
        if given[name] != getattr(kind, name):
            raise ValueError(f"{name} is one of model's options: set it there, or leave model out")
    return model


def _check_members(members: Any, dim: int) -> None:
    """Raise ValueError unless flows of these columns can be averaged."""
    if isinstance(members, bool) or not isinstance(members, int) or not 1 <= members <= 1000:
        raise ValueError(f"members must be 1 to 1000, got {members!r}")
    if members > 1 and dim > 1:
        raise ValueError(f"only flows of one column can be averaged (members), got {dim} columns")


def _check_sizes(**sizes: Any) -> None:
    """Raise ValueError unless sizes are integers that float32 holds, from 1 (condition_dim 0)."""
    for name, value in sizes.items():
        least = 0 if name == "condition_dim" else 1
        is_integer = isinstance(value, Integral) and not isinstance(value, bool)
        if value is not None and not (is_integer and least <= value <= 2**24):
            raise ValueError(
                f"{name} must be an integer from {least} to {2**24}, got {str(value)[:50]}"
            )
