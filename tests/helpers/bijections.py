"""One table of bijections that every invariant test runs through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from realnvp import Bijection, Chain, image_flow, vector_flow
from realnvp.bijections import (
    ActNorm,
    Affine,
    AffineCoupling,
    Autoregressive,
    Average,
    BlockMask,
    ChannelMask,
    CheckerboardMask,
    CirclesFirst,
    CircularCoupling,
    ClassMeans,
    DomainMap,
    EncodedCondition,
    FactorOut,
    Flatten,
    GaussianMixtureCoupling,
    Inverse,
    InvertibleLinear,
    LogisticMixtureCoupling,
    Logit,
    PiecewiseLinearCoupling,
    Refine,
    Rosenblatt,
    RunningBatchNorm,
    SplineCoupling,
    Squeeze,
)
from realnvp.columns.network import CategoriesFirst
from realnvp.conditioners import MLP, ColumnMLPs, ImageFeatures, ResNet


@dataclass(frozen=True)
class Case:
    """A bijection to test: how to make it, the shape of an example, and what it takes."""

    make: Callable[[], Bijection]
    shape: tuple[int, ...]
    condition_dim: int = 0
    unit_interval: bool = False  # its forward's domain
    identity: bool = True  # construction gives the identity

    def build(self) -> Bijection:
        """In float64, with random weights and statistics, in evaluation mode."""
        torch.manual_seed(0)
        return randomize(self.make().double()).eval()

    def inputs(self, batch: int = 3) -> tuple[Tensor, Tensor | None]:
        generator = torch.Generator().manual_seed(1)
        draw = torch.rand if self.unit_interval else torch.randn
        x = draw(batch, *self.shape, generator=generator, dtype=torch.float64)
        condition = None
        if self.condition_dim:
            condition = torch.randn(
                batch, self.condition_dim, generator=generator, dtype=torch.float64
            )
        return x, condition


def randomize(module: nn.Module, last: float = 0.3) -> nn.Module:
    """Random weights everywhere (zero last layers would test the identity only).

    ``last`` is the deviation of the conditioners' last layers, which sets how wild the map is.
    """
    generator = torch.Generator().manual_seed(2)
    for name, tensor in module.state_dict(keep_vars=True).items():  # constants are not in it
        if name.endswith("initialized"):
            tensor.fill_(True)
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        with torch.no_grad():
            if name.endswith(("means", "factors", "weights", "tables", "edges")):
                continue  # of a mixture, random and valid as they are
            if name.endswith(("running_var", "scale")) and "log_scale" not in name:
                tensor.copy_(noise.abs() + 0.5)
            elif "last" in name:
                tensor.copy_(last * noise)
            else:
                tensor.add_(0.1 * noise)
    return module


def affine(
    mask: BlockMask | ChannelMask | CheckerboardMask, channels: int, **kwargs: object
) -> AffineCoupling:
    passive, active = mask.sizes(channels)
    net = ResNet(passive, 2 * active, hidden=4, blocks=1, **kwargs)  # type: ignore[arg-type]
    return AffineCoupling(mask, net, active)


def affine_vector(flip: bool, dim: int, condition_dim: int = 0) -> AffineCoupling:
    mask = ChannelMask(flip)
    passive, active = mask.sizes(dim)
    net = MLP(passive, 2 * active, hidden=8, blocks=1, condition_dim=condition_dim)
    return AffineCoupling(mask, net, active)


def gaussian_mixture(dim: int, condition_dim: int = 0) -> GaussianMixtureCoupling:
    mask = ChannelMask(True)
    passive, active = mask.sizes(dim)
    net = MLP(passive, 3 * 4 * active, hidden=8, blocks=1, condition_dim=condition_dim)
    return GaussianMixtureCoupling(mask, net, active, components=4)


def autoregressive(dim: int, condition_dim: int = 0, networks: int = 1) -> Autoregressive:
    sizes = {"hidden": 8, "blocks": 1, "condition_dim": condition_dim, "networks": networks}
    nets = ColumnMLPs(dim, 3 * 4 * dim, **sizes)
    coupling = GaussianMixtureCoupling(ChannelMask(), nets, dim, components=4)
    return Autoregressive(coupling)


def rosenblatt(
    components: int, dim: int, condition_dim: int = 0, classes: int | None = None
) -> Rosenblatt:
    shapes = Rosenblatt.shapes(components, dim, condition_dim, classes)
    factors = torch.randn(shapes["factors"]).tril(-1)
    factors = factors + torch.diag(torch.rand(shapes["means"][-1]) + 0.5)
    weights = torch.rand(shapes["weights"]).softmax(-1)
    return Rosenblatt(torch.randn(shapes["means"]), factors, weights, condition_dim)


def categories_first(condition_dim: int = 0) -> CategoriesFirst:
    links = [{"column": 2, "size": 3}, {"column": 0, "size": 2, "parents": [0]}]
    net = MLP(1, 2, hidden=8, blocks=1, condition_dim=3 + condition_dim)
    layer = CategoriesFirst(
        links, 4, 3, AffineCoupling(ChannelMask(False), net, 1), condition_dim=condition_dim,
        conditioner=MLP(0, 5, 8, 1, condition_dim) if condition_dim else None,
    )  # fmt: skip
    layer.fill({
        "edges": torch.tensor([[0, 0.2, 0.7, 1], [0, 0.6, 1, 1]]),
        "tables": torch.tensor(
            [0, 0.2, 0.7, 1, 0, 0.9, 1, 0, 0.5, 1, 0, 0.4, 1]
        ),
        "embedding": torch.randn(5, 3),
    })  # fmt: skip
    return layer


def mixture(mask: ChannelMask | CheckerboardMask, channels: int) -> LogisticMixtureCoupling:
    passive, active = mask.sizes(channels)
    net = ResNet(passive, LogisticMixtureCoupling.num_params(3) * active, hidden=4, blocks=1)
    return LogisticMixtureCoupling(mask, net, active, components=3)


def piecewise_linear(dim: int, condition_dim: int = 0) -> PiecewiseLinearCoupling:
    mask = ChannelMask(True)
    passive, active = mask.sizes(dim)
    net = MLP(passive, 4 * active, hidden=8, blocks=1, condition_dim=condition_dim)
    layer = PiecewiseLinearCoupling(mask, net, active, components=4)
    layer.fill({"edges": torch.tensor([0, 1e-3, 0.4, 0.5, 1]).double()})
    return layer


def spline(dim: int, condition_dim: int = 0) -> SplineCoupling:
    mask = ChannelMask(True)
    passive, active = mask.sizes(dim)
    net = MLP(passive, 11 * active, hidden=8, blocks=1, condition_dim=condition_dim)
    return SplineCoupling(mask, net, active, components=4, bound=1.5)  # some values are beyond it


def circular(dim: int, condition_dim: int = 0) -> CircularCoupling:
    mask = ChannelMask(True)
    passive, active = mask.sizes(dim)
    net = MLP(2 * passive, 13 * active, hidden=8, blocks=1, condition_dim=condition_dim)
    return CircularCoupling(mask, net, active, components=4)


def encoded_condition() -> EncodedCondition:
    layer = EncodedCondition(2, 3, affine_vector(True, 3, EncodedCondition.num_features(2, 3)))
    layer.fit(torch.randn(50, 2))
    return layer


def image_body(**options: object) -> Bijection:
    """An image model after its dequantization, which is random and so has no Jacobian."""
    flow = image_flow((2, 4, 8), hidden=4, blocks=1, **options)  # type: ignore[arg-type]
    assert isinstance(flow.bijection, Chain)
    return Chain(*list(flow.bijection)[1:])


BIJECTIONS: dict[str, Case] = {
    "affine-checkerboard": Case(lambda: affine(CheckerboardMask(), 2), (2, 4, 4)),
    "affine-checkerboard-flip": Case(lambda: affine(CheckerboardMask(True), 1), (1, 3, 5)),
    "affine-channel": Case(lambda: affine(ChannelMask(), 4), (4, 3, 3)),
    "affine-channel-flip": Case(lambda: affine(ChannelMask(True), 3), (3, 2, 2)),
    "affine-block": Case(lambda: affine(BlockMask(1, 3), 6), (6, 2, 3)),
    "affine-instance-norm": Case(lambda: affine(ChannelMask(), 2, norm="instance"), (2, 4, 4)),
    "affine-conditional": Case(
        lambda: affine(CheckerboardMask(), 2, condition_dim=3), (2, 4, 4), 3
    ),
    "affine-vector": Case(lambda: affine_vector(False, 5), (5,)),
    "affine-vector-flip": Case(lambda: affine_vector(True, 2), (2,)),
    "affine-vector-conditional": Case(lambda: affine_vector(True, 3, 2), (3,), 2),
    "gaussian-mixture": Case(lambda: gaussian_mixture(5), (5,), identity=False),
    "gaussian-mixture-2d": Case(lambda: gaussian_mixture(2), (2,), identity=False),
    "gaussian-mixture-conditional": Case(lambda: gaussian_mixture(3, 2), (3,), 2, identity=False),
    "gaussian-mixture-one-column": Case(lambda: gaussian_mixture(1, 2), (1,), 2, identity=False),
    "gaussian-mixture-alone": Case(lambda: gaussian_mixture(1), (1,), identity=False),
    "autoregressive": Case(lambda: autoregressive(4), (4,), identity=False),
    "autoregressive-conditional": Case(lambda: autoregressive(3, 2), (3,), 2, identity=False),
    "autoregressive-networks": Case(lambda: autoregressive(3, 2, 3), (3,), 2, identity=False),
    "autoregressive-one-column": Case(lambda: autoregressive(1), (1,), identity=False),
    "piecewise-linear": Case(lambda: piecewise_linear(5), (5,)),
    "piecewise-linear-one-column": Case(lambda: piecewise_linear(1, 2), (1,), 2),
    "piecewise-linear-image": Case(
        lambda: PiecewiseLinearCoupling(
            ChannelMask(), ResNet(2, 3 * 1, hidden=4, blocks=1), 1, components=3
        ),
        (3, 2, 2),
    ),
    "spline": Case(lambda: spline(5), (5,)),
    "spline-one-column": Case(lambda: spline(1, 2), (1,), 2),
    "spline-image": Case(
        lambda: SplineCoupling(
            CheckerboardMask(), ResNet(2, 8 * 2, hidden=4, blocks=1), 2, components=3
        ),
        (2, 3, 4),
    ),
    "circular-spline": Case(lambda: circular(3), (3,), unit_interval=True),
    "circular-spline-one-angle": Case(lambda: circular(1, 2), (1,), 2, unit_interval=True),
    "circles-first": Case(
        lambda: CirclesFirst([1], 4, circular(1, 2), affine_vector(True, 3, 4)),
        (4,),
        2,
        unit_interval=True,
        identity=False,
    ),
    "domains": Case(
        lambda: DomainMap([("interval", -1, 2), ("halfline", -0.5), None, ("circle", 0, 4)]),
        (4,),
        unit_interval=True,
        identity=False,
    ),
    "encoded-condition": Case(encoded_condition, (3,), 2),
    "mixture-checkerboard": Case(lambda: mixture(CheckerboardMask(), 1), (1, 3, 4)),
    "mixture-channel": Case(lambda: mixture(ChannelMask(True), 3), (3, 2, 2)),
    "linear": Case(lambda: InvertibleLinear(4), (4,)),
    "linear-image": Case(lambda: InvertibleLinear(3), (3, 2, 4)),
    "running-batch-norm": Case(lambda: RunningBatchNorm(3), (3, 4, 2)),
    "running-batch-norm-vector": Case(lambda: RunningBatchNorm(4), (4,)),
    "actnorm": Case(lambda: ActNorm(3), (3, 4, 2)),
    "actnorm-vector": Case(lambda: ActNorm(4), (4,)),
    "squeeze": Case(Squeeze, (2, 4, 6), identity=False),
    "squeeze-checkerboard": Case(lambda: Squeeze("checkerboard"), (2, 4, 6), identity=False),
    "unsqueeze": Case(lambda: Inverse(Squeeze("checkerboard")), (8, 2, 3), identity=False),
    "factor-out": Case(lambda: FactorOut(affine(CheckerboardMask(), 2)), (3, 4, 4)),
    "factor-out-channels": Case(
        lambda: FactorOut(affine(CheckerboardMask(), 1), channels=1), (4, 2, 4)
    ),
    "flatten": Case(lambda: Flatten((2, 3, 2)), (2, 3, 2), identity=False),
    "squeeze-coarse": Case(lambda: Squeeze("coarse"), (2, 4, 6), identity=False),
    "refine": Case(
        lambda: Refine(
            ImageFeatures(2, 4, blocks=1, condition_dim=2),
            affine(BlockMask(2, 3), 3, context_channels=4),
            channels=2,
        ),
        (5, 2, 3),
        2,
    ),
    "average": Case(
        lambda: Average(*(gaussian_mixture(1, 2) for _ in range(3))), (1,), 2, identity=False
    ),
    "categories-first": Case(categories_first, (4,), identity=False),
    "categories-first-conditional": Case(lambda: categories_first(2), (4,), 2, identity=False),
    "class-means": Case(lambda: ClassMeans(3, (2, 2, 3)), (2, 2, 3), 3, identity=False),
    "logit": Case(lambda: Logit(0.05), (2, 3, 3), unit_interval=True, identity=False),
    "standardization": Case(
        lambda: Affine(torch.randn(3), torch.rand(3) + 1), (3,), identity=False
    ),
    "gaussian-start": Case(lambda: rosenblatt(1, 4), (4,), identity=False),
    "mixture-start": Case(lambda: rosenblatt(3, 4), (4,), identity=False),
    "gaussian-start-conditional": Case(lambda: rosenblatt(1, 3, 2), (3,), 2, identity=False),
    "mixture-start-conditional": Case(lambda: rosenblatt(3, 3, 2), (3,), 2, identity=False),
    "gaussian-start-classes": Case(lambda: rosenblatt(1, 3, classes=4), (3,), 4, identity=False),
    "mixture-start-classes": Case(lambda: rosenblatt(2, 3, classes=4), (3,), 4, identity=False),
    "chain": Case(lambda: Chain(affine_vector(False, 3), ActNorm(3), affine_vector(True, 3)), (3,)),
    "inverse": Case(lambda: Inverse(affine_vector(False, 4)), (4,)),
    "image-flow": Case(lambda: image_body(scales=2), (2, 4, 8), unit_interval=True, identity=False),
    "image-flow-3": Case(
        lambda: image_body(scales=3, norm="act", conditioner_norm="instance"),
        (2, 4, 8),
        unit_interval=True,
        identity=False,
    ),
    "image-flow-glow": Case(
        lambda: image_body(architecture="glow", steps=2, scales=2, norm="act", split_prior=True),
        (2, 4, 8),
        unit_interval=True,
        identity=False,
    ),
    "image-flow-coarse-to-fine": Case(
        lambda: image_body(architecture="coarse_to_fine", steps=[4, 2], scales=2, norm="act"),
        (2, 4, 8),
        unit_interval=True,
        identity=False,
    ),
    "image-flow-mixture": Case(
        lambda: image_body(coupling="logistic_mixture", split_prior=True, components=2),
        (2, 4, 8),
        unit_interval=True,
        identity=False,
    ),
    "image-flow-gated": Case(
        lambda: image_body(block="gated", patch=2, norm="act", linear=True),
        (2, 4, 8),
        unit_interval=True,
        identity=False,
    ),
    "vector-flow": Case(lambda: vector_flow(3, coupling="affine", hidden=8).bijection, (3,)),
    "vector-flow-mixture": Case(
        lambda: (
            vector_flow(
                3, coupling="gaussian_mixture", couplings=2, norm="none", hidden=8
            ).bijection
        ),
        (3,),
        identity=False,
    ),
    "image-flow-gaussians": Case(
        lambda: image_body(coupling="gaussian_mixture", components=2),
        (2, 4, 8),
        unit_interval=True,
        identity=False,
    ),
    "vector-flow-logistics": Case(
        lambda: vector_flow(3, coupling="logistic_mixture", couplings=2, hidden=8).bijection, (3,)
    ),
    "vector-flow-conditional": Case(
        lambda: (
            vector_flow(2, coupling="affine", condition_dim=2, norm="batch", hidden=8).bijection
        ),
        (2,),
        2,
    ),
}
