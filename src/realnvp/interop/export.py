r"""Export a flow as graphs that run without this package, and without PyTorch.

Other programs need two graphs of a flow:

- *sampler*: latents ``(B, *shape)``, and a condition if there is one, to data. The latents are
  standard normal numbers, times the temperature, which the caller of the graph draws.
- *log_prob*: data, noise and condition to log-densities ``(B,)`` in nats. The noise, uniform on
  [0, 1) and of the data's shape, is only an input where something is dequantized.

The size of the batch is free. A graph does not check its input. An inverse that needs a search is a
loop in the graph, which ends when every element of the batch is done.

Each graph is compared with the flow, with a batch size that differs from the traced one, before its
file is written: see :func:`export`.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from realnvp.flow import Flow
from realnvp.utils.files import replacing

__all__ = ["TOLERANCE", "ExportedGraph", "Format", "Part", "export"]

Format = Literal["onnx", "torch"]
Part = Literal["sampler", "log_prob"]

SUFFIX: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}

TOLERANCE = 1e-4
"""Largest difference between a graph and its flow, apart from rounding; see :func:`export`."""

ROUNDINGS = 4.0
"""Largest difference of a graph in an example, as a multiple of the flow's own rounding errors
there: it rounds in another order, and inverses of nearly singular maps amplify that."""

TRACED, COMPARED = 3, 8
"""Batch sizes with which a graph is traced, and compared."""


@dataclass(frozen=True)
class ExportedGraph:
    """A graph that was written.

    Attributes:
        part: "sampler" or "log_prob".
        path: its file.
        inputs: names of its inputs, in order.
        difference: largest difference from the flow, in the unit of :func:`export`.
    """

    part: Part
    path: Path
    inputs: tuple[str, ...]
    difference: float


class _Sampler(nn.Module):
    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, latents: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.flow.decode(latents, condition)


class _LogProb(nn.Module):
    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(
        self, x: Tensor, noise: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        return self.flow.log_prob(x, condition, noise)


PARTS: dict[Part, Callable[[Flow], nn.Module]] = {"sampler": _Sampler, "log_prob": _LogProb}


def export(
    flow: Flow,
    folder: str | Path,
    format: Format = "onnx",
    parts: Sequence[Part] = get_args(Part),
    progress: Callable[[int, int], None] | None = None,
) -> list[ExportedGraph]:
    r"""Write graphs of a flow, each after a comparison with the flow.

    The difference of a sampler is in standard deviations of the data, column by column. For images,
    it is how far the flow's value lies outside of the level that the graph returns, as a fraction
    of the range of grey levels. For a log-density, it is in nats for each of the D dimensions.

    Args:
        flow: the flow, on the CPU.
        folder: where to write ``sampler.onnx`` and ``log_prob.onnx``, or ``.pt2``; made if needed.
        format: "onnx", for ONNX Runtime and others, which needs ``pip install '.[onnx]'``; or
            "torch", for :func:`torch.export.load`.
        parts: the graphs to write.
        progress: called with the number of steps done, and the total.

    Raises:
        ValueError: if a layer cannot be exported, or a graph differs from the flow by more; nothing
            of it is then written.
        ModuleNotFoundError: if a package of the extra is not installed.
        OSError: if a file cannot be written.

    >>> import tempfile
    >>> from realnvp import vector_flow
    >>> flow = vector_flow(2, coupling="affine", couplings=2, hidden=4, blocks=0, norm="none")
    >>> [graph] = export(flow, tempfile.mkdtemp(), "torch", ["log_prob"])
    >>> graph.path.name, graph.inputs, graph.difference < 1e-6
    ('log_prob.pt2', ('x',), True)
    >>> scorer = torch.export.load(graph.path).module()
    >>> torch.allclose(scorer(x=torch.ones(5, 2)), flow.log_prob(torch.ones(5, 2)))
    True
    """
    for value, choices in ((format, get_args(Format)), *((part, get_args(Part)) for part in parts)):
        if value not in choices:
            raise ValueError(f"an export is one of {', '.join(choices)}, got {value!r}")
    if flow.device.type != "cpu":
        raise ValueError(f"a flow is exported from the CPU, and this one is on {flow.device}")
    done: list[ExportedGraph] = []
    steps = [(part, step) for part in parts for step in ("trace", "convert", "compare")]

    def begin(part: Part, step: str) -> None:
        if progress is not None:
            progress(steps.index((part, step)), len(steps))

    with flow.evaluating(), torch.no_grad(), _quiet():
        for part in parts:
            module = PARTS[part](flow)
            path = Path(folder) / f"{part}{SUFFIX[format]}"
            inputs = _inputs(flow, part, COMPARED)
            begin(part, "trace")
            try:
                program: Any = _program(module, _inputs(flow, part, TRACED))
                begin(part, "convert")
                if format == "onnx":
                    program = _onnx(program, inputs, part)
            except (ModuleNotFoundError, MemoryError):
                raise
            except Exception as error:  # of any kind: each step in PyTorch raises its own
                raise ValueError(
                    f"the {part} of this flow cannot be exported to {format}: {_reason(error)}"
                ) from error
            with replacing(path) as temporary:
                if format == "onnx":
                    program.save(temporary)
                else:
                    torch.export.save(program, temporary)
                begin(part, "compare")
                outputs = RUN[format](temporary, inputs)
                differences = _differences(flow, part, outputs, inputs)
                wrong = ~(differences <= TOLERANCE)
                if wrong.any():
                    wrong &= ~(differences <= ROUNDINGS * _roundings(flow, part, inputs))
                if wrong.any():
                    raise ValueError(
                        f"the exported {part} differs from the flow by "
                        f"{differences[wrong].max():.1e}, more than rounding explains: it is not "
                        f"written; use the other format"
                    )
            done.append(ExportedGraph(part, path, tuple(inputs), differences.max().item()))
    return done


def _inputs(flow: Flow, part: Part, n: int) -> dict[str, Tensor]:
    """Return inputs of a graph by name, reproducible: latents, or samples of the flow's own."""
    generator = torch.Generator().manual_seed(n)
    inputs: dict[str, Tensor] = {}
    condition = None
    if flow.classes is not None:
        condition = torch.arange(n) % flow.classes
    elif flow.condition_dim:
        normal = torch.randn(n, flow.condition_dim, generator=generator, dtype=flow.dtype)
        wide = flow.dtype if flow.columns is None else torch.float64  # the type of ``x``
        condition = (flow.condition_shift + flow.condition_scale * normal).to(wide)
    if part == "sampler":
        inputs["latents"] = torch.randn(n, *flow.shape, generator=generator, dtype=flow.dtype)
    else:
        inputs["x"] = flow.sample(n, condition=condition, generator=generator)
        if flow.noisy:
            inputs["noise"] = torch.rand(n, *flow.shape, generator=generator, dtype=flow.dtype)
    if condition is not None:
        inputs["condition"] = condition
    return inputs


def _program(module: nn.Module, inputs: dict[str, Tensor]) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch")
    dynamic = {name: {0: batch} for name in inputs}
    return torch.export.export(module, (), inputs, dynamic_shapes=dynamic, strict=False)


def _onnx(program: torch.export.ExportedProgram, inputs: dict[str, Tensor], part: Part) -> Any:
    import onnxruntime  # noqa: F401 -- report a missing package early
    import onnxscript  # noqa: F401

    from realnvp.interop.special import DECOMPOSITIONS

    exported: Any = torch.onnx.export(
        program.run_decompositions(DECOMPOSITIONS),
        kwargs=inputs,
        input_names=list(inputs),
        output_names=["samples" if part == "sampler" else "log_prob"],
        dynamic_shapes={name: {0: "batch"} for name in inputs},
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    _replace_sigmoids(exported.model)
    return exported


def _replace_sigmoids(model: Any) -> None:
    """Compute sigmoids by softplus, so that small values are exact, as a mixture's tails need.

    ONNX Runtime's own operator is wrong by a seventh at -15 in float32; in float64 it is exact,
    and there is no softplus. PyTorch translates the body of a loop by its own table, so this is
    done in the finished graph.
    """
    import onnx_ir as ir

    for i, node in enumerate([*ir.traversal.RecursiveGraphIterator(model.graph)]):
        if node.op_type == "Sigmoid" and node.outputs[0].dtype != ir.DataType.DOUBLE:
            value, nodes = node.inputs[0], []
            for j, name in enumerate(("Neg", "Softplus", "Neg", "Exp")):
                value, before = ir.Value(name=f"sigmoid_{i}_{j}"), value
                nodes.append(ir.node(name, [before], outputs=[value]))
            value.type, value.shape = node.outputs[0].type, node.outputs[0].shape
            ir.convenience.replace_nodes_and_values(
                node.graph, node, [node], nodes, node.outputs, [value]
            )


def _run_onnx(path: Path, inputs: dict[str, Tensor]) -> Tensor:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # no messages about simplifying the graph
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    [output] = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    return torch.from_numpy(output)


def _run_torch(path: Path, inputs: dict[str, Tensor]) -> Tensor:
    return torch.export.load(path).module()(**inputs)


RUN: dict[Format, Callable[[Path, dict[str, Tensor]], Tensor]] = {
    "onnx": _run_onnx,
    "torch": _run_torch,
}


def _output(flow: Flow, part: Part, inputs: dict[str, Tensor]) -> Tensor:
    """Return what a graph computes, from the flow; for images, before rounding to grey levels."""
    condition = inputs.get("condition")
    if part == "log_prob":
        return flow.log_prob(inputs["x"], condition, inputs.get("noise"))
    latents = inputs["latents"]
    if flow.levels is None:
        return flow.decode(latents, condition)
    return flow.body.inverse(latents, flow.as_condition(condition, len(latents)))[0].clamp(0, 1)


def _unit(flow: Flow, part: Part, condition: Tensor | None) -> Tensor:
    """Return the unit of differences, for all examples."""
    if part == "log_prob":
        return torch.tensor(float(flow.dim))
    if flow.levels is not None:
        return torch.tensor(1.0)
    deviations = flow.sample(256, condition=_repeated(condition, 256)).nan_to_num().std(0)
    return deviations.clamp(min=torch.finfo(flow.dtype).tiny)


def _differences(flow: Flow, part: Part, outputs: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """Return the largest difference of each example between a graph's output and the flow's."""
    expected = _output(flow, part, inputs)
    if part == "sampler" and flow.levels is not None:
        low, high = outputs / flow.levels, (outputs + 1.0) / flow.levels
        return _largest(torch.maximum(low - expected, expected - high).clamp(min=0))
    missing = torch.isnan(expected)  # of a table
    if not torch.equal(missing, torch.isnan(outputs)):
        return torch.full((len(outputs),), torch.inf)
    unit = _unit(flow, part, inputs.get("condition"))
    return _largest(((outputs - expected).abs() / unit).masked_fill(missing, 0.0))


def _roundings(flow: Flow, part: Part, inputs: dict[str, Tensor]) -> Tensor:
    """Return the flow's own largest rounding error of each example, in its type."""
    exact = copy.deepcopy(flow).double()
    doubles = {n: t.double() if t.is_floating_point() else t for n, t in inputs.items()}
    error = (_output(flow, part, inputs) - _output(exact, part, doubles)).abs()
    return _largest((error / _unit(flow, part, inputs.get("condition"))).nan_to_num(0.0))


def _largest(values: Tensor) -> Tensor:
    return values if values.ndim == 1 else values.flatten(1).amax(1)


def _repeated(condition: Tensor | None, n: int) -> Tensor | None:
    return None if condition is None else condition[torch.arange(n) % len(condition)]


def _reason(error: BaseException) -> str:
    """Return the first line with a reason, of the first error in a chain."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence internal warnings of PyTorch and ONNX during export."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
