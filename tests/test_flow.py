"""The flow's density, samples and saved form; the builders' shapes and errors."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.distributions import Normal

import realnvp
from helpers.bijections import randomize
from helpers.flows import UniformToNormal, small_image_flow, small_images
from realnvp import MLP, Bijection, Chain, Flow, image_flow, vector_flow
from realnvp.bijections import (
    ActNorm,
    AffineCoupling,
    ChannelMask,
    ClassMeans,
    Dequantize,
    FactorOut,
    Logit,
    Rosenblatt,
)
from realnvp.data import Split
from realnvp.evaluation import log_likelihoods


def test_repr_has_a_line_for_each_layer():
    flow = image_flow((1, 8, 8), hidden=4, blocks=1, scales=2, classes=3)
    lines = repr(flow).splitlines()
    assert lines[0] == "Flow(shape=(1, 8, 8), levels=256, classes=3)"
    names = [line.split()[0] for line in lines[2:-1]]
    assert "bijection.layers.17.inner.layers.0" in names
    kinds = {name: type(module).__name__ for name, module in flow.named_modules()}
    for name, line in zip(names, lines[2:], strict=False):
        assert line.removeprefix(name).strip().startswith(kinds[name])
    counts = [int(line.split()[-1].replace(",", "")) for line in lines[2:]]
    assert sum(counts[:-1]) == counts[-1] == sum(p.numel() for p in flow.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_types_are_refused(dtype):
    flow = small_image_flow().to(dtype)
    for call in (flow.log_prob, flow.loss_terms, flow.encode):
        with pytest.raises(ValueError, match="set_compute_dtype"):
            call(small_images())
    with pytest.raises(ValueError, match="set_compute_dtype"):
        flow.sample(1)
    with pytest.raises(ValueError, match="set_compute_dtype"):
        flow.decode(torch.zeros(1, 1, 8, 8, dtype=dtype))


@pytest.mark.parametrize("norm", ["act", "batch"])
def test_densities_rewrite_nothing(norm: str):
    """Only loss_terms trains; asked for a density before, the flow says so once."""
    flow = image_flow((1, 4, 4), hidden=4, blocks=1, norm=norm).train()
    x = torch.randint(0, 256, (5, 1, 4, 4), dtype=torch.uint8)

    def state() -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in flow.state_dict().items()}

    def assert_unchanged(before: dict[str, torch.Tensor]) -> None:
        assert flow.training
        for name, tensor in flow.state_dict().items():
            assert torch.equal(tensor, before[name]), name

    fresh = state()
    with pytest.warns(UserWarning, match="loss_terms in training mode"):
        flow.log_prob(x)
    flow.bits_per_dim(x)  # a second warning would be an error
    assert_unchanged(fresh)
    flow.loss_terms(x)
    trained = state()
    assert any(not torch.equal(trained[name], fresh[name]) for name in trained)
    for call in (flow.log_prob, flow.bits_per_dim, flow.encode):
        call(x)
    flow.sample(2)
    assert_unchanged(trained)


def test_a_log_determinant_that_is_a_mean_is_refused():
    class Mean(realnvp.Bijection):
        def forward(self, x, condition=None):
            return x, x.mean()

        def inverse(self, z, condition=None):
            return z, z.mean()

    x = torch.randn(3, 2)
    for flow in (Flow(Mean(), (2,)), Flow(Chain(Chain(), Mean()), (2,))):
        for call in (flow.log_prob, flow.loss_terms):
            with pytest.raises(ValueError, match=r"Mean.* of shape \(\) for 3 examples"):
                call(x)
        flow.memory = "checkpoint"
        with pytest.raises(ValueError, match=r"Mean.* of shape \(\) for 3 examples"):
            flow.loss_terms(x.requires_grad_())
    with pytest.raises(ValueError, match=r"the inverse of layers.1 \(Mean\)"):
        flow.decode(x)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_uniform_model_has_log2_levels_bits(levels: int):
    flow = Flow(Chain(Dequantize(levels), UniformToNormal()), (1, 4, 4)).double()
    x = torch.randint(0, levels, (5, 1, 4, 4), dtype=torch.uint8)
    torch.testing.assert_close(
        flow.bits_per_dim(x), torch.full((5,), math.log2(levels), dtype=torch.float64)
    )


def test_standard_normal_in_known_nats():
    flow = Flow(Chain(), (3,))
    x = torch.randn(4, 3)
    expected = torch.distributions.Normal(0, 1).log_prob(x).sum(1)
    torch.testing.assert_close(flow.log_prob(x), expected)


def test_density_of_a_2d_flow_integrates_to_one():
    torch.manual_seed(0)
    angle = torch.rand(512, dtype=torch.float64) * 2 * math.pi
    ring = torch.stack((angle.cos(), angle.sin()), dim=1)
    flow = vector_flow(2, couplings=6, hidden=16).double()
    optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = -flow.log_prob(ring + 0.2 * torch.randn_like(ring)).mean()
        loss.backward()
        optimizer.step()
    assert loss < 2.0  # a standard normal has 2.4: it has learned something
    axis = torch.linspace(-6, 6, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        mass = flow.log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=1e-3)


def test_probabilities_of_a_tiny_image_add_up_to_one():
    """Two pixels of 3 levels: the integral over the noise, summed over all images, is 1."""
    flow = randomize(image_flow((2, 1, 1), levels=3, scales=1, hidden=4, blocks=1)).double().eval()
    u = (torch.arange(60, dtype=torch.float64) + 0.5) / 60
    total = 0.0
    body = Chain(*list(flow.bijection)[1:])
    with torch.no_grad():
        for first in range(3):
            for second in range(3):
                v = (torch.cartesian_prod(u + first, u + second) / 3).view(-1, 2, 1, 1)
                z, log_det = body(v)
                log_p = flow.log_prior(z) + log_det - 2 * math.log(3)
                total += log_p.exp().mean().item()
    # mass of the logit's tails outside the unit interval is the model's, not the images'
    draws = body.inverse(torch.randn(200_000, 2, 1, 1, dtype=torch.float64))[0]
    inside = ((draws >= 0) & (draws <= 1)).flatten(1).all(1).double().mean().item()
    assert total == pytest.approx(inside, abs=0.01)


def test_loss_terms_add_up_to_the_loss():
    flow, x = small_image_flow(), small_images()
    terms = flow.loss_terms(x, noise=torch.Generator().manual_seed(1))
    assert set(terms) == {"prior", "coupling", "norm", "preprocessing", "regularizer"}
    log_prob = flow.log_prob(x, noise=torch.Generator().manual_seed(1))
    penalty = sum(m.scale.square().sum() for m in flow.modules() if isinstance(m, AffineCoupling))
    torch.testing.assert_close(terms["regularizer"], 5e-5 * penalty)
    torch.testing.assert_close(sum(terms.values()), -log_prob.mean() + 5e-5 * penalty)
    assert all(abs(terms[name]) > 0 for name in terms)


@pytest.mark.parametrize("memory", ["standard", "checkpoint", "invertible"])
def test_a_layer_may_name_a_term_of_its_own(memory):
    """It was left out of the loss, so that such a layer was trained without its log-determinant."""

    class Double(Bijection):
        term = "doubling"

        def forward(self, x, condition=None):
            return 2 * x, x.new_full((len(x),), 2 * math.log(2))

        def inverse(self, z, condition=None):
            return z / 2, z.new_full((len(z),), -2 * math.log(2))

    flow = Flow(Chain(Double(), ActNorm(2)), (2,), scale_penalty=0).eval()
    flow.memory = memory
    x = torch.randn(5, 2)
    terms = flow.loss_terms(x)
    assert terms["doubling"].item() == pytest.approx(-2 * math.log(2))
    with pytest.warns(UserWarning, match="have seen no data"):
        torch.testing.assert_close(sum(terms.values()), -flow.log_prob(x).mean())
    _, parts = flow.log_prob_terms(x)
    torch.testing.assert_close(sum(parts.values()), flow.log_prob(x))
    Double.term = "prior"
    with pytest.raises(ValueError, match="the term 'prior' cannot be a layer's"):
        Flow(Chain(Double()), (2,))


def test_bits_per_dim_is_the_log_prob():
    flow, x = small_image_flow(), small_images()
    bits = flow.bits_per_dim(x, noise=torch.Generator().manual_seed(1))
    log_prob = flow.log_prob(x, noise=torch.Generator().manual_seed(1))
    torch.testing.assert_close(bits, -log_prob / 64 / math.log(2))
    with pytest.raises(ValueError, match="nats"):
        vector_flow(2).bits_per_dim(torch.zeros(1, 2))


def test_sample_shape_type_seed_and_temperature():
    flow = small_image_flow()
    first = flow.sample(5, generator=torch.Generator().manual_seed(1), batch_size=2)
    again = flow.sample(5, generator=torch.Generator().manual_seed(1))
    assert first.shape == (5, 1, 8, 8)
    assert first.dtype == torch.uint8
    assert first.max() <= 16
    assert torch.equal(first, again)
    assert torch.equal(*flow.sample(2, temperature=0.0))  # the mode of the prior, twice
    points = vector_flow(2).sample(20_000, temperature=0.5, generator=torch.Generator())
    assert points.std().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("coupling", ["affine", "gaussian_mixture", "logistic_mixture"])
def test_samples_come_with_the_density_that_they_were_drawn_from(coupling: str):
    flow = vector_flow(2, condition_dim=1, couplings=2, hidden=4, coupling=coupling)
    flow = randomize(flow).double().eval()
    condition, t = torch.randn(400, 1).double(), 0.7
    draws = [torch.Generator().manual_seed(3) for _ in range(3)]
    x, log_prob = flow.sample_and_log_prob(400, condition, t, draws[0])
    torch.testing.assert_close(x, flow.sample(400, t, condition, draws[1]))
    # Tempering replaces the prior: log N(z; 0, t^2) for log N(z; 0, 1).
    z = flow.encode(x, condition)
    tempered = Normal(0.0, t).log_prob(z).sum(1) - Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(log_prob, flow.log_prob(x, condition) + tempered)
    # Gradients are the total derivatives: through the samples, and through the density.
    x, log_prob = flow.rsample_and_log_prob(400, condition, generator=draws[2])
    parameters = [p for p in flow.parameters() if p.requires_grad]
    targets = (log_prob.sum(), flow.log_prob(x, condition).sum())
    grads, expected = (
        torch.autograd.grad(target, parameters, retain_graph=True) for target in targets
    )
    assert any(grad.abs().max() > 1e-3 for grad in grads)
    torch.testing.assert_close(grads, expected, atol=1e-6, rtol=1e-6)


def test_samples_without_a_single_density_are_refused():
    with pytest.raises(ValueError, match="discrete values has no density of single samples"):
        small_image_flow().sample_and_log_prob(2)
    with pytest.raises(ValueError, match="pass labels"):
        vector_flow(2, classes=3).rsample_and_log_prob(2)
    with pytest.raises(ValueError, match="must be above 0"):
        vector_flow(2).sample_and_log_prob(2, temperature=0.0)


def test_sampling_leaves_the_mode_as_it_was():
    flow = image_flow((1, 4, 4), hidden=4, blocks=1)
    flow.sample(1)
    assert flow.training
    assert all(module.training for module in flow.modules())


def test_latent_scales():
    scales = image_flow((3, 8, 8), scales=3, hidden=4, blocks=0).latent_scales()
    assert scales.shape == (3, 8, 8)
    assert torch.bincount(scales.flatten()).tolist() == [96, 48, 48]


def test_only_the_factored_out_latents_skip_the_deeper_scales():
    """Entries that latent_scales() calls scale 0 do not depend on the deeper couplings."""
    flow = small_image_flow(scales=2)
    x, scales = small_images(), flow.latent_scales()
    before = flow.encode(x, noise=torch.Generator().manual_seed(1))
    inner = next(m for m in flow.modules() if isinstance(m, FactorOut)).inner
    with torch.no_grad():
        for parameter in inner.parameters():
            parameter.mul_(1.3)
    after = flow.encode(x, noise=torch.Generator().manual_seed(1))
    assert torch.equal(before[:, scales == 0], after[:, scales == 0])
    assert (before[:, scales == 1] != after[:, scales == 1]).all()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 6, 10), (4, 2, 2), (1, 1, 2)])
def test_any_fitting_shape_builds(shape):
    scales = {28: 3, 32: 3, 6: 2, 2: 2, 1: 1}[shape[1]]
    flow = image_flow(shape, hidden=4, blocks=1, scales=scales, conditioner_norm="instance")
    flow = randomize(flow, last=0.05)
    x = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
    assert torch.isfinite(flow.log_prob(x)).all()
    assert flow.eval().sample(1).shape == (1, *shape)


def test_patches_divide_the_image():
    """Each is one position of the first scale's conditioners, and sees all of its neighbours."""
    flow = randomize(image_flow((1, 6, 12), hidden=4, blocks=1, scales=1, patch=3)).eval()
    coupling = next(m for m in flow.modules() if isinstance(m, AffineCoupling))
    assert coupling.conditioner.first.direction.shape == (12, 9, 3, 3)
    x = torch.randint(0, 256, (2, 1, 6, 12), dtype=torch.uint8)
    assert torch.equal(flow.decode(flow.encode(x)), x)
    with pytest.raises(ValueError, match="patches of 3 pixels need"):
        image_flow((1, 8, 12), patch=3)
    with pytest.raises(ValueError, match='block is "residual" or "gated"'):
        realnvp.conditioners.ResNet(1, 2, hidden=4, blocks=1, block="dense")


def test_paper_model_has_the_papers_size():
    """64 maps, 8 blocks, two scales on 32x32x3: public implementations have 19.6 M parameters,
    with skip connections that the paper does not ask for."""
    flow = image_flow((3, 32, 32), hidden=64, blocks=8, scales=2)
    assert sum(p.numel() for p in flow.parameters()) == pytest.approx(18.6e6, rel=0.02)


def test_a_condition_that_no_layer_takes_is_refused():
    def coupling(condition_dim: int = 0) -> AffineCoupling:
        return AffineCoupling(ChannelMask(), MLP(1, 2, 8, 1, condition_dim), 1)

    class Shift(Bijection):
        def forward(self, x, condition=None):
            return x - condition, x.new_zeros(len(x))

        def inverse(self, z, condition=None):
            return z + condition, z.new_zeros(len(z))

    unconditional = Rosenblatt(torch.zeros(1, 2))
    for layers in ([], [coupling(), coupling()], [unconditional, coupling()]):
        with pytest.raises(ValueError, match=r"no layer takes .* MLP\(..., condition_dim=2\)"):
            Flow(Chain(*layers), (2,), condition_dim=2)
    labeled = Rosenblatt(torch.zeros(2, 1, 2))  # a mixture for each of two classes
    joint = Rosenblatt(torch.zeros(1, 4), condition_dim=2)
    for layer in (coupling(2), FactorOut(Shift()), ClassMeans(2, (2,)), labeled, joint):
        assert Flow(Chain(coupling(), layer), (2,), condition_dim=2).condition_dim == 2


def test_conditional_flow():
    flow = randomize(image_flow((1, 4, 4), hidden=4, blocks=1, classes=3)).eval()
    x = torch.randint(0, 256, (2, 1, 4, 4), dtype=torch.uint8)
    first, second = (
        flow.log_prob(x, torch.full((2,), label), torch.Generator().manual_seed(0))
        for label in (0, 2)
    )
    assert (first != second).all()
    one_hot = torch.eye(3)[[0, 0]]
    assert torch.equal(first, flow.log_prob(x, one_hot, torch.Generator().manual_seed(0)))
    assert flow.sample(4, condition=torch.tensor([0, 1, 2, 0])).shape == (4, 1, 4, 4)
    for bad, message in [
        (torch.tensor([0, 3]), "below 3"),
        (torch.zeros(2, 2), "shape"),
        (torch.tensor([0.5, 1.0]), "integers"),
        (torch.full((2, 3), math.nan), "NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            flow.log_prob(x, bad)
    with pytest.raises(ValueError, match="not conditional"):
        vector_flow(2).log_prob(torch.zeros(1, 2), torch.zeros(1, 1))
    found = flow.classify(x, torch.Generator().manual_seed(0))
    assert torch.equal(found, flow.class_log_probs(x, torch.Generator().manual_seed(0)).argmax(1))
    noise = torch.rand(x.shape)
    latents = flow.encode(x, flow.classify(x, noise), noise)
    assert torch.equal(flow.encode(x, noise=noise), latents)


def test_standardization_is_part_of_the_density():
    flow = vector_flow(
        2, mean=torch.tensor([1.0, 2.0]), std=torch.tensor([2.0, 0.5]), coupling="affine"
    ).eval()
    normal = torch.distributions.Normal(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.5]))
    x = torch.randn(5, 2)
    torch.testing.assert_close(flow.log_prob(x).detach(), normal.log_prob(x).sum(1))


def test_compute_dtype_reaches_the_conditioners_only():
    flow = small_image_flow()
    exact = flow.log_prob(small_images(), noise=torch.Generator().manual_seed(0))
    flow.set_compute_dtype(torch.bfloat16)
    rough = flow.log_prob(small_images(), noise=torch.Generator().manual_seed(0))
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0.5)


# ---------------------------------------------------------------------- saved models


@pytest.mark.parametrize("double", [False, True])
def test_saved_model_gives_equal_log_probabilities(tmp_path, double: bool):
    flow = small_image_flow(scales=3, norm="act", conditioner_norm="none")
    flow = flow.double() if double else flow
    flow.save_pretrained(tmp_path / "model")
    again = Flow.from_pretrained(tmp_path / "model")
    assert not again.training
    x = small_images()
    for model in (again, realnvp.load(tmp_path / "model"), realnvp.load(tmp_path)):
        assert torch.equal(
            model.log_prob(x, noise=torch.Generator().manual_seed(1)),
            flow.log_prob(x, noise=torch.Generator().manual_seed(1)),
        )
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"config.json", "model.safetensors"}


def test_saved_vector_flow_keeps_its_standardization(tmp_path):
    flow = vector_flow(3, mean=torch.ones(3), std=torch.full((3,), 2.0)).eval()
    flow.save_pretrained(tmp_path)
    x = torch.randn(4, 3)
    assert torch.equal(realnvp.load(tmp_path).log_prob(x), flow.log_prob(x))


def test_flow_without_a_builder_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="made by"):
        Flow(Chain(Logit()), (2,)).save_pretrained(tmp_path)


@pytest.mark.parametrize("damage", ["flip", "truncate", "config", "builder", "option", "weights"])
def test_corrupt_model_folder_is_refused(tmp_path, damage: str):
    small_image_flow().save_pretrained(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    content = bytearray(weights.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        weights.write_bytes(content)
    elif damage == "truncate":
        weights.write_bytes(content[: len(content) // 2])
    elif damage == "config":
        config.write_text("{")
    elif damage == "weights":
        weights.unlink()
    else:
        settings = json.loads(config.read_text())
        if damage == "builder":
            settings["builder"] = "os.system"
        else:
            settings["arguments"]["hidden"] = 8
        config.write_text(json.dumps(settings))
    with pytest.raises((ValueError, FileNotFoundError), match=str(tmp_path)):
        realnvp.load(tmp_path)


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: image_flow((1, 6, 6), scales=3), "use at most 2 scales"),
        (lambda: image_flow((1, 7, 7), scales=2), "use at most 1 scale,"),
        (lambda: image_flow((1, 6, 6), scales=2, architecture="glow"), "use at most 1 scale,"),
        (lambda: image_flow((1, 7, 7), scales=1, architecture="glow"), "use images whose sides"),
        (lambda: image_flow((28, 28)), "channels, height, width"),
        (lambda: image_flow((1, 1, 1), scales=1), "one grey pixel"),
        (lambda: image_flow((1, 4, 4), alpha=0.7), "alpha"),
        (lambda: image_flow((1, 4, 4), hidden=0), "hidden"),
        (lambda: vector_flow(0), "dim must be an integer from 1"),
        (lambda: vector_flow(2, couplings=-1), "couplings"),
        (lambda: vector_flow(2, std=torch.zeros(2), mean=torch.zeros(2)), "positive"),
    ],
)
def test_builders_refuse(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 1, 8, 8), "uint8"),
        (torch.zeros(2, 1, 8, 7, dtype=torch.uint8), "models shape"),
        (torch.zeros(1, 8, 8, dtype=torch.uint8), "models shape"),
        (torch.full((2, 1, 8, 8), 17, dtype=torch.uint8), "0 .. 16"),
        (torch.full((2, 1, 8, 8), -1), "0 .. 16"),
    ],
)
def test_image_flow_refuses(x, message: str):
    flow = small_image_flow()
    checks = [flow.log_prob, flow.encode]
    if message != "0 .. 16":  # to look at the numbers, a training step would wait for its device
        checks.append(flow.loss_terms)
    for call in checks:
        with pytest.raises(ValueError, match=message):
            call(x)


def test_no_examples_have_no_densities():
    images = torch.zeros(0, 1, 8, 8, dtype=torch.uint8)
    assert small_image_flow().eval().log_prob(images).shape == (0,)
    flow = vector_flow(2, classes=3).eval()
    assert flow.log_prob(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)).shape == (0,)


@pytest.mark.parametrize("norm", ["batch", "act"])
def test_no_examples_have_no_loss_and_leave_no_trace(norm: str):
    """Normalizations would keep NaN as their statistics."""
    flow = vector_flow(2, coupling="affine", norm=norm).train()
    with pytest.raises(ValueError, match="a batch without examples"):
        flow.loss_terms(torch.zeros(0, 2))
    assert all(torch.isfinite(tensor).all() for tensor in flow.state_dict().values())


@pytest.mark.parametrize("bad", [-0.01, 1.01, math.nan])
def test_noise_outside_the_unit_interval_is_refused(bad: float):
    flow, x = small_image_flow(classes=2).eval(), small_images()
    noise = torch.rand(x.shape)
    noise[1, 0, 2, 3] = bad
    label = torch.zeros(len(x), dtype=torch.int64)
    for call in (flow.log_prob, flow.bits_per_dim, flow.encode, flow.log_prob_terms):
        with pytest.raises(ValueError, match=r"uniform numbers in \[0, 1\), got"):
            call(x, label, noise)
    with pytest.raises(ValueError, match="uniform numbers"):
        flow.class_log_probs(x, noise)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Flow(Chain(), 2), "the shape of an example"),
        (lambda: Flow(Chain(), (2.0,)), "the shape of an example"),
        (lambda: Flow([Logit()], (2,)), "made of a bijection, such as a Chain, got a list"),
        (lambda: Flow(Chain(), (2,)).sample((3,)), "number of samples must be an integer"),
        (lambda: Flow(Chain(), (2,)).sample(3, batch_size=0), "batch_size must be an integer"),
    ],
)
def test_arguments_of_another_kind_are_refused(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_vector_flow_refuses(value: float):
    with pytest.raises(ValueError, match="NaN or infinite"):
        vector_flow(2).log_prob(torch.tensor([[0.0, value]]))
    with pytest.raises(ValueError, match="temperature"):
        vector_flow(2).sample(1, temperature=value)
    with pytest.raises(ValueError, match="1 or more"):
        vector_flow(2).sample(0)
    with pytest.raises(ValueError, match="latents"):
        vector_flow(2).decode(torch.zeros(2, 3))


# ---------------------------------------------------------------------- several threads


def calls_of(flow: Flow) -> dict[str, Callable[[], torch.Tensor]]:
    """One call of each kind, with noise of its own."""
    generator = torch.Generator().manual_seed(5)
    condition = torch.arange(12) % 3
    if flow.levels is None:
        x = torch.randn(12, *flow.shape, generator=generator)
        x[:, 0] = x[:, 0].round()
    else:
        x = torch.randint(0, flow.levels, (12, *flow.shape), generator=generator).to(torch.uint8)
    z = torch.randn(12, *flow.shape, generator=generator)
    split = Split(x, condition, condition)

    def seeded(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    calls = {
        "log_prob": lambda: flow.log_prob(x, condition, seeded(1)),
        "encode": lambda: flow.encode(x, condition, seeded(2)),
        "decode": lambda: flow.decode(z, condition),
        "sample": lambda: flow.sample(12, condition=condition, generator=seeded(3)),
        "log_likelihoods": lambda: log_likelihoods(flow, split, samples=2, batch_size=5),
        "class_log_probs": lambda: flow.class_log_probs(x, torch.full(x.shape, 0.3)),
    }
    if flow.levels is not None:
        calls["bits_per_dim"] = lambda: flow.bits_per_dim(x, condition, seeded(4))
    return calls


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", ["images", "vectors"])
def test_eight_threads_compute_what_one_computes(kind: str, training: bool):
    if kind == "images":
        flow = small_image_flow(
            classes=3, coupling="logistic_mixture", dequantization="variational"
        )
    else:
        flow = vector_flow(3, integers=[0], classes=3, norm="batch", hidden=8)
    flow = randomize(flow, last=0.1).train(training)
    before = {name: tensor.clone() for name, tensor in flow.state_dict().items()}
    calls = calls_of(flow)
    with torch.no_grad():
        serial = {name: call() for name, call in calls.items()}

    def wrong_results(thread: int) -> list[str]:
        names = list(calls)
        wrong = []
        with torch.no_grad():
            for i in range(len(names)):
                name = names[(i + thread) % len(names)]
                if not torch.equal(calls[name](), serial[name]):
                    wrong.append(name)
        return wrong

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(wrong_results, range(8))) == [[]] * 8
    assert all(module.training == training for module in flow.modules())
    for name, tensor in flow.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_bijection_that_returns_other_shapes_is_refused():
    class Longer(realnvp.Bijection):
        def forward(self, x, condition=None):
            return torch.cat((x, x[:, :1]), 1), x.new_zeros(len(x))

        def inverse(self, z, condition=None):
            return z[:, :-1], z.new_zeros(len(z))

    flow = Flow(Chain(Longer()), (2,))
    for compute in (flow.log_prob, flow.loss_terms):
        with pytest.raises(ValueError, match="latents have the shape of the data"):
            compute(torch.zeros(3, 2))


def test_latents_of_another_type_are_cast_and_of_another_kind_refused():
    flow = vector_flow(2)
    assert flow.decode(torch.zeros(3, 2, dtype=torch.float64)).dtype == torch.float32
    with pytest.raises(ValueError, match="got ndarray"):
        flow.decode(torch.zeros(3, 2).numpy())


def test_latents_are_taken_by_vmap():
    flow = randomize(vector_flow(2, coupling="affine"))
    x = torch.randn(4, 2)
    jacobians = torch.func.vmap(torch.func.jacrev(lambda v: flow.encode(v[None])[0]))(x)
    log_det = flow.log_prob(x) - flow.log_prior(flow.encode(x))
    torch.testing.assert_close(torch.linalg.slogdet(jacobians)[1], log_det, rtol=1e-4, atol=1e-4)


def test_statistics_may_have_another_type_but_not_another_size():
    flow = vector_flow(2, mean=torch.ones(2).double(), std=torch.ones(2).numpy())
    assert flow.log_prob(torch.ones(1, 2)).item() == pytest.approx(-math.log(2 * math.pi), abs=1e-3)
    with pytest.raises(ValueError, match=r"mean has the shape \(3,\), not \(2,\)"):
        vector_flow(2, mean=torch.zeros(3))
