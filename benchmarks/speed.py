"""Training, sampling and scoring, beside our naive path and peers; and the share of the roofline.

Naive is the same model as it is usually written: float32, channels first, nothing else changed. All
ratios are of one run. Peers have the architecture of the row, and networks of the same layers:
zuko's and normflows' affine couplings of 2D points, whose networks are three layers with ReLU, and
normflows' multi-scale Glow of images, whose networks are a 3x3, a 1x1 and a 3x3 convolution, with
as many maps at both scales. Our own networks do more: MLP has SiLU and a residual, ResNet one 3x3
convolution more. A step is the loss, its gradients and Adam's; within our own models, their
clipping, too. [What folded norms and kept weights would save](folding.md) is on a page of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from common import best_time, table, write
from realnvp import Conditioner, Flow, image_flow, register_conditioner, vector_flow
from realnvp.conditioners import ResNet
from realnvp.config import TrainingConfig
from realnvp.training.optim import make_optimizer
from realnvp.training.runtime import compute_dtype

IMAGES = {
    "CIFAR-10, the paper's (64 maps, 8 blocks, batch 16)": (
        (3, 32, 32), 16, {"scales": 2, "hidden": 64, "blocks": 8},
    ),
    "MNIST, the model of mnist-paper (32 maps, 2 blocks, batch 64)": (
        (1, 28, 28), 64, {"scales": 2, "hidden": 32, "blocks": 2},
    ),
    "28x28 (32 maps, 4 blocks, batch 64)": (
        (1, 28, 28), 64, {"scales": 2, "hidden": 32, "blocks": 4},
    ),
}  # fmt: skip


@register_conditioner("three_convolutions")
class ThreeConvolutions(Conditioner):
    """The network of normflows' Glow: a 3x3, a 1x1 and a 3x3 convolution."""

    def __init__(
        self, channels_in: int, channels_out: int, *, hidden: int, condition_dim: int, **_: Any
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, hidden, 3, padding=1)
        self.second = nn.Conv2d(hidden, hidden, 1)
        self.last = nn.Conv2d(hidden, channels_out, 3, padding=1)
        self._zero_last()
        self.to(memory_format=torch.channels_last)

    def network(self, x: Tensor, condition: Tensor | None) -> Tensor:
        h = self.first(x.contiguous(memory_format=torch.channels_last))
        return F.leaky_relu(self.second(F.leaky_relu(h)))

    def output(self, h: Tensor) -> Tensor:
        return self.last(h)


@register_conditioner("three_layers")
class ThreeLayers(Conditioner):
    """The network of zuko's and normflows' couplings of vectors: three layers with ReLU."""

    def __init__(
        self, features_in: int, features_out: int, *, hidden: int, condition_dim: int, **_: Any
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n, hidden) for n in (features_in, hidden, hidden))
        self.last = nn.Linear(hidden, features_out)
        self._zero_last()

    def network(self, x: Tensor, condition: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = F.relu(layer(x), inplace=True)
        return x

    def output(self, h: Tensor) -> Tensor:
        return self.last(h)


def trainer_of(flow: Flow, batch: int, clip: bool = True) -> Callable[[], None]:
    """Return a function that takes one optimizer step on random data.

    Our trainings clip gradients. The peers' steps do not.
    """
    optimizer = make_optimizer(flow, TrainingConfig())
    images = flow.levels is not None
    x = torch.randint(0, 256, (batch, *flow.shape)).byte() if images else torch.randn(batch, 2)

    def step() -> None:
        optimizer.zero_grad()
        (torch.stack(list(flow.loss_terms(x).values())).sum() / flow.dim).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        optimizer.step()

    return step


def measured(
    flow: Flow, batch: int, compute: torch.dtype | None, clip: bool = True
) -> tuple[float, ...]:
    """Return images/s of training, sampling and scoring, and FLOP of one step."""
    flow.set_compute_dtype(compute)
    step = trainer_of(flow, batch, clip)
    step()
    with FlopCounterMode(display=False) as counter:
        step()
    train = batch / best_time(step, 3)
    flow.eval()
    with torch.no_grad():
        sample = batch / best_time(lambda: flow.sample(batch, batch_size=batch), 3)
        x = flow.sample(batch, batch_size=batch)
        score = batch / best_time(lambda: flow.log_prob(x), 3)
    return train, sample, score, counter.get_total_flops()


def naive(shape: Any, options: dict[str, Any]) -> Flow:
    flow = image_flow(shape, **options)
    for parameter in flow.parameters():
        parameter.data = parameter.data.contiguous(memory_format=torch.contiguous_format)
    return flow


def roofline(dtype: torch.dtype, channels: int, side: int, batch: int) -> float:
    """Return FLOP/s of a 3x3 convolution of the model's own size, the best of a few batches."""
    best = 0.0
    for n in (batch, 2 * batch, 4 * batch):
        x = torch.randn(n, channels, side, side, dtype=dtype)
        w = torch.randn(channels, channels, 3, 3, dtype=dtype)
        x, w = (t.contiguous(memory_format=torch.channels_last) for t in (x, w))
        with torch.no_grad():
            seconds = best_time(lambda x=x, w=w: F.conv2d(x, w, padding=1), 10)
        best = max(best, 2 * n * channels**2 * 9 * side**2 / seconds)
    return best


def of_images() -> tuple[str, str]:
    speed, share = [], []
    for name, (shape, batch, options) in IMAGES.items():
        ours = image_flow(shape, **options)
        compute = compute_dtype(TrainingConfig(), ours, torch.device("cpu"))
        fast = measured(ours, batch, compute)
        ResNet.memory_format = torch.contiguous_format
        slow = measured(naive(shape, options), batch, None)
        ResNet.memory_format = torch.channels_last
        rates = [f"{v:.1f}" for pair in zip(slow[:3], fast[:3], strict=True) for v in pair]
        ratios = [f"{ours / own:.1f}" for ours, own in zip(fast[:3], slow[:3], strict=True)]
        speed.append([name, *rates, ", ".join(ratios)])
        top = roofline(compute or torch.float32, options["hidden"], shape[1], batch)
        flops = fast[3] * fast[0] / batch
        share.append(
            [name, str(compute or torch.float32).removeprefix("torch."), f"{fast[3] / 1e9:.1f}",
             f"{flops / 1e9:.0f}", f"{top / 1e9:.0f}", f"{flops / top:.0%}"]
        )  # fmt: skip
        print(speed[-1], share[-1], file=sys.stderr, flush=True)
    columns = ["images/s", "naive train", "ours", "naive sample", "ours", "naive score", "ours"]
    columns.append("ratios")
    shares = ["", "dtype", "GFLOP a step", "GFLOP/s", "convolution's", "share"]
    return table(columns, speed), table(shares, share)


def of_peers() -> str:
    rows = []
    for count in (500, 10_000):
        times = {
            "realnvp": our_points(count, "three_layers"),
            "realnvp, MLP": our_points(count, "mlp"),
            "zuko": zuko_points(count),
            "normflows": normflows_points(count),
        }
        rows.append((f"2D points, 8 affine couplings, 64 units, {count:,} points", times))
    # A number of maps would double at the second scale, and normflows' are as many at both.
    options = {"architecture": "glow", "steps": 8, "scales": 2, "hidden": [64, 64], "blocks": 1,
               "norm": "act", "conditioner_norm": "none"}  # fmt: skip
    glow = {}
    for who, network in (("realnvp", "three_convolutions"), ("realnvp, ResNet", "resnet")):
        image = image_flow((1, 28, 28), conditioner=network, **options)  # type: ignore[arg-type]
        rates = measured(image, 64, compute_dtype(TrainingConfig(), image, image.device), False)
        glow[who] = tuple(64 / rate for rate in rates[:3])
    glow["normflows"] = normflows_glow()
    rows.append(("28x28 Glow, 2 scales of 8 steps, 64 maps, 64 images", glow))
    lines = []
    for name, found in rows:
        own = found["realnvp"]
        for who, times in found.items():
            ratios = [f"{theirs / ours:.1f}" for theirs, ours in zip(times, own, strict=True)]
            lines.append([name, who, *(f"{1e3 * t:.1f}" for t in times), ", ".join(ratios)])
    columns = ["model", "library", "ms to train", "ms to sample", "ms to score", "times ours"]
    return table(columns, lines)


def _times(
    parameters: Any,
    loss: Callable[[], Tensor],
    draw: Callable[[], Any],
    score: Callable[[], Any],
    repeats: int,
) -> tuple[float, ...]:
    optimizer = torch.optim.Adam(parameters, lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    train = best_time(step, repeats)
    with torch.no_grad():
        return train, best_time(draw, repeats), best_time(score, repeats)


def our_points(count: int, network: str) -> tuple[float, ...]:
    flow, trained = (
        vector_flow(
            2, coupling="affine", couplings=8, conditioner=network, hidden=64, blocks=1, norm="none"
        )
        for _ in range(2)
    )
    flow.eval()
    x = torch.randn(count, 2)
    train = best_time(trainer_of(trained, count, clip=False), 20)
    with torch.no_grad():
        draw = best_time(lambda: flow.sample(count), 20)
        return train, draw, best_time(lambda: flow.log_prob(x), 20)


def zuko_points(count: int) -> tuple[float, ...]:
    import zuko

    flow = zuko.flows.RealNVP(2, transforms=8, hidden_features=(64, 64, 64))
    x = torch.randn(count, 2)
    return _times(
        flow.parameters(), lambda: -flow().log_prob(x).mean(), lambda: flow().sample((count,)),
        lambda: flow().log_prob(x), 20,
    )  # fmt: skip


def normflows_points(count: int) -> tuple[float, ...]:
    import normflows as nf

    layers: list[nn.Module] = []
    for _ in range(8):
        net = nf.nets.MLP([1, 64, 64, 64, 2], init_zeros=True)
        layers += [nf.flows.AffineCouplingBlock(net), nf.flows.Permute(2, mode="swap")]
    flow = nf.NormalizingFlow(nf.distributions.base.DiagGaussian(2), layers)
    x = torch.randn(count, 2)
    return _times(flow.parameters(), lambda: flow.forward_kld(x), lambda: flow.sample(count),
                  lambda: flow.log_prob(x), 20)  # fmt: skip


def normflows_glow() -> tuple[float, ...]:
    import normflows as nf

    bases, merges, flows, scales, steps, hidden = [], [], [], 2, 8, 64
    for i in range(scales):
        channels = 1 * 2 ** (scales + 1 - i)
        blocks = [
            nf.flows.GlowBlock(channels, hidden, split_mode="channel", scale=True)
            for _ in range(steps)
        ]
        flows.append([*blocks, nf.flows.Squeeze()])
        if i > 0:
            merges.append(nf.flows.Merge())
            shape = (1 * 2 ** (scales - i), 28 // 2 ** (scales - i), 28 // 2 ** (scales - i))
        else:
            shape = (1 * 2 ** (scales + 1), 28 // 2**scales, 28 // 2**scales)
        bases.append(nf.distributions.DiagGaussian(shape))
    flow = nf.MultiscaleFlow(bases, flows, merges)
    x = torch.rand(64, 1, 28, 28)
    return _times(flow.parameters(), lambda: flow.forward_kld(x), lambda: flow.sample(64),
                  lambda: flow.log_prob(x, None), 3)  # fmt: skip


def cold_start() -> str:
    def run(*command: str) -> float:
        return best_time(lambda: subprocess.run(command, check=True, capture_output=True), 5)

    python = sys.executable
    bare = run(python, "-c", "import torch")
    rows = [
        ["realnvp --help", f"{run(python, '-m', 'realnvp', '--help'):.2f}"],
        ["import torch", f"{bare:.2f}"],
        ["import realnvp, and its flows", f"{run(python, '-c', CODE):.2f}"],
    ]
    return table(["cold start", "s"], rows)


CODE = "import torch, realnvp; realnvp.Flow, realnvp.image_flow"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[torch.get_num_threads()], metavar="N",
        help="numbers of threads, a section for each; default: PyTorch's",
    )  # fmt: skip
    start = time.monotonic()
    parts = [(__doc__ or "").split("\n\n", 1)[1].strip()]
    threads = parser.parse_args().threads
    for count in threads:
        torch.set_num_threads(count)
        parts += [f"## {count} thread{'s' * (count > 1)}", *of_images(), of_peers()]
    torch.set_num_threads(threads[0])
    write("speed", "Speed", *parts, "## Start", cold_start())
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
