"""The builder of image models: Real NVP's multi-scale architecture, and Glow's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from numbers import Integral
from typing import Any, TypeVar

import torch

from realnvp.bijections import (
    ActNorm,
    Affine,
    AffineCoupling,
    Bijection,
    Chain,
    ChannelMask,
    CheckerboardMask,
    Coupling,
    Dequantize,
    DequantizeColumns,
    FactorOut,
    Inverse,
    InvertibleLinear,
    Logit,
    MixtureCoupling,
    MixtureLogisticCoupling,
    Rosenblatt,
    RunningBatchNorm,
    Squeeze,
    VariationalDequantize,
)
from realnvp.bijections.coupling import Mask
from realnvp.conditioners import MLP, ImageFeatures, ResNet
from realnvp.config import ImageModel, VectorModel
from realnvp.flow import Flow

__all__ = ["check_sizes", "config_of", "image_flow", "normalized", "options_of", "vector_flow"]

Model = TypeVar("Model", ImageModel, VectorModel)


def options_of(kind: type[Model], options: dict[str, Any]) -> Model:
    """The options as a validated dataclass; an unknown one is a ValueError that lists them all."""
    known = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"unknown model option {unknown[0]!r}; there are {', '.join(known)}")
    return kind(**options)


def check_sizes(**sizes: Any) -> None:
    """Sizes are whole numbers, from 1 to as many as float32 counts; a condition's may be 0.

    >>> check_sizes(levels=256.0)
    Traceback (most recent call last):
    ValueError: levels must be a whole number from 1 to 16777216, got 256.0
    """
    for name, value in sizes.items():
        least = 0 if name == "condition_dim" else 1
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if value is not None and not (whole and least <= value <= 2**24):
            raise ValueError(
                f"{name} must be a whole number from {least} to {2**24}, got {str(value)[:50]}"
            )


def config_of(builder: str, **arguments: Any) -> dict[str, Any]:
    """What is saved with a model, to build it again."""
    return {"builder": builder, "arguments": arguments}


def normalized(layer: Bijection, channels: int, model: ImageModel | VectorModel) -> list[Bijection]:
    """A coupling and, after it, the normalization of its output."""
    if model.norm == "batch":
        return [layer, RunningBatchNorm(channels, model.norm_momentum)]
    if model.norm == "act":
        return [layer, ActNorm(channels)]
    return [layer]


NOISE_FEATURES = 16
"""Feature maps of the networks of variational dequantization, which are small."""


def image_flow(
    shape: tuple[int, int, int],
    *,
    levels: int = 256,
    condition_dim: int = 0,
    classes: int | None = None,
    **options: Any,
) -> Flow:
    """A multi-scale flow for images; Real NVP's (arXiv 1605.08803, section 3.6), by default.

    Dequantize, logit, then per scale three checkerboard couplings, a squeeze, three channel-wise
    couplings, and half of the variables factored out; at the last scale four checkerboard
    couplings. Each coupling is followed by a normalization. The latents have the image's shape.
    The options replace parts by those of Glow (arXiv 1807.03039) and Flow++ (arXiv 1902.00275).

    Args:
        shape: ``(C, H, W)``, any C; H and W divisible by ``2 ** (scales - 1)``, or by
            ``2 ** scales`` with the architecture "glow".
        levels: grey levels of the pixels, which are integers ``0 .. levels - 1``.
        condition_dim: size of the condition, 0 for none.
        classes: number of classes, if the condition is a label.
        options: the fields of :class:`realnvp.config.ImageModel`.

    Raises:
        ValueError: if the size does not fit the number of scales, or an option is not known.

    >>> flow = image_flow((1, 8, 8), levels=17, hidden=8, blocks=1)
    >>> flow.sample(2).shape, flow.sample(2).dtype
    (torch.Size([2, 1, 8, 8]), torch.uint8)
    """
    model = options_of(ImageModel, options)
    if len(shape) != 3:
        raise ValueError(f"the shape of an image is (channels, height, width), got {tuple(shape)}")
    channels, height, width = shape
    check_sizes(channels=channels, height=height, width=width)
    check_sizes(levels=levels, condition_dim=condition_dim, classes=classes)
    _check_size(model, height, width)
    if channels * height * width == 1:
        raise ValueError("an image of one grey pixel cannot be split by a coupling")
    condition_dim = condition_dim if classes is None else classes
    parts = _Parts(model, condition_dim)
    scale = parts.realnvp_scale if model.architecture == "realnvp" else parts.glow_scale
    return Flow(
        Chain(
            parts.dequantize(levels, channels),
            Logit(model.alpha),
            *scale(channels, height, width, model.hidden, model.scales),
        ),
        (channels, height, width),
        condition_dim=condition_dim,
        classes=classes,
        scale_penalty=model.scale_penalty,
        config=config_of(
            "image_flow",
            shape=list(shape),
            levels=levels,
            condition_dim=condition_dim,
            classes=classes,
            **dataclasses.asdict(model),
        ),
    )


def _check_size(model: ImageModel, height: int, width: int) -> None:
    first = 1 if model.architecture == "realnvp" else 0  # scales that need no squeeze
    factor = 2 ** (model.scales - first)
    if model.architecture == "realnvp" and (height % model.patch or width % model.patch):
        raise ValueError(
            f"patches of {model.patch} pixels need height and width divisible by {model.patch}, "
            f"got {height}x{width}: lower model.patch"
        )
    if height % factor == 0 and width % factor == 0:
        return
    squeezes = 0
    while height % 2 ** (squeezes + 1) == 0 and width % 2 ** (squeezes + 1) == 0:
        squeezes += 1
    fitting = squeezes + first
    advice = f"use at most {fitting} scale{'s'[: fitting - 1]}, or " if fitting else "use "
    raise ValueError(
        f"{model.scales} scales need height and width divisible by {factor}, got {height}x{width}: "
        f"{advice}images whose sides are multiples of {factor}"
    )


@dataclasses.dataclass(frozen=True)
class _Parts:
    """Makes the parts of a model."""

    model: ImageModel
    condition_dim: int

    def coupling(
        self, mask: Mask, channels: int, pixels: int, hidden: int, patch: int = 1
    ) -> Coupling:
        model = self.model
        passive, active = mask.sizes(channels)
        mixture = model.coupling == "mixture"
        kind = MixtureLogisticCoupling if mixture else AffineCoupling
        per_variable = kind.num_params(model.components)
        # The statistics of a single position are its value: instance norm would erase it.
        single = pixels == patch**2
        norm = "none" if model.conditioner_norm == "instance" and single else None
        conditioner = ResNet(
            passive,
            per_variable * active,
            hidden * patch,
            model.blocks,
            norm or model.conditioner_norm,
            self.condition_dim,
            patch=patch,
            block=model.block,
        )
        if mixture:
            return MixtureLogisticCoupling(mask, conditioner, active, model.components)
        return AffineCoupling(mask, conditioner, active)

    def linear(self, channels: int) -> list[Bijection]:
        """What mixes the channels before a coupling, if it is asked for and there are some."""
        return [InvertibleLinear(channels)] if self.model.linear and channels > 1 else []

    def factor_out(self, channels: int, pixels: int, hidden: int, inner: Chain) -> list[Bijection]:
        """Pass the first half of the channels to the latents, and the second through ``inner``.

        With a split prior (arXiv 1807.03039), what goes on predicts the mean and deviation of what
        leaves: that is an affine coupling, and the latents stay standard normal.
        """
        prior: list[Bijection] = []
        if self.model.split_prior:
            mask = ChannelMask(flip=True)
            passive, active = mask.sizes(channels)
            net = ResNet(passive, 2 * active, hidden, 1, "none", self.condition_dim)
            prior.append(AffineCoupling(mask, net, active))
        return [*prior, FactorOut(inner)]

    def realnvp_scale(
        self, channels: int, height: int, width: int, hidden: int, remaining: int
    ) -> Chain:
        layers = self.linear(channels)
        patch = self.model.patch if remaining == self.model.scales else 1
        pixels = height * width
        for i in range(3 if remaining > 1 else 4):
            # A single pixel has no checkerboard: its channels are all there is to split.
            kind = CheckerboardMask if pixels > 1 else ChannelMask
            coupling = self.coupling(kind(flip=i % 2 == 1), channels, pixels, hidden, patch)
            layers += normalized(coupling, channels, self.model)
        if remaining > 1:
            layers.append(Squeeze())
            for i in range(3):
                mask = ChannelMask(flip=i % 2 == 1)
                coupling = self.coupling(mask, 4 * channels, pixels // 4, 2 * hidden)
                layers += [
                    *self.linear(4 * channels),
                    *normalized(coupling, 4 * channels, self.model),
                ]
            inner = self.realnvp_scale(
                2 * channels, height // 2, width // 2, 2 * hidden, remaining - 1
            )
            layers += [Inverse(Squeeze()), Squeeze("checkerboard")]
            layers += self.factor_out(4 * channels, pixels // 4, 2 * hidden, inner)
            layers.append(Inverse(Squeeze("checkerboard")))
        return Chain(*layers)

    def glow_scale(
        self, channels: int, height: int, width: int, hidden: int, remaining: int
    ) -> Chain:
        """Squeeze, then steps of 1x1 convolution, coupling and normalization (arXiv 1807.03039).

        The normalization comes after the coupling, not before: the step's input is then what the
        one before it normalized, and the first step's is the logit's.
        """
        layers: list[Bijection] = [Squeeze()]
        channels, pixels = 4 * channels, height * width // 4
        for i in range(self.model.steps):
            layers.append(InvertibleLinear(channels))
            coupling = self.coupling(ChannelMask(flip=i % 2 == 1), channels, pixels, hidden)
            layers += normalized(coupling, channels, self.model)
        if remaining > 1:
            inner = self.glow_scale(
                channels - channels // 2, height // 2, width // 2, 2 * hidden, remaining - 1
            )
            layers += self.factor_out(channels, pixels, hidden, inner)
        return Chain(*layers, Inverse(Squeeze()))

    def dequantize(self, levels: int, channels: int) -> Dequantize:
        if self.model.dequantization == "uniform":
            return Dequantize(levels)
        features = ImageFeatures(
            channels, NOISE_FEATURES, blocks=1, condition_dim=self.condition_dim
        )

        def layer(flip: bool) -> Bijection:
            net = ResNet(channels, 2 * channels, NOISE_FEATURES, 1, "none", 0, NOISE_FEATURES)
            return AffineCoupling(CheckerboardMask(flip), net, channels)

        noise = Chain(layer(False), layer(True), layer(False), layer(True))
        return VariationalDequantize(levels, features, noise)


def mixture_layer(
    components: int,
    dim: int,
    condition_dim: int,
    classes: int | None,
    mixture: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None,
) -> Rosenblatt:
    """Return the first layer, with the tensors of ``mixture``, or with placeholders."""
    shapes = Rosenblatt.shapes(components, dim, condition_dim, classes)
    condition_dim = condition_dim if classes is None else 0
    if mixture is None:
        return Rosenblatt(torch.zeros(shapes["means"]), condition_dim=condition_dim)
    if tuple(mixture[0].shape) != shapes["means"]:
        raise ValueError(
            f"the means of the mixture must have shape {shapes['means']}, "
            f"got {tuple(mixture[0].shape)}"
        )
    return Rosenblatt(*mixture, condition_dim)


def vector_flow(
    dim: int,
    *,
    mean: torch.Tensor | None = None,
    std: torch.Tensor | None = None,
    mixture: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None,
    conditional_mixture: bool = False,
    integers: Sequence[int] = (),
    condition_dim: int = 0,
    classes: int | None = None,
    **options: Any,
) -> Flow:
    """Real NVP for vectors: points, or the rows of a table.

    Standardization, or a Gaussian mixture to start from; then couplings that transform the two
    halves of the columns in turn, each followed by a normalization.

    Args:
        dim: number D of columns, 2 or more.
        mean: of the columns, for the standardization; zeros if left out.
        std: standard deviation of the columns; ones if left out.
        mixture: means, Cholesky factors and weights of the Gaussians that it starts as; see
            :class:`realnvp.bijections.Rosenblatt`, whose ``shapes`` are theirs.
        conditional_mixture: the mixture depends on the condition. Follows from the tensors of
            ``mixture`` where they are given, as the option ``mixture_init`` does.
        integers: numbers of the columns that hold whole numbers, to be dequantized.
        condition_dim: size of the condition, 0 for none.
        classes: number of classes, if the condition is a label.
        options: the fields of :class:`realnvp.config.VectorModel`.

    Raises:
        ValueError: if there are fewer than two columns, or an option is not known.

    >>> vector_flow(3).encode(torch.zeros(4, 3)).shape
    torch.Size([4, 3])
    """
    model = options_of(VectorModel, options)
    check_sizes(dim=dim, condition_dim=condition_dim, classes=classes)
    if dim < 2:
        raise ValueError(
            f"a coupling sets the map of one half of the columns from the other half, so it needs "
            f"at least 2 columns, got {dim}; for a single column use a histogram or kernel density"
        )
    condition_dim = condition_dim if classes is None else classes
    layers: list[Bijection] = [DequantizeColumns(integers, dim)] if len(integers) else []
    if mixture is not None:
        components = mixture[0].shape[-2]
        if model.mixture_init not in (0, components):
            raise ValueError(f"mixture_init is {model.mixture_init}, but mixture has {components}")
        model = dataclasses.replace(model, mixture_init=components)
        conditional_mixture = tuple(mixture[0].shape) != (components, dim)
    if model.mixture_init:
        layers.append(
            mixture_layer(model.mixture_init, dim, condition_dim, classes, mixture)
            if conditional_mixture
            else mixture_layer(model.mixture_init, dim, 0, None, mixture)
        )
    else:
        layers.append(Affine(torch.zeros(dim) if mean is None else mean, std))
    for i in range(model.couplings):
        mask = ChannelMask(flip=i % 2 == 1)
        passive, active = mask.sizes(dim)
        mixes = model.coupling == "mixture"
        kind = MixtureCoupling if mixes else AffineCoupling
        per_column = kind.num_params(model.components)
        conditioner = MLP(passive, per_column * active, model.hidden, model.blocks, condition_dim)
        coupling: Bijection = (
            MixtureCoupling(mask, conditioner, model.components)
            if mixes
            else AffineCoupling(mask, conditioner, active)
        )
        layers += normalized(coupling, dim, model)
    return Flow(
        Chain(*layers),
        (dim,),
        condition_dim=condition_dim,
        classes=classes,
        scale_penalty=model.scale_penalty,
        # Mean, deviation and factor are saved with the weights.
        config=config_of(
            "vector_flow",
            dim=dim,
            conditional_mixture=conditional_mixture,
            integers=list(integers),
            condition_dim=condition_dim,
            classes=classes,
            **dataclasses.asdict(model),
        ),
    )
