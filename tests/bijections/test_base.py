"""Every bijection of the table keeps the contract; chains and their checks."""

from __future__ import annotations

import pytest
import torch

from helpers.bijections import BIJECTIONS, Case, affine
from realnvp import Chain
from realnvp.bijections import (
    ActNorm,
    Affine,
    Bijection,
    ChannelMask,
    InvertibleLinear,
    Rosenblatt,
    RunningBatchNorm,
)


def jacobian_log_det(function, x, condition):
    """log |det J| of each example by autograd, the slow and certain way."""
    result = []
    for i in range(len(x)):
        c = None if condition is None else condition[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(
            lambda v, c=c: function(v, c)[0].flatten(), x[i : i + 1]
        )
        result.append(torch.linalg.slogdet(jacobian.reshape(x[i].numel(), -1)).logabsdet)
    return torch.stack(result)


def test_round_trip(case: Case):
    layer, (x, condition) = case.build(), case.inputs()
    z, forward = layer(x, condition)
    back, inverse = layer.inverse(z, condition)
    assert z.shape == x.shape or "queeze" in repr(layer) or "Flatten" in repr(layer)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(inverse, -forward, rtol=1e-9, atol=1e-9)


def test_log_det_is_that_of_the_jacobian(case: Case):
    layer, (x, condition) = case.build(), case.inputs()
    z, log_det = layer(x, condition)
    torch.testing.assert_close(log_det, jacobian_log_det(layer, x, condition), rtol=1e-8, atol=1e-8)
    _, log_det = layer.inverse(z.detach(), condition)
    torch.testing.assert_close(
        log_det, jacobian_log_det(layer.inverse, z.detach(), condition), rtol=1e-8, atol=1e-8
    )


def test_narrow_far_components_cost_no_precision():
    """The sums over the columns before each must not cancel."""
    factors = torch.stack((torch.eye(2), torch.diag(torch.tensor([1.0, 1e-4]))))
    layer = Rosenblatt(torch.tensor([[0.0, 0.0], [0.0, 3.0]]), factors)
    x = torch.tensor([[0.1, 0.2], [-1.0, 0.5], [0.3, -0.7]])
    z, log_det = layer(x)
    exact = layer.double()(x.double())
    torch.testing.assert_close(z.double(), exact[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(log_det.double(), exact[1], atol=1e-4, rtol=1e-4)


def test_random_weights_are_not_the_identity(case: Case):
    """Otherwise the tests above would say little."""
    layer, (x, condition) = case.build(), case.inputs()
    z, _ = layer(x, condition)
    assert z.shape != x.shape or (z - x).abs().max() > 0.05


def test_log_det_has_one_number_per_example(case: Case):
    layer, (x, condition) = case.build().float(), case.inputs(batch=2)
    condition = None if condition is None else condition.float()
    z, log_det = layer(x.float(), condition)
    assert log_det.shape == (2,)
    assert log_det.dtype == torch.float32
    assert layer.inverse(z, condition)[1].shape == (2,)


def test_terms_add_up(case: Case):
    layer, (x, condition) = case.build(), case.inputs()
    z, log_det = layer(x, condition)
    z_terms, terms = layer.forward_terms(x, condition)
    torch.testing.assert_close(z_terms, z)
    torch.testing.assert_close(sum(terms.values()), log_det)
    assert set(terms) <= {"coupling", "norm", "preprocessing"}


@pytest.mark.parametrize("name", [name for name, case in BIJECTIONS.items() if case.identity])
def test_starts_as_the_identity(name: str):
    case = BIJECTIONS[name]
    x, condition = case.inputs()
    z, log_det = case.make().double().eval()(x, condition)
    torch.testing.assert_close(z, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_det, torch.zeros_like(log_det), rtol=0, atol=1e-9)


def test_state_dict_round_trip(case: Case):
    layer, (x, condition) = case.build(), case.inputs()
    torch.manual_seed(5)
    other = case.make().double()
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other.eval()(x, condition), layer(x, condition), rtol=0, atol=0)


def test_gradients_reach_every_parameter(case: Case):
    layer, (x, condition) = case.build(), case.inputs()
    z, log_det = layer(x.requires_grad_(), condition)
    (z.square().sum() + log_det.sum()).backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_chain_refuses_what_is_no_bijection():
    with pytest.raises(ValueError, match="Linear"):
        Chain(torch.nn.Linear(1, 1))  # type: ignore[arg-type]


def test_good_values_pass(case: Case):
    for layer in case.build().modules():
        if isinstance(layer, Bijection):
            layer.check_values()


@pytest.mark.parametrize(
    ("make", "tensor", "value"),
    [
        (lambda: Affine(torch.zeros(2)), "scale", 0.0),
        (lambda: Affine(torch.zeros(2)), "scale", -1.0),
        (lambda: Affine(torch.zeros(2)), "scale", 1e-45),
        (lambda: RunningBatchNorm(2), "running_var", -1.0),
        (lambda: ActNorm(2), "log_scale", -100.0),
        (lambda: ActNorm(2), "log_scale", 100.0),
        (lambda: InvertibleLinear(2), "log_diagonal", 1e4),
        (lambda: affine(ChannelMask(), 2), "scale", 1e3),
    ],
)
def test_values_that_are_no_bijection_are_refused(make, tensor: str, value: float):
    layer = make()
    with torch.no_grad():
        getattr(layer, tensor)[0] = value
    with pytest.raises(ValueError, match=tensor):
        layer.check_values()


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_first_and_second_derivatives_are_right(case: Case, direction: str):
    """Of the value and of the log-determinant, against finite differences along random lines."""
    layer, (x, condition) = case.build(), case.inputs(batch=2)
    if direction == "inverse":
        x = layer(x, condition)[0].detach()

    def compute(v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        value, log_det = (
            layer(v, condition) if direction == "forward" else layer.inverse(v, condition)
        )
        # Where it is constant, as of a linear map, it has no gradient: give it one that is zero.
        return value, log_det + 0 * v.sum()

    x.requires_grad_()
    assert torch.autograd.gradcheck(compute, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(compute, x, fast_mode=True)


@pytest.mark.parametrize("value", [0, torch.zeros(()), torch.zeros(3, 1)])
def test_a_log_determinant_that_is_not_one_number_per_example(value):
    class Same(Bijection):
        def forward(self, x, condition=None):
            return x, value

        def inverse(self, z, condition=None):
            return z, value

    for call in (Chain(Same()), Chain(Same()).inverse, Chain(Same()).forward_terms):
        with pytest.raises(ValueError, match=r"\(Same\) returned .* not a tensor of shape \(3,\)"):
            call(torch.zeros(3, 2))
