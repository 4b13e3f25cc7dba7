"""A block: images that share a stack, coded in groups.

The noise of a group is decoded from the bits of previous groups. The first groups are therefore
small and have coarse noise, and the very first images are coded together without the flow: the
fewer bits are on the stack, the fewer are taken from it, at the cost of a size above the
likelihood. As the stack grows, so do the depth of the noise, up to where size and likelihood hardly
differ, and the number of images in a batch of the networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from realnvp.codec.coder import DEPTHS, FlowCoder
from realnvp.codec.plain import pack_plain, unpack_plain
from realnvp.codec.stack import Exhausted, Stack, Unrepresentable
from realnvp.flow import Flow

__all__ = ["PLAIN", "Block", "decode_block", "encode_block"]

PLAIN = 0
"""Depth that marks a group of images that are coded without the flow."""


@dataclass
class Block:
    """A coded block.

    Args:
        groups: depth and number of images of each group, in the order of the images.
        words: content of the stack.
        first: index in the file of its first image.
        names: names of its images; empty if they have none.
    """

    groups: list[tuple[int, int]]
    words: np.ndarray
    first: int = 0
    names: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of images."""
        return sum(count for _, count in self.groups)


def encode_block(
    coder: FlowCoder,
    x: Tensor,
    condition: Tensor | None,
    batch: int,
    bottom: int = 0,
    verify: bool = True,
    progress: Callable[[int], None] = lambda done: None,
    together: int = 1 << 14,
) -> Block:
    """Code images, and decode each group immediately to compare it.

    Args:
        coder: codes groups.
        x: integers ``(N, C, H, W)``.
        condition: labels ``(N,)``, vectors ``(N, K)``, or None.
        batch: most images of a group.
        bottom: number of 32 bits that the decoder finds, too: it costs the least here.
        verify: decode and compare.
        progress: called with the number of images of each group that is done.
        together: pixel values after which plain images at the beginning are no longer packed again
            as one group: each further image would take longer than the one before.

    Returns:
        the block; images that were not restored are stored without the model.
    """
    stack = Stack(bottom=bottom)
    groups: list[tuple[int, int]] = []
    needs: dict[int, float] = {}  # bits that an image took off the stack, by depth
    done, single = 0, 0  # images; how many of the next go one by one, since one of them failed
    while done < len(x):
        depth, count = _plan(stack, needs, batch, coder.flow.dim)
        count = 1 if single else min(count, len(x) - done)
        few = done * coder.flow.dim < together
        if depth == PLAIN and few and all(group == (PLAIN, done) for group in groups):
            # Still at the beginning: coded together, plain images are smaller than one by one.
            stack, groups, first = Stack(bottom=bottom), [], 0
        else:
            first = done
        part = slice(first, done + count)
        images, context = x[part], None if condition is None else condition[part]
        coded = None
        if depth != PLAIN:
            trial = stack.copy()
            before = trial.least = trial.bits
            try:
                coder.encode(trial, images, context, depth)
                needs[depth] = max(needs.get(depth, 0.0), (before - trial.least) / count)
                if trial.bits - before < 8 * len(pack_plain(images, coder.levels)) and (
                    not verify or _decodes_exactly(coder, trial, stack, images, context, depth)
                ):
                    coded = trial
            except Exhausted:
                needs[depth] = max(needs.get(depth, 0.0), before / count)
                continue  # fewer images, or coarser noise
            except Unrepresentable:
                pass
            if coded is None and count > 1:
                single = count
                continue
        if coded is None:
            coded, depth = stack, PLAIN
            _push_bytes(coded, pack_plain(images, coder.levels), _most_bytes(images.numel()))
        stack = coded
        if context is not None:
            _push_condition(stack, context, coder.flow.classes)
        groups.append((depth, len(images)))
        single = max(single - count, 0)
        done += count
        progress(count)
    return Block(groups, stack.words())


def _plan(
    stack: Stack,
    needs: dict[int, float],
    batch: int,
    dim: int,
    guess: int = 2,
    margin: float = 1.05,
    spare: int = 64,
) -> tuple[int, int]:
    """Return the depth and the number of images of the next group, for which the bits suffice.

    Args:
        stack: the stack.
        needs: bits that an image took off the stack, by depth, where that is known.
        batch: most images of a group.
        dim: number of values of an image.
        guess: bits per pixel that coding takes off the stack before it pushes others, in addition
            to the bits of the depth. It is low: a failed attempt costs time, a missed one bytes.
        margin: safety factor, since the next images may need more bits than previous ones.
        spare: bits that always stay on the stack.
    """
    for depth in DEPTHS:
        need = needs.get(depth, dim * (depth + guess))
        fitting = int((stack.bits - spare) / (margin * need))
        if fitting:
            # Coarser noise costs bits, so it is only used until the bits suffice for the next
            # depth.
            return depth, min(batch, 1 << (fitting.bit_length() - 1)) if depth == DEPTHS[0] else 1
    return PLAIN, 1


def _decodes_exactly(
    coder: FlowCoder, coded: Stack, stack: Stack, x: Tensor, condition: Tensor | None, depth: int
) -> bool:
    """Return whether decoding restores the images and the stack."""
    trial = coded.copy()
    try:
        back = coder.decode(trial, len(x), condition, depth)
    except (Exhausted, Unrepresentable):
        return False
    return torch.equal(back, x) and np.array_equal(trial.words(), stack.words())


def decode_block(
    coder: FlowCoder, block: Block, progress: Callable[[int], None] = lambda done: None
) -> tuple[Tensor, Tensor | None, int]:
    """Return the images of a block, their condition, and the number at the bottom of the stack.

    Raises:
        ValueError: if the block does not decode consistently: it is damaged, or this machine
            computes differently from the one that made it.
    """
    stack = Stack(block.words)
    images: list[Tensor] = []
    conditions: list[Tensor] = []
    try:
        for depth, count in reversed(block.groups):
            context = _pop_condition(stack, count, coder.flow)
            if context is not None:
                conditions.append(context)
            if depth == PLAIN:
                data = _pop_bytes(stack, _most_bytes(count * coder.flow.dim))
                shape = (count, *coder.flow.shape)
                images.append(unpack_plain(data, shape, coder.levels))
            else:
                images.append(coder.decode(stack, count, context, depth))
            progress(count)
    except (Exhausted, Unrepresentable) as error:
        raise ValueError("it cannot be decoded") from error
    bottom = stack.bottom()
    if bottom is None:
        raise ValueError("it does not decode consistently")
    return torch.cat(images[::-1]), torch.cat(conditions[::-1]) if conditions else None, bottom


def _most_bytes(values: int) -> int:
    """Return how many bytes plain images may take."""
    return 2 * values + 1024


def _push_bytes(stack: Stack, data: bytes, most: int) -> None:
    stack.push(np.frombuffer(data, np.uint8).astype(np.int64), 256)
    stack.push(np.array([len(data)]), 1 << most.bit_length())


def _pop_bytes(stack: Stack, most: int) -> bytes:
    size = int(stack.pop(1 << most.bit_length(), 1)[0])
    if not 0 < size <= most:
        raise ValueError("its plain images are damaged")
    return stack.pop(256, size).astype(np.uint8).tobytes()


def _push_condition(stack: Stack, condition: Tensor, classes: int | None) -> None:
    """Push labels, uniform on the classes, or the 32 bits of each number of condition vectors."""
    if classes is not None:
        stack.push(condition.numpy().astype(np.int64), classes)
    else:
        words = condition.to(torch.float32).contiguous().numpy().view(np.uint32)
        stack.push(words.reshape(-1).astype(np.int64), 1 << 32)


def _pop_condition(stack: Stack, count: int, flow: Flow) -> Tensor | None:
    if not flow.condition_dim:
        return None
    if flow.classes is not None:
        return torch.from_numpy(stack.pop(flow.classes, count))
    words = stack.pop(1 << 32, count * flow.condition_dim).astype(np.uint32)
    values = torch.from_numpy(words.view(np.float32).reshape(count, -1))
    if not torch.isfinite(values).all():
        raise ValueError("its condition is damaged")
    return values
