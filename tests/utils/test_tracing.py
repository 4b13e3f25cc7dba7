"""Transforms of ``torch.func``."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, vmap

import realnvp
from helpers.bijections import randomize
from realnvp import Flow

pytestmark = [  # of PyTorch's own: of a slow batching rule, and of torch.jit inside of torch.func
    pytest.mark.filterwarnings("ignore:There is a performance drop"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]


def flow_of(kind: str) -> tuple[Flow, torch.Tensor]:
    """Return a flow with random weights, and examples."""
    torch.manual_seed(0)
    flow = realnvp.vector_flow(3, coupling=kind, couplings=2, hidden=8)
    return flow.double().eval(), torch.randn(4, 3).double()


@pytest.mark.parametrize("kind", ["gaussian_mixture", "affine", "piecewise_linear"])
def test_transforms_of_a_density(kind):
    flow, x = flow_of(kind)
    randomize(flow)

    def one(row):
        return flow.log_prob(row[None])[0]

    with torch.no_grad():
        torch.testing.assert_close(vmap(one)(x), flow.log_prob(x))
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(flow.log_prob(leaf).sum(), leaf, create_graph=True)
    torch.testing.assert_close(vmap(grad(one))(x), slope.detach())
    torch.testing.assert_close(vmap(jacfwd(one))(x), slope.detach())
    second = torch.stack([
        torch.autograd.grad(slope[:, j].sum(), leaf, retain_graph=True)[0] for j in range(3)
    ], 1)  # fmt: skip
    torch.testing.assert_close(vmap(hessian(one))(x), second)


def test_the_jacobian_gives_the_log_determinant():
    flow, x = flow_of("gaussian_mixture")
    randomize(flow)
    jacobian = jacrev(lambda row: flow.encode(row[None])[0])(x[0])
    prior = flow.log_prior(flow.encode(x[:1]))
    torch.testing.assert_close(flow.log_prob(x[:1]), prior + jacobian.det().abs().log())


@pytest.mark.parametrize(
    "kind", ["gaussian_mixture", "logistic_mixture", "affine", "piecewise_linear"]
)
def test_transforms_of_what_is_decoded(kind):
    flow, z = flow_of(kind)
    randomize(flow)

    def one(latents):
        return flow.decode(latents[None])[0]

    def total(latents):
        return one(latents).sum()

    with torch.no_grad():
        torch.testing.assert_close(vmap(one)(z), flow.decode(z))
    jacobian = torch.stack([torch.autograd.functional.jacobian(one, row) for row in z])
    torch.testing.assert_close(vmap(jacrev(one))(z), jacobian)
    second = torch.stack([torch.autograd.functional.hessian(total, row) for row in z])
    if "mixture" not in kind or not torch.__version__.startswith("2.9."):
        # PyTorch 2.9 raises an error for batches of forward derivatives of a root that is searched.
        torch.testing.assert_close(vmap(jacfwd(one))(z), jacobian)
        torch.testing.assert_close(vmap(hessian(total))(z), second)
    third = torch.autograd.functional.jacobian(
        lambda row: torch.autograd.functional.hessian(total, row, create_graph=True), z[0]
    )
    torch.testing.assert_close(jacrev(hessian(total))(z[0]), third)


def test_gradients_of_samples_of_each_example():
    flow, z = flow_of("gaussian_mixture")
    weights = {name: p.detach() for name, p in flow.named_parameters()}

    class Decoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.flow = flow

        def forward(self, latents):
            return self.flow.decode(latents)

    def loss(weights, row):
        named = {f"flow.{name}": weight for name, weight in weights.items()}
        return functional_call(Decoder(), named, (row[None],)).sum()

    each = vmap(grad(loss), (None, 0))(weights, z)
    flow.decode(z).sum().backward()
    for name, parameter in flow.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(each[name].sum(0), parameter.grad)


def test_gradients_of_each_example():
    flow, x = flow_of("gaussian_mixture")
    weights = {name: p.detach() for name, p in flow.named_parameters()}

    def loss(weights, row):
        return functional_call(flow, weights, (row[None],)).sum()

    each = vmap(grad(loss), (None, 0))(weights, x)
    flow.log_prob(x).sum().backward()
    for name, parameter in flow.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(each[name].sum(0), parameter.grad)


def test_densities_of_images_with_their_noise():
    torch.manual_seed(0)
    flow = realnvp.image_flow((1, 4, 4), hidden=4, blocks=1, scales=2, levels=17).eval()
    randomize(flow)
    x, noise = torch.randint(0, 17, (3, 1, 4, 4)), torch.rand(3, 1, 4, 4)
    with torch.no_grad():
        found = vmap(lambda x, u: flow.log_prob(x[None], noise=u[None])[0])(x, noise)
        torch.testing.assert_close(found, flow.log_prob(x, noise=noise))
