"""The builder of image models: Real NVP's multi-scale architecture."""

from __future__ import annotations

import dataclasses
from typing import Any

from realnvp.bijections import (
    AffineCoupling,
    Bijection,
    Chain,
    ChannelMask,
    CheckerboardMask,
    Dequantize,
    FactorOut,
    Inverse,
    Logit,
    Squeeze,
)
from realnvp.bijections.coupling import Mask
from realnvp.building import config_of, normalized, options_of
from realnvp.config import ImageModel
from realnvp.models import Flow
from realnvp.nets import ResNet

__all__ = ["image_flow"]


def image_flow(
    shape: tuple[int, int, int],
    *,
    levels: int = 256,
    condition_dim: int = 0,
    classes: int | None = None,
    **options: Any,
) -> Flow:
    """Real NVP's multi-scale model of images (arXiv 1605.08803, section 3.6 and appendix).

    Dequantize, logit, then per scale three checkerboard couplings, a squeeze, three channel-wise
    couplings, and half of the variables factored out; at the last scale four checkerboard
    couplings. Each coupling is followed by a normalization. The latents have the image's shape.

    Args:
        shape: ``(C, H, W)``, any C; H and W divisible by ``2 ** (scales - 1)``.
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
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"the shape of an image is (channels, height, width), got {tuple(shape)}")
    channels, height, width = shape
    factor = 2 ** (model.scales - 1)
    if height % factor or width % factor:
        fitting = 1
        while height % 2**fitting == 0 and width % 2**fitting == 0:
            fitting += 1
        raise ValueError(
            f"{model.scales} scales need height and width divisible by {factor}, got {height}x"
            f"{width}: use at most {fitting} scale{'s'[: fitting - 1]}, or images whose sides are "
            f"multiples of {factor}"
        )
    if channels * height * width == 1:
        raise ValueError("an image of one grey pixel cannot be split by a coupling")
    condition_dim = condition_dim if classes is None else classes

    def coupling(mask: Mask, channels: int, pixels: int, hidden: int) -> list[Bijection]:
        passive, active = mask.sizes(channels)
        # The statistics of a single pixel are the pixel: instance norm would erase it.
        norm = "none" if model.conditioner_norm == "instance" and pixels == 1 else None
        conditioner = ResNet(
            passive,
            AffineCoupling.parameters_per_variable * active,
            hidden,
            model.blocks,
            norm or model.conditioner_norm,
            condition_dim,
        )
        return normalized(AffineCoupling(mask, conditioner, active), channels, model)

    def scale(channels: int, height: int, width: int, hidden: int, remaining: int) -> Chain:
        layers: list[Bijection] = []
        pixels = height * width
        for i in range(3 if remaining > 1 else 4):
            # A single pixel has no checkerboard: its channels are all there is to split.
            kind = CheckerboardMask if pixels > 1 else ChannelMask
            layers += coupling(kind(flip=i % 2 == 1), channels, pixels, hidden)
        if remaining > 1:
            layers.append(Squeeze())
            for i in range(3):
                mask = ChannelMask(flip=i % 2 == 1)
                layers += coupling(mask, 4 * channels, pixels // 4, 2 * hidden)
            inner = scale(2 * channels, height // 2, width // 2, 2 * hidden, remaining - 1)
            layers += [Inverse(Squeeze()), Squeeze("checkerboard"), FactorOut(inner)]
            layers.append(Inverse(Squeeze("checkerboard")))
        return Chain(*layers)

    body = scale(channels, height, width, model.hidden, model.scales)
    return Flow(
        Chain(Dequantize(levels), Logit(model.alpha), *body),
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
