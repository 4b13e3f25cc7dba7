"""Exported graphs compute what their flows do."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import realnvp
from helpers.bijections import randomize
from helpers.flows import small_image_flow
from realnvp import Chain, Flow, vector_flow
from realnvp.bijections import Affine, InvertibleLinear
from realnvp.interop import export
from realnvp.interop.export import RUN, _inputs

home = sys.modules["realnvp.interop.export"]

SMALL = {"couplings": 1, "hidden": 4, "blocks": 0, "norm": "act"}


def test_points_with_a_searched_inverse_as_onnx(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    flow = randomize(vector_flow(2, coupling="gaussian_mixture", components=3, **SMALL)).eval()
    graphs = export(flow, tmp_path, "onnx")
    assert [g.path.name for g in graphs] == ["sampler.onnx", "log_prob.onnx"]
    assert all(g.difference < 1e-4 for g in graphs)
    for g, n in zip(graphs, (1, 50), strict=True):  # other sizes than those it was made with
        inputs = _inputs(flow, g.part, n)
        found = RUN["onnx"](g.path, inputs)
        expected = flow.decode(*inputs.values()) if g.part == "sampler" else flow.log_prob(**inputs)
        assert torch.allclose(found, expected, atol=1e-3)


def test_an_invertible_linear_map_as_onnx(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    flow = randomize(Flow(Chain(InvertibleLinear(5)), (5,))).eval()
    seen = []
    export(flow, tmp_path, "onnx", ["sampler"], lambda *counts: seen.append(counts))
    z = torch.randn(7, 5)
    found = RUN["onnx"](tmp_path / "sampler.onnx", {"latents": z})
    assert torch.allclose(found, flow.decode(z), atol=1e-4)
    assert seen == [(0, 3), (1, 3), (2, 3)]


def test_images_with_labels_as_programs_of_pytorch(tmp_path):
    flow = small_image_flow(classes=3, scales=1, steps=1)
    graphs = export(flow, tmp_path, "torch")
    assert [g.inputs for g in graphs] == [("latents", "condition"), ("x", "noise", "condition")]
    assert all(g.difference < 1e-5 for g in graphs)
    inputs = _inputs(flow, "log_prob", 5)
    found = torch.export.load(tmp_path / "log_prob.pt2").module()(**inputs)
    assert torch.allclose(found, flow.log_prob(inputs["x"], inputs["condition"], inputs["noise"]))


def test_an_average_of_classifiers_as_a_program_of_pytorch(tmp_path):
    options = {"coupling": "piecewise_linear", "components": 4, "condition_bins": 3, **SMALL}
    flow = vector_flow(1, condition_dim=2, members=2, **options | {"norm": "none"})
    [graph] = export(randomize(flow).eval(), tmp_path, "torch", ["log_prob"])
    assert graph.difference < 1e-5
    inputs = _inputs(flow, "log_prob", 5)
    found = torch.export.load(graph.path).module()(**inputs)
    torch.testing.assert_close(found, flow.log_prob(**inputs), atol=1e-4, rtol=1e-4)


def test_tables_of_every_kind_of_column_as_onnx(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    rng = np.random.default_rng(0)
    usual = rng.integers(1, 13, 400) / 8  # one in forty, each
    rows = pd.DataFrame({
        "category": rng.choice(["a", "b", "c"], 400),
        "count": rng.poisson(40, 400),
        "far": np.sinh(4 * rng.normal(size=400)),
        "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, 400), unit="D"),
        "rounded": np.where(rng.random(400) < 0.3, usual, rng.random(400)),
        "gap": np.where(rng.random(400) < 0.3, np.nan, rng.normal(size=400)),
    })  # fmt: skip
    density = realnvp.RealNVPDensity(max_steps=1, validation_fraction=0, random_state=0)
    layer = density.fit(rows).flow_.bijection[0]
    flow = Flow(Chain(layer), (7,)).double().eval()
    graphs = export(flow, tmp_path, "onnx")
    assert all(graph.difference < 1e-6 for graph in graphs), "float64, but for its functions"
    inputs = _inputs(flow, "log_prob", 50)
    found = RUN["onnx"](graphs[1].path, inputs)
    torch.testing.assert_close(found, flow.log_prob(**inputs), atol=1e-5, rtol=1e-5)


def test_what_a_graph_is_made_of_is_not_this_package(tmp_path):
    flow = vector_flow(2, coupling="affine", **SMALL)
    export(flow, tmp_path, "torch", ["sampler"])
    code = (
        "import sys, torch; program = torch.export.load(sys.argv[1]).module();"
        "assert program(latents=torch.zeros(4, 2)).shape == (4, 2);"
        "assert 'realnvp' not in sys.modules"
    )
    file = str(tmp_path / "sampler.pt2")
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, file], check=True)


class _Unfit(realnvp.Bijection):
    """A layer that looks at values, which a graph has none of."""

    def forward(self, x, condition=None):
        return (x if x.sum() > 0 else -x), x.new_zeros(x.shape[0])

    inverse = forward


def test_a_layer_that_cannot_be_exported_is_refused_in_one_line(tmp_path):
    flow = Flow(Chain(_Unfit()), (2,))
    with pytest.raises(ValueError, match="cannot be exported to torch") as caught:
        export(flow, tmp_path, "torch")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_differs_is_not_written(tmp_path, monkeypatch):
    flow = vector_flow(2, coupling="affine", **SMALL)
    monkeypatch.setitem(home.RUN, "torch", lambda path, inputs: inputs["latents"] + 1)
    with pytest.raises(ValueError, match="differs from the flow by"):
        export(flow, tmp_path, "torch", ["sampler"])
    assert list(tmp_path.iterdir()) == []


def test_a_graph_may_round_as_the_flow_does(tmp_path, monkeypatch):
    flow = Flow(Chain(Affine(torch.full((2,), 1e4))), (2,)).eval()  # far from 0, of deviation 1
    exact = copy.deepcopy(flow).double()

    def run(wrong: float) -> list[home.ExportedGraph]:
        monkeypatch.setitem(
            home.RUN, "torch", lambda path, inputs: exact.decode(inputs["latents"].double()) * wrong
        )
        return export(flow, tmp_path, "torch", ["sampler"])

    assert run(1.0)[0].difference > home.TOLERANCE
    with pytest.raises(ValueError, match="more than rounding explains"):
        run(1 + 1e-6)


def test_small_probabilities_are_exact_in_onnx():
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    x = torch.linspace(-80, 20, 101)
    with home._quiet():
        program = home._program(nn.Sigmoid(), {"input": x})
        data = home._onnx(program, {"input": x}, "sampler").model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"input": x.numpy()})
    assert torch.allclose(torch.from_numpy(found), torch.sigmoid(x), rtol=1e-5, atol=0.0)


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="onnx, torch, got 'coreml'"):
        export(vector_flow(2), tmp_path, "coreml")
    with pytest.raises(ValueError, match="got 'encoder'"):
        export(vector_flow(2), tmp_path, "torch", ["encoder"])
