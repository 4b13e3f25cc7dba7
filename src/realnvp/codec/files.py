"""Compress images into the content of a file, and back."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor

from realnvp.codec.blocks import decode_block, encode_block
from realnvp.codec.coder import FlowCoder
from realnvp.codec.container import (
    FINGERPRINT,
    MAX_BLOCK,
    MAX_NAME,
    MAX_VALUES,
    Header,
    read_blocks,
    read_header,
    write_block,
    write_header,
)
from realnvp.codec.stack import Exhausted, Stack, Unrepresentable
from realnvp.data.dataset import Split
from realnvp.evaluation import class_log_likelihoods
from realnvp.flow import Flow
from realnvp.inputs import check_data
from realnvp.utils.threads import single_thread

__all__ = ["Contents", "compress", "decompress", "fingerprint", "read_contents"]

BLOCK = 1024
"""Images per block. More make the file a little smaller, and take more memory."""


@dataclass
class Contents:
    """Contents of a file.

    Args:
        images: integers ``(N, C, H, W)``, uint8 up to 256 levels.
        condition: labels ``(N,)`` or vectors ``(N, K)``, if the model is conditional.
        names: names of the images, if they have any.
    """

    images: Tensor
    condition: Tensor | None
    names: list[str]


def compress(
    flow: Flow,
    images: Tensor,
    condition: Tensor | None = None,
    *,
    names: Sequence[str] = (),
    model: str = "",
    verify: bool = True,
    portable: bool = False,
    batch: int | None = None,
    block: int = BLOCK,
    progress: Callable[[int], None] = lambda count: None,
) -> bytes:
    r"""Return images as the content of a file, of a size close to their bits/dim under a flow.

    Args:
        flow: an image flow; it is not changed.
        images: integers ``(N, C, H, W)``.
        condition: labels ``(N,)`` or vectors ``(N, K)``, if the flow is conditional; they are
            compressed, too. A class-conditional flow determines the labels itself if there are
            none: for a class c that is practically certain, :math:`p(x \mid c) / K` is all of
            :math:`p(x)`, so the labels cost as much as they save.
        names: names of the images, which are compressed, too.
        model: name of the flow, if it comes with the package.
        verify: decode every group of images, and store without the model those that differ.
        portable: let networks compute in float64, which takes longer, so that other processors
            find the same integers.
        batch: largest number of images in a batch of the networks; by default as many as have
            2^16 pixel values, which are 64 images of MNIST, and at most 256.
        block: images per block. A damaged block loses only its own images.
        progress: called with the number of images of each group that is done.

    Raises:
        ValueError: if the flow does not model such images, or it has a layer for which
            :data:`realnvp.codec.layers.RULES` has no rule.

    >>> from realnvp import image_flow
    >>> flow = image_flow((1, 8, 8), levels=17, hidden=8, blocks=1, norm="none").eval()
    >>> images = torch.arange(20 * 64).view(20, 1, 8, 8) % 17
    >>> bool((decompress(flow, compress(flow, images)) == images).all())
    True
    """
    check_data(images, flow.shape, flow.levels)
    if names and len(names) != len(images):
        raise ValueError(f"there are {len(images)} images, and {len(names)} names")
    if any("\n" in name or not name for name in names):
        raise ValueError("the name of an image must be text of one line")
    if any(len(name.encode(errors="surrogateescape")) >= MAX_NAME for name in names):
        raise ValueError(f"the name of an image must have less than {MAX_NAME:,} bytes")
    most = min(MAX_BLOCK, MAX_VALUES // flow.dim)
    if batch is None:
        batch = max(1, min((1 << 16) // flow.dim, 256))
    if not 1 <= block <= most or batch < 1:
        raise ValueError(f"a block has 1 to {most} images, and a batch 1 or more")
    if condition is None and flow.classes is not None:
        condition = class_log_likelihoods(flow, Split(images)).argmax(1)
    condition = _plain_condition(flow, condition, len(images))
    with single_thread(), torch.no_grad():
        coder = FlowCoder(flow, _dtype(portable))
        header = Header(
            fingerprint(flow), model, torch.__version__, _processor(), _constriction(),
            len(images), _probe(coder), portable,
        )  # fmt: skip
        content = [write_header(header)]
        for start in range(0, len(images), block):
            part = slice(start, start + block)
            x, context = images[part].long().cpu(), None if condition is None else condition[part]
            coded = encode_block(coder, x, context, batch, _crc(x, context), verify, progress)
            content.append(write_block(replace(coded, first=start, names=tuple(names[part]))))
    return b"".join(content)


def decompress(
    flow: Flow, data: bytes, *, progress: Callable[[int], None] = lambda count: None
) -> Tensor:
    """Return the images that :func:`compress` was given.

    Args:
        flow: the flow that they were compressed with.
        data: content of the file.
        progress: called with the number of images of each group that is done.

    Raises:
        ValueError: if the file is damaged, cut off, made with another flow, or made by a machine
            that computes differently.
    """
    return read_contents(flow, data, progress=progress).images


def read_contents(
    flow: Flow,
    data: bytes,
    *,
    progress: Callable[[int], None] = lambda count: None,
) -> Contents:
    """Return all that is in a file: images, condition and names.

    Args:
        flow: the flow that they were compressed with.
        data: content of the file.
        progress: called with the number of images of each group that is done.

    Raises:
        ValueError: as :func:`decompress`.
    """
    header, start = read_header(data)
    if header.fingerprint != fingerprint(flow):
        raise ValueError(
            f"the file was compressed with another model than this one: give that model "
            f"({header.model or 'fingerprint ' + header.fingerprint.hex()})"
        )
    images: list[Tensor] = [torch.zeros(0, *flow.shape, dtype=torch.int64)]
    conditions: list[Tensor] = []
    names: list[str] = []
    done = 0
    with single_thread(), torch.no_grad():
        coder = FlowCoder(flow, _dtype(header.portable))
        if _probe(coder) != header.probe:
            raise ValueError(_differs(header))
        blocks = read_blocks(data, start, flow.dim)
        while done < header.count:
            try:
                block = next(blocks, None)
            except ValueError as error:
                raise ValueError(f"the block with image {done + 1} {error}") from error
            if block is None or block.first != done or not block.count:
                raise ValueError(f"the block with image {done + 1} is missing")
            # Its bytes are undamaged, by their checksum: only other arithmetic decodes them amiss.
            try:
                x, condition, crc = decode_block(coder, block, progress)
            except ValueError as error:
                raise ValueError(_differs(header)) from error
            if _crc(x, condition) != crc:
                raise ValueError(_differs(header))
            images.append(x)
            conditions += [] if condition is None else [condition]
            names += block.names
            done += len(x)
    return Contents(
        torch.cat(images).to(torch.uint8 if coder.levels <= 256 else torch.int32),
        torch.cat(conditions) if conditions else None,
        names,
    )


def fingerprint(flow: Flow) -> bytes:
    """Return 6 bytes that name a flow: a hash of its weights, with their names and sizes.

    Settings are no part of it, so that a file remains readable when a later version has more of
    them. What differs between flows of equal weights changes the probe of the header.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(flow.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()[:FINGERPRINT]


def _plain_condition(flow: Flow, condition: Tensor | None, count: int) -> Tensor | None:
    """Return the condition in its stored form: labels, or float32."""
    flow.as_condition(condition, count)  # checks it
    if condition is None:
        return None
    if flow.classes is None:
        return condition.to("cpu", torch.float32)
    if condition.ndim > 1:
        raise ValueError("compression takes the labels themselves, (N,), not vectors")
    return condition.cpu().long()


def _dtype(portable: bool) -> torch.dtype:
    return torch.float64 if portable else torch.float32


def _processor() -> str:
    return torch.backends.cpu.get_cpu_capability()


def _constriction() -> str:
    Stack()  # reports what to install if it is missing
    return version("constriction")


def _crc(images: Tensor, condition: Tensor | None) -> int:
    crc = zlib.crc32(images.to(torch.int32).contiguous().numpy().astype("<i4").tobytes())
    if condition is not None:
        crc = zlib.crc32(condition.to(torch.float32).numpy().astype("<f4").tobytes(), crc)
    return crc


def _probe(coder: FlowCoder, depth: int = 8) -> int:
    """Return a 16-bit checksum of an image coded here, to detect different arithmetic.

    Args:
        coder: codes the image.
        depth: bits for the noise of a pixel, which are part of the format.
    """
    channels, height, width = coder.flow.shape
    ramp = torch.arange(height)[:, None] + torch.arange(width)
    image = (ramp * coder.levels // (height + width)).expand(1, channels, -1, -1)
    condition = None
    if coder.flow.condition_dim:
        vector = torch.zeros(1, coder.flow.condition_dim)
        condition = torch.zeros(1, dtype=torch.long) if coder.flow.classes else vector
    numbers = np.arange(1, 2 * coder.flow.dim + 100, dtype=np.uint64) * 2654435761
    stack = Stack((numbers & 0xFFFFFFFF).astype(np.uint32))
    try:
        coder.encode(stack, image, condition, depth)
    except (Exhausted, Unrepresentable):
        return 0
    return zlib.crc32(stack.words().astype("<u4").tobytes()) & 0xFFFF


def _differs(header: Header) -> str:
    made = f"torch {header.torch}, {header.processor}, constriction {header.constriction}"
    here = f"torch {torch.__version__}, {_processor()}, constriction {_constriction()}"
    advice = "decompress it there" + ("" if header.portable else ", or compress with --portable")
    return (
        f"the machine that made the file ({made}) computes differently from this one ({here}): "
        f"{advice}"
    )
