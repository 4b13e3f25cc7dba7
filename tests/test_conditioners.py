"""Networks of the couplings: they start at zero, see their condition, and keep their types."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers.bijections import randomize
from realnvp.builders import image_flow
from realnvp.conditioners import (
    MLP,
    BatchNorm2d,
    ColumnMLPs,
    Conditioner,
    ImageFeatures,
    ResNet,
    WeightNormConv2d,
)
from realnvp.utils.registry import CONDITIONERS

NETWORKS = {
    "mlp": (lambda **k: MLP(3, 4, hidden=8, blocks=2, **k), (3,), (4,)),
    "columns": (lambda **k: ColumnMLPs(3, 6, hidden=8, blocks=2, **k), (3,), (6,)),
    "resnet": (lambda **k: ResNet(3, 4, hidden=8, blocks=2, **k), (3, 4, 6), (4, 4, 6)),
    "instance": (
        lambda **k: ResNet(3, 4, hidden=8, blocks=1, norm="instance", **k), (3, 4, 6), (4, 4, 6)
    ),
    "gated": (
        lambda **k: ResNet(3, 4, hidden=8, blocks=1, norm="none", block="gated", **k),
        (3, 4, 6),
        (4, 4, 6),
    ),
    "patches": (
        lambda **k: ResNet(3, 4, hidden=8, blocks=1, patch=2, **k), (3, 4, 6), (4, 4, 6)
    ),
}  # fmt: skip


@pytest.fixture(params=NETWORKS)
def network(request):
    return NETWORKS[request.param]


@pytest.mark.parametrize("condition_dim", [0, 5])
def test_parameters_start_at_zero_and_every_weight_learns(network, condition_dim):
    make, shape, outputs = network
    net = make(condition_dim=condition_dim)
    x = torch.randn(2, *shape)
    condition = torch.randn(2, condition_dim) if condition_dim else None
    assert torch.equal(net(x, condition), torch.zeros(2, *outputs))
    randomize(net)
    out = net(x, condition)
    assert out.shape == (2, *outputs)
    out.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_a_condition_matters_to_its_own_example_only(network):
    make, shape, _ = network
    net = randomize(make(condition_dim=5)).eval()
    x, condition = torch.randn(2, *shape), torch.randn(2, 5)
    before = net(x, condition)
    condition[1] += 1
    after = net(x, condition)
    torch.testing.assert_close(after[0], before[0])
    assert not torch.allclose(after[1], before[1])


def test_the_last_layer_computes_in_the_type_of_the_input(network):
    make, shape, _ = network
    net = randomize(make()).eval()
    x = torch.randn(2, *shape)
    exact = net(x)
    net.compute_dtype = torch.bfloat16
    rough = net(x)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0.1, atol=0.1)


def plain_resnet(net: ResNet, x, condition):
    """Compute what a ResNet does, every step with memory of its own."""
    h = net.first(F.pixel_unshuffle(x, net.patch))
    biases = [None] * len(net.blocks)
    if net.embed is not None:
        *biases, own = net.embed(condition).chunk(len(net.blocks) + 1, dim=1)
        h = h + own[:, :, None, None]
    for block, bias in zip(net.blocks, biases, strict=True):
        change = block.conv1(torch.relu(block.norm1(h)))
        if bias is not None:
            change = change + bias[:, :, None, None]
        change = block.conv2(torch.relu(block.norm2(change)))
        if block.gated:
            change, gate = change.chunk(2, dim=1)
            change = change * torch.sigmoid(gate)
        h = h + change
    return F.pixel_shuffle(net.last(torch.relu(net.norm(h))), net.patch)


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("block", ["residual", "gated"])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("training", [True, False])
def test_values_and_gradients_are_those_of_a_network_that_overwrites_nothing(
    patch, block, norm, training
):
    options = {"hidden": 8, "blocks": 2, "norm": norm, "block": block, "patch": patch}
    net = randomize(ResNet(3, 4, condition_dim=5, **options).double()).train(training)
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    before, condition = x.detach().clone(), torch.randn(2, 5, dtype=torch.float64)
    wanted = [x, *net.parameters()]
    found, plain = net(x, condition), plain_resnet(net, x, condition)
    torch.testing.assert_close(found, plain)
    grads = [torch.autograd.grad(y.sin().sum(), wanted) for y in (found, plain)]
    torch.testing.assert_close(*grads)
    assert torch.equal(x, before)


def test_parameters_of_a_column_see_the_columns_before_it_alone():
    nets = randomize(ColumnMLPs(3, 6, hidden=8, blocks=1, condition_dim=1)).double()
    x, condition = torch.randn(3, dtype=torch.float64), torch.randn(1, 1, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: nets(v[None], condition)[0], x)
    seen = jacobian.view(2, 3, 3).abs().sum(0) > 0  # parameters, columns, inputs
    assert torch.equal(seen, torch.ones(3, 3).tril(-1) > 0)
    everything = nets(x[None], condition).view(2, 3)
    for i in range(3):
        torch.testing.assert_close(nets(x[None], condition, column=i)[0], everything[:, i])


def test_dropped_units_are_a_function_of_what_a_network_sees():
    sizes = {"hidden": 64, "blocks": 1, "networks": 2}
    nets = randomize(ColumnMLPs(3, 6, dropout=0.25, **sizes)).eval()
    x = torch.randn(400, 3)
    whole = nets(x)
    nets.train()
    dropped = nets(x)
    assert torch.equal(nets(x), dropped)
    assert not torch.allclose(nets(x.flip(0)).flip(0), dropped)
    ones = torch.ones(6, 64, 400)
    kept = nets._dropped(ones)
    torch.testing.assert_close(kept.unique(), torch.tensor([0.0, 4 / 3]))
    assert abs(kept.mean() - 1) < 0.01  # 0.0015 is a standard deviation
    assert torch.equal(nets.eval()(x), whole)


def test_matrices_are_all_weights_but_the_last(network):
    net = network[0]()
    chosen = {id(parameter) for parameter in net.matrices()}
    assert chosen
    for name, parameter in net.named_parameters():
        wide = parameter.ndim > 1 and not name.endswith("length")
        assert (id(parameter) in chosen) == (wide and not name.startswith(("last", "embed"))), name


def test_an_image_joins_the_input():
    net = randomize(ResNet(2, 4, 8, 1, "none", context_channels=3))
    x, context = torch.randn(2, 2, 4, 4), torch.randn(2, 3, 4, 4)
    assert not torch.allclose(net(x, context), net(x, 0 * context))


def test_weight_norm_sets_the_length_of_every_kernel():
    layer = WeightNormConv2d(3, 5)
    plain = nn.functional.conv2d(torch.ones(1, 3, 4, 4), layer.direction, layer.bias, padding=1)
    torch.testing.assert_close(layer(torch.ones(1, 3, 4, 4)), plain)  # it starts as it was
    with torch.no_grad():
        layer.direction *= 7
    torch.testing.assert_close(layer(torch.ones(1, 3, 4, 4)), plain)
    with torch.no_grad():
        layer.direction[2] = 0
    with pytest.raises(ValueError, match="no direction"):
        layer.check_values()


def test_batch_norm_is_that_of_pytorch_in_one_process():
    torch.manual_seed(0)
    ours, theirs = BatchNorm2d(3), nn.BatchNorm2d(3)
    for _ in range(3):
        x = torch.randn(4, 3, 5, 5) * 2 + 1
        torch.testing.assert_close(ours(x), theirs(x))
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(dict(ours.named_buffers())[name], buffer)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_frozen_batch_norm_normalizes_by_its_running_averages():
    layer = BatchNorm2d(3)
    layer(torch.randn(4, 3, 5, 5) * 2 + 1)
    layer.frozen = True
    layer.train()
    before = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    x = torch.randn(2, 3, 5, 5)
    mean, var = (before[name][:, None, None] for name in ("running_mean", "running_var"))
    torch.testing.assert_close(layer(x), (x - mean) / (var + layer.eps).sqrt())
    for name, buffer in layer.named_buffers():
        assert torch.equal(buffer, before[name])


def test_features_of_an_image_do_not_start_at_zero():
    assert ImageFeatures(1, 8, blocks=1)(torch.rand(2, 1, 4, 4)).abs().min() > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNet(1, 2, 4, 1, norm="layer"), "conditioner_norm"),
        (lambda: ResNet(1, 2, 4, 1, block="dense"), "residual"),
    ],
)
def test_unknown_parts_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", list(CONDITIONERS))
def test_registered_conditioners_are_conditioners(name):
    assert issubclass(CONDITIONERS[name], Conditioner)


def test_a_batch_without_statistics_is_refused():
    flow = image_flow((3, 1, 1), levels=256, scales=1, hidden=4, blocks=1, norm="act")
    flow.train()
    with pytest.raises(ValueError, match='use larger batches, or conditioner_norm "none"'):
        flow.loss_terms(torch.zeros(1, 3, 1, 1, dtype=torch.uint8))
    flow.loss_terms(torch.zeros(2, 3, 1, 1, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("net", "x", "condition"),
    [
        (MLP(1, 2, 8, 1, condition_dim=2), torch.zeros(5, 1), torch.zeros(5, 3)),
        (MLP(1, 2, 8, 1, condition_dim=2), torch.zeros(5, 1), None),
        (MLP(1, 2, 8, 1), torch.zeros(5, 2), None),
        (MLP(3, 2, 8, 1), torch.zeros(5, 3, 4, 4), None),
        (ResNet(3, 2, 8, 1, condition_dim=2), torch.zeros(5, 3, 4, 4), torch.zeros(5, 3)),
        (ResNet(3, 2, 8, 1, condition_dim=2), torch.zeros(5, 3, 4, 4), None),
        (ResNet(3, 2, 8, 1, context_channels=2), torch.zeros(5, 3, 4, 4), None),
        (ResNet(3, 2, 8, 1), torch.zeros(5, 2, 4, 4), None),
        (ResNet(3, 2, 8, 1), torch.zeros(5, 3), None),
    ],
)
def test_inputs_of_other_sizes_are_refused_in_words(net, x, condition):
    with pytest.raises(ValueError, match=r"this (MLP|ResNet) was made for .* and a condition of"):
        net(x, condition)
