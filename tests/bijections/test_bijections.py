"""Every bijection of the table keeps the contract; then what is particular to each."""

from __future__ import annotations

import math

import pytest
import torch

from helpers.bijections import BIJECTIONS, Case, affine
from realnvp import Chain
from realnvp.bijections import (
    ActNorm,
    Affine,
    Bijection,
    ChannelMask,
    CheckerboardMask,
    Dequantize,
    DequantizeColumns,
    FactorOut,
    GaussianMixtureCoupling,
    Inverse,
    InvertibleLinear,
    Logit,
    Rosenblatt,
    RunningBatchNorm,
    Squeeze,
)
from realnvp.conditioners import MLP


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
    assert z.shape == x.shape or "queeze" in repr(layer)
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


@pytest.mark.parametrize("components", [1, 2, 3, 4, 5, 6, 8, 16])
def test_mixtures_start_near_the_identity_with_all_components(components: int):
    layer = GaussianMixtureCoupling(
        ChannelMask(), MLP(1, 3 * components, hidden=4, blocks=1), 1, components=components
    )
    x = torch.stack((torch.zeros(401), torch.linspace(-2, 2, 401)), dim=1)
    z, log_det = layer(x)
    assert (z - x).abs().max() < 0.05
    (0.5 * z.square().sum() - log_det.sum()).backward()
    grads = layer.conditioner.last.bias.grad.view(3, components)
    assert (grads[1:].abs().amax(1) > 0).all()
    if components > 1:
        weights = layer.start[0].softmax(0)
        assert weights.min() > 1e-4, "no component is dead from the start"


# ---------------------------------------------------------------------- dequantization and logit


def test_dequantize_stays_in_its_level_and_inverts():
    x = torch.arange(256, dtype=torch.uint8).repeat(100, 1)
    layer = Dequantize(256)
    v, log_det = layer(x)
    assert (torch.floor(v.double() * 256 + 1e-4) >= x).all()
    assert v.max() <= 1
    torch.testing.assert_close(log_det, torch.full((100,), -256 * math.log(256)))
    assert torch.equal(layer.inverse(layer(x, margin=0.02)[0])[0], x)


def test_dequantize_repeats_with_a_generator():
    layer, x = Dequantize(4), torch.zeros(2, 5, dtype=torch.uint8)
    draws = []
    for _ in range(2):
        draws.append(layer(x, noise=torch.Generator().manual_seed(3))[0])
    assert torch.equal(*draws)


@pytest.mark.parametrize(("levels", "message"), [(1, "at least 2"), (2**16 + 1, "at most 65536")])
def test_dequantize_refuses_levels(levels: int, message: str):
    with pytest.raises(ValueError, match=message):
        Dequantize(levels)


def test_differs_sees_nan_and_the_integer_columns_only():
    layer = Dequantize(4)
    x = torch.tensor([[0, 3]])
    assert layer.differs(x, torch.tensor([[math.nan, 0.9]])).tolist() == [[True, False]]
    columns = DequantizeColumns([1], dim=2)
    values = torch.tensor([[0.5, 3.0]])
    assert not columns.differs(values, torch.tensor([[0.7, 3.9]])).any()
    assert columns.differs(values, torch.tensor([[0.5, 4.0]])).tolist() == [[False, True]]


def test_logit_is_finite_at_both_ends():
    """(255 + u) / 256 rounds to 1.0 in float32: the value and the slope must stay finite there."""
    v = torch.tensor([[0.0, 1.0, (255 + (1 - 2**-24)) / 256]], requires_grad=True)
    y, log_det = Logit(0.05)(v)
    log_det.sum().backward()
    assert torch.isfinite(y).all()
    assert torch.isfinite(log_det).all()
    assert torch.isfinite(v.grad).all()


@pytest.mark.parametrize("alpha", [0.0, 0.5, -1.0])
def test_logit_refuses_a_bad_alpha(alpha: float):
    with pytest.raises(ValueError, match="alpha"):
        Logit(alpha)


# ---------------------------------------------------------------------- masks


def test_checkerboard_counts_active_squares_only():
    layer = affine(CheckerboardMask(), 1)
    torch.nn.init.constant_(layer.conditioner.last.bias, 100.0)  # tanh = 1 everywhere
    _, log_det = layer.eval()(torch.zeros(2, 1, 3, 3))
    torch.testing.assert_close(log_det, torch.full((2,), 4.0))  # 4 of 9 squares, scale 1 each


def test_checkerboard_leaves_passive_squares_alone():
    layer = affine(CheckerboardMask(True), 1)
    torch.nn.init.normal_(layer.conditioner.last.weight)
    x = torch.randn(2, 1, 4, 4)
    changed = layer.eval()(x)[0] != x
    odd = (torch.arange(4)[:, None] + torch.arange(4)) % 2 == 1
    assert not changed[:, :, odd].any()
    assert changed[:, :, ~odd].all()


def test_scale_is_bounded_smoothly():
    layer = affine(CheckerboardMask(), 1)
    torch.nn.init.constant_(layer.conditioner.last.bias, 1e4)
    log_scale, _ = layer._scale_shift(layer.conditioner(torch.zeros(1, 1, 2, 2)))
    assert log_scale.abs().max() <= layer.scale.abs().max()
    assert layer.penalty().item() == pytest.approx(1.0)


# ---------------------------------------------------------------------- norms


def test_running_batch_norm_follows_its_formula():
    layer = RunningBatchNorm(2, momentum=0.25)
    first, second = torch.randn(64, 2, 3, 3), 3 * torch.randn(64, 2, 3, 3) + 1
    layer(first)
    torch.testing.assert_close(layer.running_mean, first.mean((0, 2, 3)))
    torch.testing.assert_close(layer.running_var, first.var((0, 2, 3), correction=0))
    z, log_det = layer(second)
    mean = 0.75 * first.mean((0, 2, 3)) + 0.25 * second.mean((0, 2, 3))
    var = 0.75 * first.var((0, 2, 3), correction=0) + 0.25 * second.var((0, 2, 3), correction=0)
    torch.testing.assert_close(layer.running_mean, mean)
    torch.testing.assert_close(layer.running_var, var)
    expected = (second - mean[:, None, None]) / (var[:, None, None] + layer.eps).sqrt()
    torch.testing.assert_close(z, expected)
    torch.testing.assert_close(log_det, (-0.5 * 9 * (var + layer.eps).log().sum()).expand(64))


def test_running_batch_norm_has_gradients_through_the_batch_part_only():
    layer = RunningBatchNorm(1, momentum=0.25).double()
    layer(torch.randn(8, 1, dtype=torch.float64))
    state = {name: value.clone() for name, value in layer.state_dict().items()}

    def loss(x, frozen_mean, frozen_var):
        mean = 0.75 * frozen_mean + 0.25 * x.mean()
        var = 0.75 * frozen_var + 0.25 * x.var(correction=0)
        return (((x - mean) / (var + layer.eps).sqrt()) ** 3).sum() - 4 * (var + layer.eps).log()

    x = torch.randn(8, 1, dtype=torch.float64, requires_grad=True)
    z, log_det = layer(x)
    ((z**3).sum() + log_det.sum()).backward()
    y = x.detach().clone().requires_grad_()
    loss(y, state["running_mean"], state["running_var"]).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_running_batch_norm_evaluation_moves_nothing():
    layer = RunningBatchNorm(2)
    layer(torch.randn(16, 2))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.eval()(torch.randn(16, 2) + 10)
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


def test_running_batch_norm_has_no_inverse_while_training():
    with pytest.raises(RuntimeError, match="eval"):
        RunningBatchNorm(2).inverse(torch.zeros(1, 2))


def test_actnorm_initializes_from_data_only():
    layer = ActNorm(2)
    layer.inverse(torch.randn(8, 2))
    layer.eval()(torch.randn(8, 2) + 5)
    assert not layer.initialized
    x = torch.stack((5 + 2 * torch.randn(100), torch.full((100,), 3.0)), dim=1)
    z, _ = layer.train()(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    assert z[:, 0].std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert layer.log_scale[1].item() == pytest.approx(math.log(1e-3))  # a constant column
    state = layer.state_dict()
    other = ActNorm(2)
    other.load_state_dict(state)
    other(torch.randn(8, 2))  # initialized before: must not do so again
    assert torch.equal(other.shift, layer.shift)


# ---------------------------------------------------------------------- reshaping


def test_squeeze_checkerboard_separates_the_squares():
    board = CheckerboardMask()._passive(torch.zeros(1, 1, 4, 4)).expand(1, 3, 4, 4)
    squeezed, _ = Squeeze("checkerboard")(board)
    assert squeezed[:, :6].eq(1).all()
    assert squeezed[:, 6:].eq(0).all()


def test_squeeze_errors():
    with pytest.raises(ValueError, match="even"):
        Squeeze()(torch.zeros(1, 1, 3, 4))
    with pytest.raises(ValueError, match="multiple of 4"):
        Squeeze().inverse(torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="checkerboard"):
        Squeeze("diagonal")  # type: ignore[arg-type]


def test_factor_out_leaves_the_first_half_alone():
    layer = FactorOut(Inverse(Logit(0.05)))
    x = torch.randn(2, 4, 2, 2)
    z, _ = layer(x)
    assert torch.equal(z[:, :2], x[:, :2])
    assert not torch.equal(z[:, 2:], x[:, 2:])


def test_scale_labels_follow_the_entries():
    labels = torch.zeros(1, 1, 4, 4, dtype=torch.int64)
    inner = Chain(Squeeze("checkerboard"), FactorOut(Chain()), Inverse(Squeeze("checkerboard")))
    chain = Chain(Squeeze("checkerboard"), FactorOut(inner), Inverse(Squeeze("checkerboard")))
    scales = chain.permute_index(labels)
    assert torch.bincount(scales.flatten()).tolist() == [8, 4, 4]
    assert torch.equal(chain.unpermute_index(scales), labels)


def test_chain_refuses_what_is_no_bijection():
    with pytest.raises(ValueError, match="Linear"):
        Chain(torch.nn.Linear(1, 1))  # type: ignore[arg-type]


# ---------------------------------------------------------------------- values of a stranger's file


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


# ---------------------------------------------------------------------- derivatives


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
