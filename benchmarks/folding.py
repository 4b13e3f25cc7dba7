"""What inference would save by constant weights and by norms folded into convolutions.

    python benchmarks/folding.py [--repeats N]

In evaluation mode, a residual block's second batch norm is a scale and a shift per channel of its
first convolution's output, and can be part of that convolution. (The first norm comes after a sum
that is also passed on, and before a ReLU: it cannot.) The weights themselves, which weight
normalization computes and autocast converts in every pass, could be kept.

"Folded" does the first in every pass, so that nothing can be out of date; "kept" also keeps the
weights, as if they never changed; "fused" moreover leaves the ReLU between the convolutions, and
the sum of a residual block, to oneDNN, by PyTorch's internal functions. Times are CPU time of one
thread; runs of the ways alternate, so that the ratios hold on a busy machine. A ratio is the median
of the runs' own: how much longer the library takes. In mnist, the label comes between the first
convolution and the ReLU, so that nothing is fused.

The library does none of these. Folding saves 3 % at most, and changes the last bits of densities,
on which compressed files depend. Kept weights save 0 to 6 %, and would be out of date after any
change of parameters that PyTorch does not count, such as one of ``parameter.data``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import realnvp
from common import table, write
from realnvp import Flow, image_flow
from realnvp.conditioners import BatchNorm2d, _Block, _normalized_relu

Forward = Callable[[_Block, Tensor, Tensor | None], Tensor]


def weights(block: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return both convolutions with the second norm in the first one, and that norm's scale."""
    first, norm, second = block.conv1, block.norm2, block.conv2
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return (
        first.direction * (first.length / first._norm() * scale[:, None, None, None]),
        (first.bias - norm.running_mean) * scale + norm.bias,
        second.direction * (second.length / second._norm()),
        second.bias,
        scale,
    )


def rest(block: Any, x: Tensor, h: Tensor) -> Tensor:
    """Return the block's output from that of its second convolution."""
    if block.gated:
        change, gate = h.chunk(2, dim=1)
        h = change * gate.sigmoid()
    return h.add_(x)


def folded(
    block: Any, x: Tensor, bias: Tensor | None, known: dict[Any, Any] | None, fused: bool
) -> Tensor:
    """Compute a block; ``known`` keeps the weights."""
    narrow = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    found = None if known is None else known.get(block)
    if found is None:
        found = weights(block)
        if known is not None:
            found = known[block] = tuple(w.to(narrow) for w in found)
    w1, b1, w2, b2, scale = found
    p1, p2 = block.conv1.padding, block.conv2.padding
    h = _normalized_relu(block.norm1, x)
    if not fused or bias is not None:
        h = F.conv2d(h, w1, b1, padding=p1)
        if bias is not None:
            h = h + (bias * scale)[:, :, None, None]
        return rest(block, x, F.conv2d(F.relu(h, inplace=True), w2, b2, padding=p2))
    own: Any = torch.ops.mkldnn
    once = [1, 1], [1, 1], 1
    h = own._convolution_pointwise(h, w1, b1, [p1, p1], *once, "relu", [], "")
    if block.gated:
        h = own._convolution_pointwise(h, w2, b2, [p2, p2], *once, "none", [], "")
        return rest(block, x, h)
    sum_of = own._convolution_pointwise_.binary
    return sum_of(x, h, w2, b2, [p2, p2], *once, "add", 1.0, None, [], None)


def compare(flow: Flow, count: int, dtype: torch.dtype | None, repeats: int) -> list[list[str]]:
    """Return a line for sampling and one for scoring."""
    flow.eval().set_compute_dtype(dtype)
    blocks = [
        m for m in flow.modules() if isinstance(m, _Block) and isinstance(m.norm2, BatchNorm2d)
    ]
    ways: dict[str, Forward | None] = {
        "now": None,
        "folded": partial(folded, known=None, fused=False),
        "kept": partial(folded, known={}, fused=False),
        "fused": partial(folded, known={}, fused=True),
    }

    def use(way: Forward | None) -> None:
        for block in blocks:
            block.__dict__.pop("forward", None)
            if way is not None:
                block.__dict__["forward"] = partial(way, block)

    x = flow.sample(count)
    labels = None if flow.classes is None else torch.zeros(count, dtype=torch.int64)
    noise = torch.rand(x.shape)
    tasks = {
        "sample": lambda: flow.sample(count, batch_size=count),
        "score": lambda: flow.log_prob(x, labels, noise),
    }
    lines = []
    for what, task in tasks.items():
        found: dict[str, list[float]] = {name: [] for name in ways}
        values = {}
        for repeat in range(repeats + 1):
            for name in list(ways)[:: 1 if repeat % 2 else -1]:
                use(ways[name])
                start = time.process_time()
                values[name] = task()
                if repeat:  # the first warms up
                    found[name].append(time.process_time() - start)
        if what == "score":
            scores = torch.stack(list(values.values()))
            assert dtype is not None or torch.allclose(scores, scores[0], rtol=1e-5), "other values"
        ratios = [
            statistics.median(a / b for a, b in zip(found["now"], found[name], strict=True))
            for name in ways
        ]
        now = 1e3 * statistics.median(found["now"])
        lines.append([what, f"{now:.0f}", *(f"{ratio:.3f}" for ratio in ratios[1:])])
    use(None)
    return lines


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    paper = image_flow((1, 28, 28), scales=2, hidden=32, blocks=2)
    paper.loss_terms(torch.randint(0, 256, (16, 1, 28, 28), dtype=torch.uint8))  # its norms' first
    rows = []
    for name, flow, count, dtype in (
        ("the model of mnist-paper, bfloat16 networks", paper, 64, torch.bfloat16),
        ("the model of mnist-paper", paper, 64, None),
        ("mnist, as shipped", realnvp.load("mnist"), 64, None),
        ("cifar10, as shipped", realnvp.load("cifar10"), 32, None),
    ):
        rows += [
            [f"{name}, {count} images", *line] for line in compare(flow, count, dtype, repeats)
        ]
        print(rows[-2:], file=sys.stderr, flush=True)
    head = (__doc__ or "").split("\n\n", 2)[2].strip()
    columns = ["model", "", "ms now", "folded", "kept", "fused"]
    write("folding", "Norms in convolutions", head, table(columns, rows))


if __name__ == "__main__":
    main()
