"""Architectures: how couplings, normalizations and squeezes are arranged between data and latents.

An architecture is a function of the shape of one example, the settings and the size of the
condition, and returns a bijection that keeps the shape: :func:`realnvp` (arXiv 1605.08803, section
3.6), :func:`autoregressive` for tables, and for images :func:`glow` (arXiv 1807.03039) or
:func:`coarse_to_fine`. Architectures, couplings and conditioners are looked up by name, see
:mod:`realnvp.utils.registry`; :func:`make_coupling` and :func:`normalized` are the parts for an
architecture of your own.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from typing import Any

from realnvp.bijections import (
    ActNorm,
    AffineCoupling,
    Autoregressive,
    Bijection,
    BlockMask,
    Chain,
    ChannelMask,
    CheckerboardMask,
    Coupling,
    FactorOut,
    Flatten,
    GaussianMixtureCoupling,
    Inverse,
    InvertibleLinear,
    Refine,
    RunningBatchNorm,
    Squeeze,
)
from realnvp.bijections.coupling import Mask
from realnvp.conditioners import ColumnMLPs, ImageFeatures, ResNet
from realnvp.config import ImageModel, VectorModel
from realnvp.utils.registry import CONDITIONERS, COUPLINGS
from realnvp.utils.settings import of_scale

__all__ = ["autoregressive", "coarse_to_fine", "glow", "make_coupling", "normalized", "realnvp"]

COARSE_FEATURES = 32
"""Feature maps of the network that gives couplings of details the image at half its size."""


def realnvp(shape: tuple[int, ...], model: ImageModel | VectorModel, condition_dim: int) -> Chain:
    """Arrange layers as Real NVP does (arXiv 1605.08803, section 3.6).

    Args:
        shape: shape of one example, ``(C, H, W)`` or ``(D,)``.
        model: the settings.
        condition_dim: size of the condition, 0 for none.
    """
    if isinstance(model, ImageModel):
        channels, height, width = shape
        return ImageLayers(model, condition_dim).realnvp(channels, height, width)
    (dim,) = shape
    layers: list[Bijection] = []
    for i in range(model.couplings):
        # The passive part of a single column is empty.
        mask = ChannelMask(flip=i % 2 == 1 or dim == 1)
        coupling = make_coupling(mask, dim, model, condition_dim)
        layers += normalized(coupling, dim, model)
    return Chain(*layers)


def autoregressive(
    shape: tuple[int, ...], model: ImageModel | VectorModel, condition_dim: int
) -> Bijection:
    """Make each column normal, as a Gaussian mixture given the columns before it.

    Args:
        shape: shape of one vector, ``(D,)``.
        model: the settings.
        condition_dim: size of the condition, 0 for none.
    """
    if isinstance(model, ImageModel) or model.coupling != "gaussian_mixture":
        raise ValueError(
            'the architecture "autoregressive" is for vectors, with the coupling "gaussian_mixture"'
        )
    (dim,) = shape
    outputs = 3 * model.components * dim
    nets = ColumnMLPs(
        dim, outputs, model.hidden, model.blocks, condition_dim, model.dropout, model.networks
    )
    coupling = GaussianMixtureCoupling(ChannelMask(), nets, dim, components=model.components)
    return Autoregressive(coupling)


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
    others. The small image is split in the same way at the next scale, and the smallest one is
    flattened to a vector, whose couplings have multilayer perceptrons that see all of it. So global
    structure is learned where there are few pixels and layers are cheap. (As in arXiv 2010.13821,
    with pixels in place of wavelets, which would mix the noise of dequantization.)

    Args:
        shape: shape of one image, ``(C, H, W)``.
        model: the settings.
        condition_dim: size of the condition, 0 for none.
    """
    return _image_layers("coarse_to_fine", model, condition_dim).coarse_to_fine(*shape)


def _image_layers(name: str, model: ImageModel | VectorModel, condition_dim: int) -> ImageLayers:
    """Return the layers of an architecture for images; raise ValueError for vectors."""
    if not isinstance(model, ImageModel):
        raise ValueError(f'the architecture "{name}" is for images: use "realnvp" for vectors')
    return ImageLayers(model, condition_dim)


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
        ValueError: if a name is unknown, or an option does not exist.
    """
    passive, active = mask.sizes(channels)
    kind: Any = COUPLINGS[model.coupling]
    options = dict(model.coupling_options or {})
    accepted = inspect.signature(kind).parameters
    if "components" in accepted:
        options.setdefault("components", model.components)
    if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        names = list(accepted)[3:]  # after mask, conditioner and channels
        for name in options:
            if name not in names:
                there = f"its options are {', '.join(names)}" if names else "it has none"
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
class ImageLayers:
    """Layers of image models, built recursively: each scale contains the next one."""

    model: ImageModel
    condition_dim: int

    def coupling(
        self,
        mask: Mask,
        channels: int,
        pixels: int,
        hidden: int,
        blocks: int,
        patch: int = 1,
        context: int = 0,
    ) -> list[Bijection]:
        model = self.model
        # The statistics of a single position are its value: instance norm would erase it.
        single = pixels == patch**2
        norm = "none" if model.conditioner_norm == "instance" and single else model.conditioner_norm
        layer = make_coupling(
            mask,
            channels,
            model,
            self.condition_dim,
            hidden=hidden * patch,
            blocks=blocks,
            norm=norm,
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

        With a split prior (arXiv 1807.03039), the second half predicts the mean and standard
        deviation of the first: an affine coupling, so the latents stay standard normal.
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
        return self.realnvp_scale(channels, height, width, 0)

    def realnvp_scale(self, channels: int, height: int, width: int, scale: int) -> Chain:
        layers = self.linear(channels)
        hidden, remaining = self._hidden(scale), self.model.scales - scale
        blocks = of_scale(self.model.blocks, scale)
        patch = self.model.patch if scale == 0 else 1
        pixels = height * width
        for i in range(3 if remaining > 1 else 4):
            # A single pixel has no checkerboard: only its channels can be split.
            kind = CheckerboardMask if pixels > 1 else ChannelMask
            layers += self.coupling(kind(flip=i % 2 == 1), channels, pixels, hidden, blocks, patch)
        if remaining > 1:
            layers.append(Squeeze())
            for i in range(3):
                mask = ChannelMask(flip=i % 2 == 1)
                layers += self.linear(4 * channels)
                layers += self.coupling(mask, 4 * channels, pixels // 4, 2 * hidden, blocks)
            inner = self.realnvp_scale(2 * channels, height // 2, width // 2, scale + 1)
            layers += [Inverse(Squeeze()), Squeeze("checkerboard")]
            layers += self.factor_out(4 * channels, 2 * hidden, inner)
            layers.append(Inverse(Squeeze("checkerboard")))
        return Chain(*layers)

    def coarse_to_fine(self, channels: int, height: int, width: int) -> Chain:
        _check_divisible(self.model.scales, self.model.scales - 1, height, width)
        return self.coarse_to_fine_scale((channels, height, width), 0)

    def coarse_to_fine_scale(self, shape: tuple[int, int, int], scale: int) -> Chain:
        hidden, steps = self._hidden(scale), of_scale(self.model.steps, scale)
        if scale == self.model.scales - 1:
            return self.vector_scale(shape, hidden, steps)
        channels, height, width = shape
        pixels = height * width // 4
        features = ImageFeatures(channels, COARSE_FEATURES, 1, self.condition_dim)
        details = dataclasses.replace(self, condition_dim=0)
        blocks = of_scale(self.model.blocks, scale)
        fine: list[Bijection] = []
        for i in range(steps):
            block = BlockMask(3 * channels - 1 - i % (3 * channels), 3 * channels)
            fine += details.coupling(
                block, 3 * channels, pixels, hidden, blocks, context=COARSE_FEATURES
            )
        inner = self.coarse_to_fine_scale((channels, height // 2, width // 2), scale + 1)
        return Chain(
            Squeeze("coarse"),
            Refine(features, Chain(*fine), channels),
            FactorOut(inner, channels),
            Inverse(Squeeze("coarse")),
        )

    def vector_scale(self, shape: tuple[int, int, int], hidden: int, steps: int) -> Chain:
        """Return steps of linear map, coupling and normalization of a small image as a vector."""
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

        The normalization comes after the coupling, not before: the input of a step is then the
        normalized output of the previous one, and that of the first step is the output of the
        logit.
        """
        _check_divisible(self.model.scales, self.model.scales, height, width)
        return self.glow_scale(channels, height, width, 0)

    def glow_scale(self, channels: int, height: int, width: int, scale: int) -> Chain:
        layers: list[Bijection] = [Squeeze()]
        channels, pixels, hidden = 4 * channels, height * width // 4, self._hidden(scale)
        blocks = of_scale(self.model.blocks, scale)
        for i in range(of_scale(self.model.steps, scale)):
            layers.append(InvertibleLinear(channels))
            layers += self.coupling(ChannelMask(flip=i % 2 == 1), channels, pixels, hidden, blocks)
        if scale < self.model.scales - 1:
            inner = self.glow_scale(channels - channels // 2, height // 2, width // 2, scale + 1)
            layers += self.factor_out(channels, hidden, inner)
        return Chain(*layers, Inverse(Squeeze()))


def _check_divisible(scales: int, squeezes: int, height: int, width: int) -> None:
    """Raise ValueError unless an image can be squeezed ``squeezes`` times."""
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
