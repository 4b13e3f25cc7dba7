"""Fit how far the networks of a shipped model are to be trusted: a gain of what they say.

    python tools/fit_gains.py NAME --data FILE --steps 200

A network that has seen each training image many times says more of it than it can say of another
one. As temperature scaling does for classifiers (arXiv 1706.04599), each coupling gets a gain and
an offset of its scales, of its shifts, and of the weights, means and scales of its mixtures: a few
numbers, fitted to the held-out images that also chose the checkpoint, and written into the last
layers. The images that are reported have no part in it. Run ``tools/calibrate.py`` afterwards.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from torch import Tensor, nn

import realnvp
from realnvp import Flow
from realnvp.bijections import LogisticMixtureCoupling
from realnvp.bijections.coupling import Coupling
from realnvp.conditioners import Conditioner
from realnvp.data import Split, load_part
from realnvp.evaluation import evaluate
from realnvp.utils.progress import Bar
from ship import ship_again

BATCH = 64


class Gain(nn.Module):
    """A gain and an offset for every kind of parameter of a coupling.

    Args:
        coupling: its conditioner's output is ``(B, P * C, ...)``, of P parameters in turn.
    """

    kinds: Tensor

    def __init__(self, coupling: Coupling) -> None:
        super().__init__()
        conditioner = coupling.conditioner
        assert isinstance(conditioner, Conditioner)
        self.last = conditioner.last
        kinds = torch.arange(2)  # of the scale and the shift
        if isinstance(coupling, LogisticMixtureCoupling):
            mixture = torch.arange(2, 5).repeat_interleave(coupling.components)
            kinds = torch.cat((kinds, mixture))
        # Each parameter is that of several channels, and of the pixels of a patch.
        self.register_buffer("kinds", kinds.repeat_interleave(len(self._bias) // len(kinds)))
        self.gain = nn.Parameter(torch.ones(int(kinds.max()) + 1))
        self.offset = nn.Parameter(torch.zeros_like(self.gain))
        self._hook = self.last.register_forward_hook(self._apply)

    @property
    def _bias(self) -> Tensor:
        assert self.last.bias is not None
        return self.last.bias

    def _apply(self, _: nn.Module, __: object, out: Tensor) -> Tensor:
        shape = -1, *[1] * (out.ndim - 2)
        return out * self.gain[self.kinds].view(shape) + self.offset[self.kinds].view(shape)

    @torch.no_grad()
    def write(self) -> None:
        """Multiply the last layer by the gain, and add the offset to its bias."""
        self._hook.remove()
        gain = self.gain[self.kinds]
        self.last.weight.mul_(gain.view(-1, *[1] * (self.last.weight.ndim - 1)))
        self._bias.mul_(gain).add_(self.offset[self.kinds])


def fit(flow: Flow, split: Split, steps: int, lr: float, seed: int = 0) -> list[Gain]:
    """Fit the gains of a flow of images, and write them into it.

    It is not the training loop, in whose training mode batch norm would follow these images.

    Args:
        flow: the flow, in evaluation mode.
        split: held-out images.
        steps: steps of Adam with batches of 64, at a rate that falls to 0.
        lr: the rate at the beginning.
        seed: seed of the batches and of the noise.
    """
    flow.requires_grad_(False)
    gains = [Gain(module) for module in flow.modules() if isinstance(module, Coupling)]
    optimizer = torch.optim.Adam([p for gain in gains for p in (gain.gain, gain.offset)], lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    generator = torch.Generator().manual_seed(seed)
    with Bar("fitting gains") as bar:
        for step in range(steps):
            index = torch.randint(len(split), (BATCH,), generator=generator)
            some = split.select(index)
            loss = -flow.log_prob(some.x, some.condition, generator).mean() / flow.dim
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update((step + 1) / steps)
    for gain in gains:
        gain.write()
    flow.requires_grad_(True)
    return gains


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--lr", type=float, default=0.004)
    args = parser.parse_args()
    flow = realnvp.load(args.model)
    config = replace(flow.trained_on.data, source=args.data)
    validation, reported = load_part(config, "validation")[1], load_part(config, None)[1]
    print("before", evaluate(flow, reported))
    fit(flow, validation, args.steps, args.lr)
    options = f"--steps {args.steps} --lr {args.lr:g}"
    command = f"python tools/fit_gains.py {args.model} --data FILE {options}"
    ship_again(args.model, flow, evaluate(flow, reported), command)


if __name__ == "__main__":
    main()
