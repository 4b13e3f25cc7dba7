"""Saved and shipped models: they load as they were, and what comes from anybody is verified."""

from __future__ import annotations

import inspect
import json
import os
import resource
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints
from unittest import mock

import pytest
import torch

import realnvp
import ship
from helpers.flows import small_image_flow
from realnvp import Bijection, Chain, Flow, image_flow, pretrained, register_builder, vector_flow
from realnvp.bijections import Inverse, InvertibleLinear
from realnvp.cli.main import main
from realnvp.config import DataConfig, ImageModel, VectorModel
from realnvp.data.toy import TOY
from realnvp.model_info import ModelInfo
from realnvp.outliers import OutlierScorer
from realnvp.pretrained import cards, load_shipped, rebuild, shipped_names, unpack
from realnvp.utils.registry import ARCHITECTURES, BUILDERS, COUPLINGS
from ship import pack


def test_what_is_there():
    images = {"digits", "mnist", "fashion-mnist", "cifar10"}
    assert set(shipped_names()) == set(TOY) | images
    for file in (files("realnvp") / "weights").iterdir():
        if file.name.endswith(".safetensors"):
            assert len(file.read_bytes()) <= ship.LIMIT


@pytest.mark.parametrize("name", shipped_names())
def test_every_model_loads_and_its_card_is_whole(name):
    flow, card = realnvp.load(name), cards()[name]
    assert not flow.training
    assert card["parameters"] == sum(p.numel() for p in flow.parameters())
    assert card["command"].startswith("realnvp train ")
    assert "/" not in flow.trained_on.data.source + flow.trained_on.data.root
    assert len(card["curve"]) >= 2
    condition = None if flow.classes is None else torch.arange(3) % flow.classes
    x = flow.sample(3, condition=condition)
    assert x.shape == (3, *flow.shape)
    if flow.levels is not None:
        assert torch.equal(flow.decode(flow.encode(x, condition), condition), x)
    assert len(OutlierScorer(flow).held_out) >= 250  # calibrated, for p-values down to 0.004


def test_only_the_file_of_the_model_is_read(monkeypatch):
    monkeypatch.setattr(pretrained, "unpack", mock.Mock(wraps=unpack))
    pretrained._contents.cache_clear()
    for name in ("digits", "moons", "spirals"):
        realnvp.load(name)
    assert pretrained.unpack.call_count == 2, "moons and spirals are in one file"
    for name in ("toy", "../weights/digits"):
        with pytest.raises(FileNotFoundError, match="or one of blobs, "):
            realnvp.load(name)


@pytest.mark.parametrize("name", TOY)
def test_toy_sets_have_the_divergence_of_their_cards(name):
    x = torch.from_numpy(TOY[name].sample(2000, seed=77))
    truth = torch.from_numpy(TOY[name].log_density(x.numpy()))
    with torch.no_grad():
        gap = truth - load_shipped(name).log_prob(x)
    card = cards()[name]
    error = gap.std() / 2000**0.5
    assert abs(gap.mean() - card["kl"]) < 5 * error + 5 * card["kl_standard_error"]


def test_digits_have_the_bits_of_their_card(capsys):
    assert main(["eval", "digits", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert abs(result["bits_per_dim"] - cards()["digits"]["value"]) < 0.01


def test_the_command_line_knows_them(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["models"]) == 0
    assert "moons" in capsys.readouterr().out
    assert main(["models", "moons"]) == 0
    assert "KL" in capsys.readouterr().out
    assert main(["sample", "digits", "-n", "4"]) == 0
    assert main(["plot", "moons", "--out", "m.png"]) == 0
    assert main(["models", "mooons"]) == 2
    assert "there are" in capsys.readouterr().err


def test_a_packed_model_comes_back():
    flow = realnvp.vector_flow(2, couplings=2, hidden=4).eval()
    entry, tensors = unpack(pack({"a": (flow, {"x": 1})}))["a"]
    assert entry["card"] == {"x": 1}
    back = rebuild(entry["settings"], tensors, "it")
    assert back.dtype == torch.float32
    x = torch.randn(5, 2)
    torch.testing.assert_close(back.log_prob(x), flow.log_prob(x), atol=1e-2, rtol=1e-2)


def test_kernels_of_large_models_have_nine_bits(monkeypatch):
    flow = image_flow((1, 4, 4), scales=1, hidden=48, blocks=2, norm="none").eval()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    half = pack({"a": (flow, {})})
    monkeypatch.setattr(ship, "LIMIT", 1000)
    packed = pack({"a": (flow, {})})
    assert len(packed) < 0.65 * len(half)
    entry, tensors = unpack(packed)["a"]
    for name, tensor in flow.state_dict().items():
        if name.endswith("direction"):
            largest = tensor.abs().amax((1, 2, 3), keepdim=True)
            assert ((tensors[name] - tensor).abs() <= 0.501 * 1.5 * largest / 255).all()
    back = rebuild(entry["settings"], tensors, "it")
    again = unpack(pack({"a": (back, {})}))["a"][1]
    assert all(torch.allclose(again[name], t, rtol=1e-6) for name, t in tensors.items())
    x = torch.randint(256, (5, 1, 4, 4), dtype=torch.uint8)
    noise = torch.rand(x.shape)
    found, expected = back.bits_per_dim(x, noise=noise), flow.bits_per_dim(x, noise=noise)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


def test_a_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    realnvp.vector_flow(5).save_pretrained("moons")
    assert realnvp.load("moons").dim == 5


# ---------------------------------------------------------------------- models from strangers


class Saved:
    """Stands for a ``ModelInfo`` that is saved as it should not be."""

    def __init__(self, saved: Any) -> None:
        self.saved = saved

    def as_dict(self) -> Any:
        return self.saved


def hostile(folder: Path, **changes: Any) -> Path:
    """Write a valid model folder whose settings were changed by somebody who knows the format."""
    flow = small_image_flow()
    flow.save_pretrained(folder)
    assert flow.config is not None
    arguments = {**flow.config["arguments"], **changes.pop("arguments", {})}
    flow.config = {**flow.config, "arguments": arguments, **changes.pop("config", {})}
    flow.trained_on = Saved(changes.pop("trained_on", None))
    flow.made_with = changes.pop("made_with", None)
    flow.save_pretrained(folder, changes.pop("weights", None) or flow.state_dict())
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arguments": {"hidden": 10**15}}, "too large|shape|overflow|Storage|rebuilt"),
        ({"arguments": {"hidden": 100_000}}, "has shape"),
        ({"arguments": {"blocks": 10**6}}, "blocks"),
        ({"arguments": {"blocks": 900}}, "blocks is more than"),
        ({"arguments": {"scales": 10**9}}, "scales"),
        ({"arguments": {"scales": 1}}, "missing|unknown"),
        ({"arguments": {"hidden": "8; rm -rf /"}}, "hidden must be"),
        ({"arguments": {"hidden": True}}, "hidden must be"),
        ({"arguments": {"hidden": 4.5}}, "hidden must be"),
        ({"arguments": {"norm": "evil"}}, "norm must be"),
        ({"arguments": {"alpha": float("nan")}}, "alpha"),
        ({"arguments": {"levels": 10**12}}, "levels"),
        ({"arguments": {"levels": "many"}}, "levels"),
        ({"arguments": {"shape": [1, 8]}}, "shape"),
        ({"arguments": {"shape": ["a", 8, 8]}}, "channels"),
        ({"arguments": {"shape": [1, 8, 2**60]}}, "width"),
        ({"arguments": {"classes": -5}}, "classes"),
        ({"arguments": {"condition_dim": 10**12}}, "condition_dim"),
        ({"arguments": {"unknown": 1}}, "unknown"),
        ({"config": {"builder": "eval"}}, "unknown builder"),
        ({"config": {"builder": "load"}}, "unknown builder"),
        ({"config": {"builder": ["image_flow"]}}, "does not describe"),
        ({"config": {"builder": "os:system"}}, "unknown builder"),
        ({"config": {"builder": "realnvp.pretrained:load"}}, "unknown builder"),
        ({"config": {"builder": "evil:build"}}, "--import MODULE"),
        ({"arguments": {"coupling": "os:system"}}, "unknown coupling"),
        ({"arguments": {"conditioner": "torch.hub:load"}}, "unknown conditioner"),
        ({"arguments": {"architecture": "subprocess:run"}}, "unknown architecture"),
        ({"arguments": {"coupling_options": {"components": 10**9}}}, "no option|has shape"),
        ({"arguments": {"model": {"hidden": 10**9}}}, "model must be"),
        ({"config": {"arguments": []}}, "does not describe"),
        ({"trained_on": {"data": {"source": "/etc/passwd", "evil": 1}}}, "rebuilt"),
        ({"trained_on": {"data": {"points": -1}}}, "points"),
        ({"trained_on": {"data": {}, "columns": [1, 2]}}, "text"),
        ({"trained_on": {"data": {}, "columns": "ab"}}, "list of text"),
        ({"trained_on": {"data": {}, "categories": {"a": 1}}}, "list of text"),
        ({"trained_on": {"data": "digits"}}, "settings of the data"),
        ({"trained_on": {"columns": None}}, "settings of the data"),
        ({"trained_on": {"data": {}, "fingerprint": "ab"}}, "fingerprint"),
        ({"trained_on": {"data": {}, "fingerprint": {"train": 3}}}, "fingerprint"),
        ({"trained_on": {"data": {"root": 3}}}, "root"),
        ({"trained_on": ["x"]}, "mapping"),
        ({"trained_on": "x"}, "mapping"),
        ({"made_with": "x"}, "mapping"),
        ({"made_with": {"date": 3}}, "short text"),
        ({"made_with": {"date": "x" * 1000}}, "short text"),
    ],
)  # fmt: skip
def test_a_model_with_hostile_settings_is_refused_at_once(tmp_path, changes, message):
    folder = hostile(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        realnvp.load(folder)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


STRANGE = [
    None, True, -1, 0, 1, 2**31, 10**30, 0.5, 1e300, float("nan"), "x", "", [], [0], [[]], {},
    {"a": 1},
]  # fmt: skip


@pytest.mark.parametrize("builder", ["image_flow", "vector_flow"])
def test_strange_arguments_are_refused_or_do_no_harm(builder):
    flow = small_image_flow() if builder == "image_flow" else vector_flow(2, couplings=2, hidden=4)
    settings, tensors = flow.settings(), flow.state_dict()
    names = [*inspect.signature(getattr(realnvp, builder)).parameters, "self", ""]
    refused = 0
    for name in names:
        for value in STRANGE:
            arguments = {**settings["arguments"], name: value}
            try:
                rebuild({**settings, "arguments": arguments}, tensors, "it")
            except ValueError:
                refused += 1
    assert refused > 0.5 * len(names) * len(STRANGE)


@pytest.mark.parametrize("what", ["more", "less", "shape", "dtype", "nan"])
def test_a_model_with_other_tensors_is_refused(tmp_path, what):
    weights = {name: t.clone() for name, t in small_image_flow().state_dict().items()}
    name = next(name for name in weights if name.endswith("direction"))
    if what == "more":
        weights["evil"] = torch.ones(2)
    elif what == "less":
        del weights[name]
    elif what == "shape":
        weights[name] = weights[name][:1]
    elif what == "dtype":
        weights[name] = weights[name].half()
    else:
        weights[name][0] = torch.nan
    with pytest.raises(ValueError, match=str(tmp_path)):
        realnvp.load(hostile(tmp_path, weights=weights))


def test_a_plain_safetensors_file_is_no_model(tmp_path):
    from safetensors.torch import save_file

    small_image_flow().save_pretrained(tmp_path)
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="no checksum"):
        realnvp.load(tmp_path)


def test_the_settings_belong_to_the_weights(tmp_path):
    for name, hidden in (("a", 4), ("b", 8)):
        image_flow((1, 4, 4), hidden=hidden, blocks=1).save_pretrained(tmp_path / name)
    (tmp_path / "b" / "config.json").write_bytes((tmp_path / "a" / "config.json").read_bytes())
    with pytest.raises(ValueError, match="does not belong"):
        realnvp.load(tmp_path / "b")
    (tmp_path / "a" / "config.json").write_text(" " * 20_000_000)
    with pytest.raises(ValueError, match="too large"):
        realnvp.load(tmp_path / "a")


def test_weights_are_readable_by_any_tool(tmp_path):
    from safetensors import safe_open

    flow = vector_flow(2, couplings=1, hidden=4)
    flow.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(flow.state_dict())
        assert set(json.loads(file.metadata()["realnvp"])) == {"sha256", "config_sha256"}


@pytest.mark.parametrize(
    ("trained_on", "message"),
    [
        ({"data": {}, "columns": ["a"]}, "name 2 columns, got 1"),
        ({"data": {}, "columns": ["a", "b", "c"]}, "name 2 columns, got 3"),
        ({"data": {}, "categories": ["a"]}, "name 3 categories, got 1"),
    ],
)
def test_names_are_as_many_as_columns_and_classes(tmp_path, trained_on, message):
    flow = vector_flow(2, hidden=4, classes=3)
    flow.trained_on = ModelInfo.from_dict(trained_on)
    flow.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        realnvp.load(tmp_path)


def test_a_huge_file_of_weights_is_refused_before_it_is_read(tmp_path):
    small_image_flow().save_pretrained(tmp_path)
    os.truncate(tmp_path / "model.safetensors", 6 * 2**30)  # sparse: it takes no room on the disk
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="not fully covered"):
        realnvp.load(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB on Linux


def test_units_of_a_condition_are_float64_whatever_the_type_of_the_flow(tmp_path):
    flow = vector_flow(2, condition_dim=1, couplings=2, hidden=4).eval()
    flow.condition_shift.fill_(1.7e9 + 0.25)
    for convert in (lambda f: f.float(), lambda f: f.double().float(), lambda f: f.to("cpu")):
        flow = convert(flow)
        assert (flow.dtype, flow.condition_shift.dtype) == (torch.float32, torch.float64)
        assert flow.condition_shift.item() == 1.7e9 + 0.25
    given = torch.tensor([[1.7e9 + 1.25]], dtype=torch.float64)
    assert flow.as_condition(given, 1).item() == 1
    flow.save_pretrained(tmp_path / "new")
    assert realnvp.load(tmp_path / "new").condition_shift.item() == 1.7e9 + 0.25
    # Apple's GPUs have them in the type of the flow.
    narrow = {name: tensor.float() for name, tensor in flow.state_dict().items()}
    flow.save_pretrained(tmp_path / "narrow", narrow)
    again = realnvp.load(tmp_path / "narrow")
    assert (again.dtype, again.condition_shift.dtype) == (torch.float32, torch.float64)
    assert again.condition_shift.item() == pytest.approx(1.7e9, abs=128)


FORGED = [
    ({}, "norm1.running_var", -1.0, "running variance is negative"),
    ({}, "conv1.direction", 0.0, "has no direction"),
    ({"conditioner_norm": "none"}, "running_var", -1.0, "running_var must be 0"),
    ({"norm": "act"}, "log_scale", 1000.0, "log_scale"),
    ({"linear": True}, "log_diagonal", -1000.0, "log_diagonal"),
    ({"coupling": "affine"}, "scale", 1000.0, "scale"),
    ({"coupling": "logistic_mixture"}, "scale", -1000.0, "scale"),
    ({"vector": True}, "scale", 0.0, "positive scale"),
    ({"vector": True}, "scale", -1.0, "positive scale"),
    ({"vector": True, "condition_dim": 2}, "condition_scale", 0.0, "must be positive"),
    ({"vector": True, "mixture_init": 2}, "weights", 0.0, "weights of a mixture must be positive"),
    ({"vector": True, "mixture_init": 2}, "factors", 0.0, "of a mixture must be positive"),
]


@pytest.mark.parametrize(("options", "name", "value", "message"), FORGED)
def test_forged_weights_are_refused_with_the_name_of_the_layer(
    tmp_path, options, name, value, message
):
    options = dict(options)
    if options.pop("vector", False):
        flow = vector_flow(2, hidden=4, **options)
    else:
        flow = image_flow((2, 8, 8), hidden=4, blocks=1, **options)
    weights = flow.state_dict()
    key = next(key for key in weights if f".{key}".endswith(f".{name}"))
    weights[key] = torch.full_like(weights[key], value)
    flow.save_pretrained(tmp_path, weights)
    layer = key.rpartition(".")[0]
    where = f"in the layer {layer}, " if layer else ""
    with pytest.raises(ValueError, match=f"{where}.*{message}"):
        realnvp.load(tmp_path)


# ---------------------------------------------------------------------- what is kept with a model


def test_notes_come_back(tmp_path):
    flow = vector_flow(2, hidden=4)
    info = ModelInfo(DataConfig("mine"), columns=["a", "b"], estimator={"x": [1, None]})
    flow.trained_on = info
    flow.save_pretrained(tmp_path)
    assert realnvp.load(tmp_path).trained_on == info
    flow.trained_on = replace(info, estimator={"x": torch.ones(2)})
    with pytest.raises(ValueError, match="not JSON"):
        flow.save_pretrained(tmp_path)
    flow.trained_on = replace(info, estimator={"x": "x" * 5_000_000})
    with pytest.raises(ValueError, match="shorten"):
        flow.save_pretrained(tmp_path)
    assert realnvp.load(tmp_path).trained_on == info


def test_a_model_says_what_made_it(tmp_path):
    flow = vector_flow(2, hidden=4)
    flow.save_pretrained(tmp_path / "a")
    made = realnvp.load(tmp_path / "a").made_with
    assert made["realnvp"] == realnvp.__version__
    assert made["torch"] == str(torch.__version__)
    assert os.uname().nodename not in json.dumps(made) or len(os.uname().nodename) < 4
    again = realnvp.load(tmp_path / "a")
    again.save_pretrained(tmp_path / "b")
    assert realnvp.load(tmp_path / "b").made_with == made


def test_settings_stay_as_they_are_while_weights_are_replaced(tmp_path):
    flow = vector_flow(2, hidden=4)
    flow.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    old = {**json.loads(path.read_text()), "made_with": {"date": "1999"}}
    path.write_text(json.dumps(old))
    flow.save_pretrained(tmp_path)
    assert realnvp.load(tmp_path).made_with == {"date": "1999"}
    vector_flow(2, hidden=5).save_pretrained(tmp_path)
    assert realnvp.load(tmp_path).made_with["date"] > "2000"


def test_a_model_knows_where_it_came_from(tmp_path, monkeypatch):
    flow = vector_flow(2, hidden=4)
    assert flow.origin is None
    flow.save_pretrained(tmp_path / "run" / "model")
    assert realnvp.load(tmp_path / "run").origin == "folder"
    (tmp_path / "run" / "config.yaml").write_text("kind: vector")
    assert realnvp.load(tmp_path / "run").origin == "run"
    monkeypatch.chdir(tmp_path / "run" / "model")
    assert realnvp.load(".").origin == "run"
    assert realnvp.load("moons").origin == "shipped"


# ---------------------------------------------------------------------- every option


def values_of_options(model: type) -> list[dict[str, Any]]:
    """Return each value that a setting of a model can have, one at a time."""
    tables = {"coupling": COUPLINGS, "architecture": ARCHITECTURES}
    found = [{"components": count} for count in range(1, 9)]
    for name, hint in get_type_hints(model).items():
        if name in tables:
            found += [{name: value} for value in tables[name]]
        elif hint is bool:
            found += [{name: False}, {name: True}]
        elif get_origin(hint) is Literal:
            found += [{name: value} for value in get_args(hint)]
    return found


@pytest.mark.parametrize(
    ("kind", "condition"), [("image", {}), ("vector", {}), ("vector", {"classes": 3})]
)
def test_every_option_is_saved_and_loaded(kind, condition):
    model = ImageModel if kind == "image" else VectorModel
    more = [{"mixture_init": count} for count in (0, 1, 3)] if kind == "vector" else [{"patch": 2}]
    for options in [*values_of_options(model), *more]:
        if kind == "image" and options.get("architecture") == "autoregressive":
            continue  # for vectors
        if kind == "image":
            flow = image_flow(
                (2, 4, 4), levels=9, **{"hidden": 4, "blocks": 1, **condition, **options}
            )
            x = torch.randint(0, 9, (3, 2, 4, 4), dtype=torch.uint8)
        elif options.get("architecture") in ("glow", "coarse_to_fine"):
            continue
        else:
            flow = vector_flow(2, **{"hidden": 4, "blocks": 1, **condition, **options})
            x = torch.randn(3, 2)
        c = torch.arange(3) if condition else None
        flow.loss_terms(x, c)  # norms initialize from data
        settings = json.loads(json.dumps(flow.settings()))
        again = rebuild(settings, flow.state_dict(), "it")
        noise = torch.full(x.shape, 0.5) if flow.noisy else None
        assert torch.equal(again.log_prob(x, c, noise), flow.log_prob(x, c, noise)), options


@pytest.mark.parametrize("change", ["appended", "exchanged", "in front"])
def test_a_flow_that_was_changed_after_it_was_built_is_not_saved(tmp_path, change):
    flow = realnvp.vector_flow(2)
    first, *rest = flow.bijection
    if change == "appended":
        flow.bijection.layers.append(Inverse(Chain()))
    elif change == "exchanged":
        flow.bijection = Chain(first, rest[1], rest[0], *rest[2:])
    else:
        flow.bijection = Chain(InvertibleLinear(2), first, *rest)
    with pytest.raises(ValueError, match=r"changed after|rebuilt"):
        flow.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def double_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_models_keep_their_type_whatever_the_default_is(double_by_default, tmp_path):
    flow = realnvp.load("moons")
    assert flow.dtype == torch.float32
    flow.save_pretrained(tmp_path)
    assert torch.equal(realnvp.load(tmp_path).encode(x := flow.sample(3)), flow.encode(x))


@pytest.mark.parametrize("double", [False, True])
def test_a_layer_of_your_own_may_hold_float64(tmp_path, monkeypatch, double: bool):
    class Shift(Bijection):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(2))
            self.register_buffer("by", torch.ones(2, dtype=torch.float64))

        def forward(self, x, condition=None):
            return x - self.by.to(x) - self.weight, x.new_zeros(len(x))

        def inverse(self, z, condition=None):
            return z + self.by.to(z) + self.weight, z.new_zeros(len(z))

    monkeypatch.setattr(BUILDERS, "_entries", dict(BUILDERS._entries))
    flow = register_builder("shifted")(lambda: Flow(Chain(Shift()), (2,)))()
    flow = flow.double() if double else flow
    flow.save_pretrained(tmp_path)
    again = realnvp.load(tmp_path)
    assert again.dtype == flow.dtype
    assert torch.equal(again.log_prob(x := torch.randn(3, 2)), flow.log_prob(x))
