r"""Builders of models: preprocessing, and couplings in the arrangement that the settings name.

:func:`image_flow` and :func:`vector_flow` put dequantization and the logit, or a standardization,
before an *architecture*: :func:`realnvp` (arXiv 1605.08803, section 3.6) or :func:`glow` (arXiv
1807.03039). Architectures, couplings and conditioners are looked up by name, see
:mod:`realnvp.utils.registry`; :func:`make_coupling` and :func:`normalized` are what an architecture
of your own builds with.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Literal, TypeVar

from torch import Tensor, zeros

from realnvp.bijections import (
    ActNorm,
    Affine,
    AffineCoupling,
    Average,
    Bijection,
    BlockMask,
    CategoriesFirst,
    Chain,
    ChannelMask,
    CheckerboardMask,
    ClassMeans,
    Coupling,
    Dequantize,
    FactorOut,
    Flatten,
    Inverse,
    InvertibleLinear,
    Logit,
    Refine,
    Rosenblatt,
    RunningBatchNorm,
    Squeeze,
    TableColumns,
    VariationalDequantize,
)
from realnvp.bijections.coupling import Mask
from realnvp.conditioners import ImageFeatures, ResNet
from realnvp.config import ImageModel, VectorModel, of_scale
from realnvp.flow import Flow
from realnvp.utils.registry import ARCHITECTURES, CONDITIONERS, COUPLINGS

__all__ = [
    "coarse_to_fine",
    "glow",
    "image_flow",
    "make_coupling",
    "normalized",
    "realnvp",
    "vector_flow",
]

Model = TypeVar("Model", ImageModel, VectorModel)

NOISE_FEATURES = 16
"""Feature maps of the networks of variational dequantization, which are small."""

COARSE_FEATURES = 32
"""Feature maps of what an image at half its size says to the couplings of its details."""


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
    blocks: int = ImageModel.blocks,
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

    Images are dequantized and mapped by a logit; then come, per scale, three checkerboard
    couplings, a squeeze, three channel-wise couplings, and half of the variables are factored out;
    the last scale has four checkerboard couplings. Each coupling is followed by a normalization.
    The latents have the image's shape. Options replace parts by those of Glow (arXiv 1807.03039)
    and Flow++ (arXiv 1902.00275).

    Args:
        shape: ``(C, H, W)``, any C; H and W divisible by ``2 ** (scales - 1)``, or by
            ``2 ** scales`` with the architecture "glow".
        levels: grey levels of the pixels, which are integers ``0 .. levels - 1``.
        condition_dim: size of the condition, 0 for none.
        classes: number of classes, if the condition is a label.
        model: all of the following options at once, as a recipe holds them.

    The other options are the fields of :class:`realnvp.config.ImageModel`, which explains them.

    Raises:
        ValueError: if the size does not fit the number of scales, an option is out of range, or
            ``model`` is given along with single options.

    >>> flow = image_flow((1, 8, 8), levels=17, hidden=8, blocks=1)
    >>> flow.sample(2).shape, flow.sample(2).dtype
    (torch.Size([2, 1, 8, 8]), torch.uint8)
    """
    model = _model(ImageModel, locals())
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
        raise ValueError('labels "prior" is for classes: this condition is a vector of numbers')
    inside = 0 if in_prior else condition_dim
    dequantize = _dequantize(levels, channels, model, inside)
    layers = _all(ARCHITECTURES[model.architecture]((channels, height, width), model, inside))
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
    couplings: int = VectorModel.couplings,
    conditioner: str = VectorModel.conditioner,
    hidden: int = VectorModel.hidden,
    blocks: int = VectorModel.blocks,
    norm: Literal["batch", "act", "none"] = VectorModel.norm,
    norm_momentum: float = VectorModel.norm_momentum,
    scale_penalty: float = VectorModel.scale_penalty,
    mixture_init: int | Literal["auto"] = VectorModel.mixture_init,
) -> Flow:
    """Build a flow for vectors: points, or the rows of a table.

    Columns are standardized, or made normal by a Gaussian mixture to start from; then couplings
    transform the two halves of the columns in turn, each followed by a normalization. A single
    column has no other half: its couplings are elementwise maps whose parameters are a function of
    the condition alone.

    Args:
        dim: number D of columns.
        mean: means of the columns, for the standardization; zeros if left out.
        std: standard deviations of the columns; ones if left out.
        mixture: means, Cholesky factors and weights of the Gaussians to start from; see
            :class:`realnvp.bijections.Rosenblatt`, whose ``shapes`` are theirs.
        conditional_mixture: let the mixture depend on the condition. Follows from the tensors of
            ``mixture`` where they are given, as the option ``mixture_init`` does.
        integers: indices of the integer columns, which are dequantized.
        columns: maps of a table's columns, in place of ``integers``; see
            :class:`realnvp.bijections.TableColumns`. What follows is of their results.
        column_tensors: tensors of these maps.
        categories: "links" and "features" of :class:`realnvp.bijections.CategoriesFirst`, by which
            all that follows is of the other columns given the categories. The flow has no condition
            of its own then.
        category_tensors: their tensors.
        members: number of flows whose densities are averaged, of one column; see
            :class:`realnvp.bijections.Average`. All start with the same mixture.
        condition_dim: size of the condition, 0 for none.
        classes: number of classes, if the condition is a label.
        model: all of the following options at once, as a recipe holds them.

    The other options are the fields of :class:`realnvp.config.VectorModel`, which explains them.

    Raises:
        ValueError: if an option is out of range, or ``model`` is given along with single options.

    >>> import torch
    >>> vector_flow(3).encode(torch.zeros(4, 3)).shape
    torch.Size([4, 3])
    >>> vector_flow(1, condition_dim=2).sample(4, condition=torch.zeros(4, 2)).shape
    torch.Size([4, 1])
    """
    model = _model(VectorModel, locals())
    _check_sizes(dim=dim, condition_dim=condition_dim, classes=classes)
    gaussians = 1 if isinstance(model.mixture_init, str) else model.mixture_init
    model = dataclasses.replace(model, mixture_init=gaussians)
    condition_dim = condition_dim if classes is None else classes
    first: list[Bijection] = _columns_layer(dim, integers, columns, column_tensors)
    size, given, of = dim, condition_dim, classes  # what the couplings are of, and given
    if categories is not None:
        size, given = dim - len(categories["links"]), int(categories["features"])
        if condition_dim or not given or columns is None:
            raise ValueError("categories go first in tables without a condition only")
    if mixture is not None:
        found = mixture[0].shape[-2]
        if gaussians not in (0, found):
            raise ValueError(f"mixture_init is {gaussians}, but mixture has {found}")
        model, gaussians = dataclasses.replace(model, mixture_init=found), found
        conditional_mixture = tuple(mixture[0].shape) != (found, size)

    def make() -> list[Bijection]:
        start: Bijection
        if gaussians:
            inside = (given, of) if conditional_mixture else (0, None)
            start = _mixture_layer(gaussians, size, *inside, mixture)
        else:
            start = Affine(zeros(size) if mean is None else mean, std)
        return [start, *_all(ARCHITECTURES[model.architecture]((size,), model, given))]

    if isinstance(members, bool) or not isinstance(members, int) or not 1 <= members <= 1000:
        raise ValueError(f"members must be 1 to 1000, got {members!r}")
    if members > 1 and dim > 1:
        raise ValueError(f"members are averaged of one column only, got {dim} columns")
    body = make()
    if members > 1:
        body = [Average(Chain(*body), *(Chain(*make()) for _ in range(members - 1)))]
    if categories is not None:
        layer = CategoriesFirst(categories["links"], dim, given, Chain(*body))
        layer.fill(category_tensors or {})
        body = [layer]
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


def average_flow(flows: Sequence[Flow]) -> Flow:
    """Return the flow whose density is the mean of those of flows of one column.

    Args:
        flows: flows of :func:`vector_flow`, alike but for their weights: what maps the column to
            normal scores, and what standardizes the condition, are the first one's.

    Raises:
        ValueError: if they are not alike.

    >>> import torch
    >>> flows = [vector_flow(1, mean=torch.tensor([m])).eval() for m in (-1.0, 1.0)]
    >>> x = torch.tensor([[0.3], [2.0]])
    >>> expected = torch.stack([flow.log_prob(x).exp() for flow in flows]).mean(0)
    >>> torch.allclose(average_flow(flows).log_prob(x).exp(), expected)
    True
    """
    arguments = dict((flows[0].config or {}).get("arguments", {}))
    if any(flow.config != flows[0].config for flow in flows) or arguments.get("members") != 1:
        raise ValueError("flows are averaged that have been built alike, each by itself")
    names = [field.name for field in dataclasses.fields(VectorModel)]
    model = VectorModel(**{name: arguments.pop(name) for name in names})
    whole = vector_flow(**arguments | {"members": len(flows)}, model=model).to(flows[0].dtype)
    assert isinstance(whole.bijection, Chain)
    before = len(whole.bijection) - 1  # layers that map the column
    states = [flow.state_dict() for flow in flows]
    found = {}
    layer = f"bijection.layers.{before}.members."
    for name in whole.state_dict():
        if name.startswith(layer):
            member, _, index, rest = name.removeprefix(layer).split(".", 3)
            own = f"bijection.layers.{before + int(index)}.{rest}"
            found[name] = states[int(member)][own]
        else:
            found[name] = states[0][name]
    whole.load_state_dict(found)
    return whole.eval()


def _columns_layer(
    dim: int,
    integers: Sequence[int],
    columns: Sequence[Mapping[str, Any]] | None,
    tensors: Mapping[str, Tensor] | None,
) -> list[Bijection]:
    """Return the first layer of a table's columns, if they need one."""
    if columns is None:
        # Settings may come from anybody's file: True would be a mask.
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


# ------------------------------------------------------------------ architectures


def realnvp(shape: tuple[int, ...], model: ImageModel | VectorModel, condition_dim: int) -> Chain:
    """Arrange layers as Real NVP does (arXiv 1605.08803, section 3.6).

    Args:
        shape: shape of one example, ``(C, H, W)`` or ``(D,)``.
        model: the settings.
        condition_dim: size of the condition, 0 for none.
    """
    if isinstance(model, ImageModel):
        channels, height, width = shape
        return _ImageLayers(model, condition_dim).realnvp(channels, height, width)
    (dim,) = shape
    layers: list[Bijection] = []
    for i in range(model.couplings):
        # Of a single column, the passive part is empty.
        mask = ChannelMask(flip=i % 2 == 1 or dim == 1)
        coupling = make_coupling(mask, dim, model, condition_dim)
        layers += normalized(coupling, dim, model)
    return Chain(*layers)


def glow(shape: tuple[int, ...], model: ImageModel | VectorModel, condition_dim: int) -> Chain:
    """Arrange layers as Glow does (arXiv 1807.03039): squeeze, then steps, then factor out.

    Args:
        shape: shape of one image, ``(C, H, W)``.
        model: the settings.
        condition_dim: size of the condition, 0 for none.
    """
    return _image_layers("glow", model, condition_dim).glow(*shape)


def coarse_to_fine(
    shape: tuple[int, ...], model: ImageModel | VectorModel, condition_dim: int
) -> Chain:
    r"""Model a small image first, and then the pixels between its own, scale by scale.

    .. math:: p(x) = p(x_{\text{coarse}}) \, p(x_{\text{fine}} \mid x_{\text{coarse}})

    Every second pixel of every second row is the image at half its size. The other three quarters
    of the pixels are transformed given it, one quarter (and color) after the other, each given all
    others; the small image goes on, and the smallest one is a vector, whose couplings have
    multilayer perceptrons and see all of it. What makes an image hang together is learned where it
    has few pixels and a layer is cheap. (As in arXiv 2010.13821, with pixels in place of wavelets,
    which would mix the noise of dequantization.)

    Args:
        shape: shape of one image, ``(C, H, W)``.
        model: the settings.
        condition_dim: size of the condition, 0 for none.
    """
    return _image_layers("coarse_to_fine", model, condition_dim).coarse_to_fine(*shape)


def _image_layers(name: str, model: ImageModel | VectorModel, condition_dim: int) -> _ImageLayers:
    """Return the layers of an architecture that is for images only."""
    if not isinstance(model, ImageModel):
        raise ValueError(f'the architecture "{name}" is for images: use "realnvp" for vectors')
    return _ImageLayers(model, condition_dim)


def make_coupling(
    mask: Mask,
    channels: int,
    model: ImageModel | VectorModel,
    condition_dim: int = 0,
    **network: Any,
) -> Coupling:
    """Return the coupling that the settings name, with the conditioner that they name.

    Args:
        mask: splits the coupling's input into its passive and active parts.
        channels: channels of the input.
        model: the settings.
        condition_dim: size of the condition, 0 for none.
        network: further options of the conditioner, and those that replace the settings' ``hidden``
            and ``blocks``.

    Raises:
        ValueError: if a name is unknown, or an option is none of the coupling's or conditioner's.
    """
    passive, active = mask.sizes(channels)
    kind: Any = COUPLINGS[model.coupling]
    options = dict(model.coupling_options or {})
    accepted = inspect.signature(kind).parameters
    if "components" in accepted:
        options.setdefault("components", model.components)
    if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        own = list(accepted)[3:]
        for name in options:
            if name not in own:
                there = f"its options are {', '.join(own)}" if own else "it has none"
                raise ValueError(f"the coupling {model.coupling!r} has no option {name!r}: {there}")
    sizes = {"hidden": model.hidden, "blocks": model.blocks, "condition_dim": condition_dim}
    make: Any = CONDITIONERS[model.conditioner]
    outputs = kind.num_params(**options) * active
    try:
        inspect.signature(make).bind(passive, outputs, **sizes | network)
    except TypeError as error:
        raise ValueError(
            f"the conditioner {model.conditioner!r} does not fit this model: {error}"
        ) from error
    return kind(mask, make(passive, outputs, **sizes | network), active, **options)


def normalized(layer: Bijection, channels: int, model: ImageModel | VectorModel) -> list[Bijection]:
    """Return a layer, followed by the normalization that the settings name.

    Args:
        layer: a bijection.
        channels: channels of its output.
        model: the settings.
    """
    if model.norm == "batch":
        return [layer, RunningBatchNorm(channels, model.norm_momentum)]
    if model.norm == "act":
        return [layer, ActNorm(channels)]
    return [layer]


@dataclasses.dataclass(frozen=True)
class _ImageLayers:
    """Layers of image models, scale by scale."""

    model: ImageModel
    condition_dim: int

    def coupling(
        self,
        mask: Mask,
        channels: int,
        pixels: int,
        hidden: int,
        patch: int = 1,
        context: int = 0,
    ) -> list[Bijection]:
        model = self.model
        # The statistics of a single position are its value: instance norm would erase it.
        single = pixels == patch**2
        norm = "none" if model.conditioner_norm == "instance" and single else None
        layer = make_coupling(
            mask,
            channels,
            model,
            self.condition_dim,
            hidden=hidden * patch,
            norm=norm or model.conditioner_norm,
            patch=patch,
            block=model.block,
            context_channels=context,
        )
        return normalized(layer, channels, model)

    def linear(self, channels: int) -> list[Bijection]:
        """Return a map that mixes several channels, if the settings ask for it."""
        return [InvertibleLinear(channels)] if self.model.linear and channels > 1 else []

    def factor_out(self, channels: int, hidden: int, inner: Chain) -> list[Bijection]:
        """Pass the first half of the channels to the latents, and the second through ``inner``.

        With a split prior (arXiv 1807.03039), the half that goes on predicts the mean and standard
        deviation of the half that leaves: an affine coupling, so the latents stay standard normal.
        """
        prior: list[Bijection] = []
        if self.model.split_prior:
            mask = ChannelMask(flip=True)
            passive, active = mask.sizes(channels)
            net = ResNet(passive, 2 * active, hidden, 1, "none", self.condition_dim)
            prior.append(AffineCoupling(mask, net, active))
        return [*prior, FactorOut(inner)]

    def realnvp(self, channels: int, height: int, width: int) -> Chain:
        model = self.model
        if height % model.patch or width % model.patch:
            raise ValueError(
                f"patches of {model.patch} pixels need height and width divisible by "
                f"{model.patch}, got {height}x{width}: lower model.patch"
            )
        _check_divisible(model.scales, model.scales - 1, height, width)
        return self._realnvp(channels, height, width, 0)

    def _realnvp(self, channels: int, height: int, width: int, scale: int) -> Chain:
        layers = self.linear(channels)
        hidden, remaining = self._hidden(scale), self.model.scales - scale
        patch = self.model.patch if scale == 0 else 1
        pixels = height * width
        for i in range(3 if remaining > 1 else 4):
            # A single pixel has no checkerboard: only its channels can be split.
            kind = CheckerboardMask if pixels > 1 else ChannelMask
            layers += self.coupling(kind(flip=i % 2 == 1), channels, pixels, hidden, patch)
        if remaining > 1:
            layers.append(Squeeze())
            for i in range(3):
                mask = ChannelMask(flip=i % 2 == 1)
                layers += self.linear(4 * channels)
                layers += self.coupling(mask, 4 * channels, pixels // 4, 2 * hidden)
            inner = self._realnvp(2 * channels, height // 2, width // 2, scale + 1)
            layers += [Inverse(Squeeze()), Squeeze("checkerboard")]
            layers += self.factor_out(4 * channels, 2 * hidden, inner)
            layers.append(Inverse(Squeeze("checkerboard")))
        return Chain(*layers)

    def coarse_to_fine(self, channels: int, height: int, width: int) -> Chain:
        _check_divisible(self.model.scales, self.model.scales - 1, height, width)
        return self._coarse_to_fine((channels, height, width), 0)

    def _coarse_to_fine(self, shape: tuple[int, int, int], scale: int) -> Chain:
        hidden, steps = self._hidden(scale), of_scale(self.model.steps, scale)
        if scale == self.model.scales - 1:
            return self._vector(shape, hidden, steps)
        channels, height, width = shape
        pixels = height * width // 4
        features = ImageFeatures(channels, COARSE_FEATURES, 1, self.condition_dim)
        details = dataclasses.replace(self, condition_dim=0)
        fine: list[Bijection] = []
        for i in range(steps):
            block = BlockMask(3 * channels - 1 - i % (3 * channels), 3 * channels)
            fine += details.coupling(block, 3 * channels, pixels, hidden, context=COARSE_FEATURES)
        inner = self._coarse_to_fine((channels, height // 2, width // 2), scale + 1)
        return Chain(
            Squeeze("coarse"),
            Refine(features, Chain(*fine), channels),
            FactorOut(inner, channels),
            Inverse(Squeeze("coarse")),
        )

    def _vector(self, shape: tuple[int, int, int], hidden: int, steps: int) -> Chain:
        """Steps of linear layer, coupling and normalization of all variables of a small image."""
        dim = math.prod(shape)
        model = dataclasses.replace(self.model, conditioner="mlp")
        layers: list[Bijection] = [Flatten(shape)]
        for i in range(steps):
            mask = ChannelMask(flip=i % 2 == 1)
            sizes = {"hidden": hidden, "blocks": 1}
            coupling = make_coupling(mask, dim, model, self.condition_dim, **sizes)
            layers += [InvertibleLinear(dim), *normalized(coupling, dim, model)]
        return Chain(*layers, Inverse(Flatten(shape)))

    def _hidden(self, scale: int) -> int:
        hidden = self.model.hidden
        return hidden[scale] if isinstance(hidden, list) else hidden * 2**scale

    def glow(self, channels: int, height: int, width: int) -> Chain:
        """Squeeze, then steps of 1x1 convolution, coupling and normalization.

        The normalization comes after the coupling, not before: the step's input is then what the
        one before it normalized, and the first step's is the logit's.
        """
        _check_divisible(self.model.scales, self.model.scales, height, width)
        return self._glow(channels, height, width, 0)

    def _glow(self, channels: int, height: int, width: int, scale: int) -> Chain:
        layers: list[Bijection] = [Squeeze()]
        channels, pixels, hidden = 4 * channels, height * width // 4, self._hidden(scale)
        for i in range(of_scale(self.model.steps, scale)):
            layers.append(InvertibleLinear(channels))
            layers += self.coupling(ChannelMask(flip=i % 2 == 1), channels, pixels, hidden)
        if scale < self.model.scales - 1:
            inner = self._glow(channels - channels // 2, height // 2, width // 2, scale + 1)
            layers += self.factor_out(channels, hidden, inner)
        return Chain(*layers, Inverse(Squeeze()))


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


# ------------------------------------------------------------------ arguments


def _all(layers: Bijection) -> list[Bijection]:
    """Return the layers of a chain, so that it joins another one's; any other bijection as is."""
    return list(layers) if isinstance(layers, Chain) else [layers]


def _model(kind: type[Model], given: Mapping[str, Any]) -> Model:
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


def _check_sizes(**sizes: Any) -> None:
    """Raise unless sizes are integers that float32 counts, 1 or more (a condition's 0)."""
    for name, value in sizes.items():
        least = 0 if name == "condition_dim" else 1
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if value is not None and not (whole and least <= value <= 2**24):
            raise ValueError(
                f"{name} must be an integer from {least} to {2**24}, got {str(value)[:50]}"
            )


def _check_divisible(scales: int, squeezes: int, height: int, width: int) -> None:
    """Raise unless an image can be squeezed so many times."""
    factor = 2**squeezes
    if height % factor == 0 and width % factor == 0:
        return
    possible = 0
    while height % 2 ** (possible + 1) == 0 and width % 2 ** (possible + 1) == 0:
        possible += 1
    fitting = possible + scales - squeezes
    advice = f"use at most {fitting} scale{'s'[: fitting - 1]}, or " if fitting else "use "
    raise ValueError(
        f"{scales} scales need height and width divisible by {factor}, got {height}x{width}: "
        f"{advice}images whose sides are multiples of {factor}"
    )
