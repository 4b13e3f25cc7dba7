"""Flows for other libraries: distributions of PyTorch, exported graphs, and models on a hub."""

from realnvp.interop.distributions import FlowDistribution, FlowTransform
from realnvp.interop.export import export

__all__ = ["FlowDistribution", "FlowTransform", "export"]
