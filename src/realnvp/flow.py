r"""The flow: a bijection with a standard normal prior is a density.

.. math::
    \log p_X(x) = \log \mathcal N(f(x); 0, I) + \log |\det J_f(x)|, \qquad
    \text{bits/dim} = -\frac{\log p_X(x)}{D \log 2}

with everything in :math:`f`: dequantization, logit or standardization, couplings and norms. So the
likelihood is of the raw data, and bits/dim is defined once.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from realnvp.bijections import (
    ActNorm,
    Bijection,
    Chain,
    ClassMeans,
    Coupling,
    Dequantize,
    RunningBatchNorm,
)
from realnvp.bijections.base import Terms, check_log_det, sum_per_example, zero_log_det
from realnvp.bijections.dequantization import Dequantization, Noise
from realnvp.bijections.fitted import ExactBuffers
from realnvp.bijections.outline import as_text, layer_rows
from realnvp.bijections.recompute import Memory, forward_terms
from realnvp.columns.layer import TableColumns
from realnvp.conditioners import Conditioner
from realnvp.conditions import as_condition, may_take_condition
from realnvp.inputs import check_data, check_kind, check_noise, check_overflow
from realnvp.model_info import ModelInfo, check_made_with
from realnvp.round_trip import exact_latents
from realnvp.utils.allocation import keep_freed_memory
from realnvp.utils.evaluation_mode import EvaluationMode, modules
from realnvp.utils.model_folder import FORMAT, check_rebuildable, load_folder, write_model
from realnvp.utils.registry import DISTRIBUTION, find
from realnvp.utils.rng import uniform
from realnvp.utils.tracing import is_traced

__all__ = ["CONDITION_UNITS", "Flow"]

CONDITION_UNITS = ("condition_shift", "condition_scale")
"""Names of the buffers that standardize a numeric condition, which are float64 in every flow."""

_LAYER_TERMS = ("coupling", "norm", "preprocessing")
"""Terms of the library's own layers, which every loss has."""

_OTHER_TERMS = ("prior", "regularizer", "labels", "loss", "gradient", "lr")
"""Other numbers that are reported under the names of terms."""


class Flow(ExactBuffers, nn.Module):
    r"""A density :math:`p_X`: a bijection from data to latents under a standard normal prior.

    Args:
        bijection: from raw data to latents, preprocessing included.
        shape: shape of one example, ``(C, H, W)`` or ``(D,)``; the latents have the same.
        condition_dim: size K of the condition, 0 for none.
        classes: number of classes, if the condition is a label: labels ``(B,)`` then become one-hot
            vectors of length ``condition_dim``, which must be this number.
        scale_penalty: weight of the L2 penalty on the couplings' learned scales.
        label_weight: weight of the labels' cross-entropy in :meth:`loss_terms`, for a flow whose
            last layer is :class:`realnvp.bijections.ClassMeans`.
        config: name and arguments of the builder that made it, which :meth:`save_pretrained`
            needs; see :func:`realnvp.register_builder`.

    Raises:
        ValueError: if there is a condition, but no layer takes one; if a layer after the first
            dequantizes; or if another argument does not fit.

    Attributes:
        memory: how :meth:`loss_terms` keeps what its backward pass needs: "standard",
            "checkpoint" or "invertible"; see :mod:`realnvp.bijections.recompute`.
        trained_on: what the model remembers of its training data, saved with it, or None.
        made_with: versions, machine and date of the training run, recorded when it is first saved.
        calibration: tensors that are saved with the model, from which
            :class:`realnvp.outliers.OutlierScorer` computes outlier scores and p-values, or None.
        origin: where the model was loaded from: "run" (a run directory), "folder" (any other one),
            "shipped" (with the package) or "hub"; None if it was not loaded.
        source: that folder, the name of the shipped model, or the hub's address with its commit.
        condition_shift: ``(K,)``, subtracted from a numeric condition; set from the training data.
        condition_scale: ``(K,)``, by which it is then divided.

    >>> from realnvp import vector_flow
    >>> flow = vector_flow(2, coupling="affine")
    >>> flow.eval().log_prob(torch.zeros(3, 2)).detach()  # the identity: -log(2 pi)
    tensor([-1.8379, -1.8379, -1.8379])
    >>> flow.sample(5).shape
    torch.Size([5, 2])
    """

    exact = CONDITION_UNITS

    condition_shift: Tensor
    condition_scale: Tensor

    def __init__(
        self,
        bijection: Bijection,
        shape: tuple[int, ...],
        *,
        condition_dim: int = 0,
        classes: int | None = None,
        scale_penalty: float = 5e-5,
        label_weight: float = 0.0,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(bijection, Bijection):
            raise ValueError(
                f"a Flow is made of a bijection, such as a Chain, got a {type(bijection).__name__}"
            )
        if not isinstance(shape, Iterable) or not all(isinstance(n, Integral) for n in shape):
            raise ValueError(f"the shape of an example is (D,) or (C, H, W), got {shape!r}")
        if classes is not None and classes != condition_dim:
            raise ValueError(f"{classes} classes need condition_dim={classes}, got {condition_dim}")
        self.bijection = bijection
        self.shape = tuple(shape)
        self.condition_dim = condition_dim
        self.classes = classes
        self.config = config
        self.scale_penalty, self.label_weight = scale_penalty, label_weight
        if label_weight and self.class_means is None:
            raise ValueError("label_weight needs classes, and ClassMeans as the last layer")
        if condition_dim and not any(may_take_condition(m) for m in bijection.modules()):
            raise ValueError(
                f"the flow has condition_dim={condition_dim}, but no layer takes a condition: make "
                f"the conditioners for it, as in MLP(..., condition_dim={condition_dim})"
            )
        self.memory: Memory = "standard"
        self.trained_on: ModelInfo | None = None
        self.made_with: dict[str, Any] | None = None
        self.calibration: dict[str, Tensor] | None = None
        if condition_dim and classes is None:
            # Numbers in any unit reach the layers with mean 0 and standard deviation 1.
            self.register_buffer("condition_shift", torch.zeros(condition_dim, dtype=torch.float64))
            self.register_buffer("condition_scale", torch.ones(condition_dim, dtype=torch.float64))
        self.origin: Literal["run", "folder", "shipped", "hub"] | None = None
        self.source: str | None = None
        self._evaluation_mode = EvaluationMode()
        keep_freed_memory()
        self._norms_checked = False  # whether they have been initialized, which is checked once
        first = self.dequantization
        for module in bijection.modules():
            if isinstance(module, Dequantization) and module is not first:
                raise ValueError("dequantization must be the first layer of the flow's chain")
            if isinstance(module, Bijection) and module.term in _OTHER_TERMS:
                raise ValueError(
                    f"the term {module.term!r} cannot be a layer's: name the term of "
                    f"{type(module).__name__} otherwise"
                )

    @property
    def dequantization(self) -> Dequantization | None:
        """The first layer, if it dequantizes integers; it is the only one that takes noise."""
        layer: Bijection | None = self.bijection
        if isinstance(layer, Chain):
            layer = next(iter(layer), None)
        return layer if isinstance(layer, Dequantization) else None

    @property
    def class_means(self) -> ClassMeans | None:
        """The last layer, if it is a prior with a mean per class."""
        layer = self.bijection
        if self.classes is None or not isinstance(layer, Chain) or not len(layer):
            return None
        last = layer[-1]
        return last if isinstance(last, ClassMeans) else None

    @property
    def body(self) -> Bijection:
        """The bijection without its dequantization, a map of continuous values."""
        if self.dequantization is None:
            return self.bijection
        return self.bijection[1:] if isinstance(self.bijection, Chain) else Chain()

    @property
    def dim(self) -> int:
        """Number D of the data's own dimensions."""
        return math.prod(self.shape)

    @property
    def levels(self) -> int | None:
        """Number of grey levels of discrete data, None for continuous data."""
        layer = self.dequantization
        return layer.levels if isinstance(layer, Dequantize) else None

    @property
    def integers(self) -> tuple[int, ...]:
        """Indices of the discrete columns of a table, which are dequantized."""
        columns = self.columns
        return () if columns is None else tuple(columns.noisy_columns.nonzero()[:, 0].tolist())

    @property
    def columns(self) -> TableColumns | None:
        """The first layer, if it holds a table's columns."""
        layer = self.dequantization
        return layer if isinstance(layer, TableColumns) else None

    @property
    def noisy(self) -> bool:
        """Whether anything is dequantized, so that a log-density is one draw of a bound."""
        return self.dequantization is not None and self.dequantization.noisy

    @property
    def unit(self) -> tuple[float, str]:
        """Unit of reports: the value of one nat of loss per example in it, and its name.

        Images are reported in bits/dim, where lower is better; vectors by their log-density in
        nats, where higher is better.
        """
        if self.levels is None:
            return -1.0, "nats (log-density)"
        return 1 / (self.dim * math.log(2)), "bits/dim"

    @property
    def column_names(self) -> list[str]:
        """Names of the columns of vectors that the model was trained with, or x1, x2, ..."""
        names = None if self.trained_on is None else self.trained_on.columns
        return list(names or [f"x{i + 1}" for i in range(self.dim)])

    @property
    def class_names(self) -> list[str]:
        """Names of the classes that the model is conditioned on; [] if they are numbers."""
        return list((self.trained_on and self.trained_on.categories) or [])

    @property
    def device(self) -> torch.device:
        """Where the model's tensors are."""
        return next(self._tensors()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the latents: float32 or float64.

        Raises:
            ValueError: if the flow was converted to a narrower type, in which neither densities
                nor pixels are exact.
        """
        dtype = next(t.dtype for t in self._tensors() if t.is_floating_point())
        if dtype.itemsize < 4:
            raise ValueError(
                f"a flow computes in float32 or float64, and this one was converted to {dtype}: "
                "load it again, or call flow.float(); to save time, give its conditioners the "
                "narrow type with flow.set_compute_dtype(torch.bfloat16)"
            )
        return dtype

    def _tensors(self) -> Iterator[Tensor]:
        for each in modules(self):
            yield from (t for t in each._parameters.values() if t is not None)
        yield from self.buffers()
        yield torch.empty(0)  # without tensors, a flow is on the CPU

    def summary(self) -> str:
        """Return a table of the layers in their order, by their names in ``state_dict``.

        >>> from realnvp import vector_flow
        >>> print(vector_flow(2, coupling="affine", couplings=1, hidden=4, blocks=0).summary())
        layer               kind                               output  parameters
        bijection.layers.0  Affine                             (2,)             0
        bijection.layers.1  AffineCoupling(ChannelMask(), MLP) (2,)            19
        total                                                                  19
        """
        return as_text(layer_rows(self.bijection, self.shape))

    def _settings(self) -> str:
        """Return what the flow models, in one line."""
        facts: dict[str, Any] = {"shape": self.shape, "levels": self.levels}
        facts |= {"integers": self.integers, "classes": self.classes}
        if self.classes is None:
            facts["condition_dim"] = self.condition_dim
        return ", ".join(f"{name}={value}" for name, value in facts.items() if value)

    def __repr__(self) -> str:
        return f"Flow({self._settings()})\n{self.summary()}"

    # ------------------------------------------------------------------ densities

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return :meth:`log_prob`, so that wrapping a model for several devices works."""
        return self.log_prob(x, condition)

    def log_prob(
        self,
        x: Tensor,
        condition: Tensor | None = None,
        noise: Noise = None,
    ) -> Tensor:
        r"""Return the log-density of raw data, in nats: :math:`\log p_X(x)`.

        A class-conditional flow without labels returns the marginal density of equally likely
        classes: :math:`\log \tfrac{1}{K} \sum_c p(x \mid c)`. For discrete data, the result is one
        draw of the dequantization bound: its mean over the noise is at most :math:`\log P(x)`. Like
        :meth:`encode` and :meth:`sample`, this always computes in evaluation mode; only
        :meth:`loss_terms` trains.

        Args:
            x: ``(B, *shape)``; integers ``0 .. levels - 1`` (uint8) for images, floats for vectors.
            condition: labels ``(B,)`` or vectors ``(B, K)`` if the flow is conditional.
            noise: source of the dequantization noise: a generator, None for PyTorch's global one,
                or the uniform numbers in [0, 1) themselves, of the shape of ``x``.

        Returns:
            ``(B,)``, float32 or wider.

        Raises:
            ValueError: if the shape, type or range is not what the flow models, or values are not
                finite or so large that the computation overflows.
        """
        if condition is None and self.classes is not None:
            joint = self.class_log_probs(x, noise)
            return torch.logsumexp(joint, dim=1) - math.log(self.classes)
        self.check(x, noise)
        self._warn_of_uninitialized()
        with self.evaluating():
            z, log_det = self.latents_and_log_det(
                x, self.as_condition(condition, x.shape[0]), noise
            )
        log_prob = self.log_prior(z) + log_det
        if not is_traced():
            check_overflow(x, log_prob, self.dtype)
        return log_prob

    def class_log_probs(self, x: Tensor, noise: Noise = None) -> Tensor:
        r"""Return :math:`\log p(x \mid c)` of every class, in nats, with the same noise for all.

        A flow whose labels enter the prior alone needs one pass, any other one for each class.
        Arguments are as in :meth:`log_prob`.

        Returns:
            ``(B, classes)``; with equal priors, its softmax over the classes is ``p(c | x)``.

        Raises:
            ValueError: if the flow is not conditioned on classes.

        >>> from realnvp import vector_flow
        >>> vector_flow(2, classes=3).class_log_probs(torch.zeros(4, 2)).shape
        torch.Size([4, 3])
        """
        if self.classes is None:
            raise ValueError("only a class-conditional flow can classify")
        self.check(x, noise)
        if self.noisy and not isinstance(noise, Tensor):
            noise = torch.rand(x.shape, generator=noise, dtype=self.dtype, device=x.device)
        if self.class_means is None:
            labels = [torch.full((x.shape[0],), k, device=x.device) for k in range(self.classes)]
            return torch.stack([self.log_prob(x, label, noise) for label in labels], dim=1)
        self._warn_of_uninitialized()
        with self.evaluating():
            first = self.as_condition(x.new_zeros(x.shape[0], dtype=torch.int64), x.shape[0])
            z, log_det = self.latents_and_log_det(x, first, noise)
            z, _ = self.class_means.inverse(z, first)
            return (self.log_prior(z) + log_det)[:, None] + self.class_means.log_ratios(z)

    def classify(self, x: Tensor, noise: Noise = None) -> Tensor:
        r"""Return the likeliest class of each example, :math:`\arg\max_c p(x \mid c)`: ``(B,)``.

        That is Bayes' rule for equally likely classes; see :meth:`class_log_probs`.
        """
        with torch.no_grad():
            return self.class_log_probs(x, noise).argmax(1)

    def latents_and_log_det(
        self, x: Tensor, condition: Tensor | None = None, noise: Noise = None, margin: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Map raw data to latents, in the mode that the flow is in, without checks.

        Args:
            x: ``(B, *shape)``.
            condition: as the layers take it, see :meth:`as_condition`.
            noise: source of the dequantization noise.
            margin: distance of the noise from both ends of the bin that it is in.

        Returns:
            latents ``(B, *shape)`` and log-determinants ``(B,)``.
        """
        v, log_det = self.dequantize(x, condition, noise, margin)
        z, rest = self.body(v, condition)
        check_log_det(rest, z, self.bijection)
        self._check_latents(z)
        return z, log_det + rest

    def dequantize(
        self, x: Tensor, condition: Tensor | None, noise: Noise, margin: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Return the continuous input of :attr:`body`, and the log-determinants.

        Arguments are as in :meth:`latents_and_log_det`; continuous data are only converted.
        """
        layer = self.dequantization
        if layer is None:
            x = x.to(self.dtype)
            return x, zero_log_det(x)
        return layer(x, condition, noise, margin)

    @torch.no_grad()
    def log_prob_terms(
        self, x: Tensor, condition: Tensor | None = None, noise: Noise = None
    ) -> tuple[Tensor, Terms]:
        """Return the latents of raw data, and the terms of which :meth:`log_prob` is the sum.

        Arguments are as there, but labels cannot be left out: each term belongs to one class.

        Returns:
            latents ``(B, *shape)``, without gradients, and the terms, each ``(B,)`` in nats:
            "prior", the latents' log-density, and the log-determinants of the layers: "coupling",
            "norm", "preprocessing", and any other :attr:`realnvp.Bijection.term` of theirs.

        >>> from realnvp import vector_flow
        >>> flow, x = vector_flow(2).eval(), torch.randn(3, 2)
        >>> z, terms = flow.log_prob_terms(x)
        >>> torch.allclose(sum(terms.values()), flow.log_prob(x))
        True
        """
        self.check(x, noise)
        with self.evaluating():
            context = self.as_condition(condition, x.shape[0])
            v, log_det = self.dequantize(x, context, noise)
            z, log_dets = self.body.forward_terms(v, context)
        zero = torch.zeros_like(log_det)
        terms = {"prior": self.log_prior(z)}
        terms |= {name: log_dets.get(name, zero) for name in (*_LAYER_TERMS, *log_dets)}
        terms["preprocessing"] = terms["preprocessing"] + log_det
        return z, terms

    def bits_per_dim(
        self,
        x: Tensor,
        condition: Tensor | None = None,
        noise: Noise = None,
    ) -> Tensor:
        r"""Return bits/dim of discrete data, :math:`-\log p_X(x) / (D \log 2)`: ``(B,)``.

        Arguments are as in :meth:`log_prob`.

        Raises:
            ValueError: if the data are continuous: their density depends on the units, so bits/dim
                are meaningless. Use :meth:`log_prob`.
        """
        if self.levels is None:
            raise ValueError(
                "bits/dim is defined for discrete data (images with levels); "
                "use log_prob, in nats, for continuous data"
            )
        return -self.log_prob(x, condition, noise) / (self.dim * math.log(2))

    def loss_terms(
        self,
        x: Tensor,
        condition: Tensor | None = None,
        noise: Noise = None,
        smoothing: Tensor | None = None,
    ) -> Terms:
        """Return the terms of the loss, in nats per example, averaged over the batch.

        This is for training: in training mode, normalizations use the statistics of the batch and
        update their running averages. The terms add up to the loss.

        Args:
            x: this and the next two are as in :meth:`log_prob`.
            condition: labels or vectors.
            noise: source of the dequantization noise.
            smoothing: noise ``(B, *shape)`` to add to the data, after dequantization.

        Returns:
            scalars: "prior", minus the latents' log-density; "coupling", "norm", "preprocessing"
            and any other :attr:`realnvp.Bijection.term`, minus the log-determinants of those
            layers; and "regularizer", L2 of the couplings' learned scales (5e-5 in the paper,
            section 4). With ``label_weight`` also "labels": that weight times the cross-entropy of
            the labels by Bayes' rule (the information bottleneck of arXiv 2001.06448, section 3).

        Raises:
            ValueError: if there are no examples, or they are not what the flow models.
        """
        check_kind(x, self.shape, self.levels)
        if x.shape[0] == 0:  # their statistics are NaN, which normalizations would keep
            raise ValueError("the loss of a batch without examples is not defined")
        # Values of labels on another device are not checked: every step would wait for it.
        check = condition is not None and condition.device.type == "cpu"
        context = self.as_condition(condition, x.shape[0], check)
        v, log_det = self.dequantize(x, context, noise)
        v = v if smoothing is None else v + smoothing
        z, log_dets = forward_terms(self.body, v, context, self.memory)
        for log_det_of_term in log_dets.values():
            check_log_det(log_det_of_term, z, self.bijection)
        self._check_latents(z)
        zero = z.new_zeros(())
        log_dets["preprocessing"] = log_dets.get("preprocessing", zero) + log_det
        terms = {"prior": -self.log_prior(z).mean()}
        for name in dict.fromkeys((*_LAYER_TERMS, *log_dets)):
            terms[name] = -log_dets.get(name, zero).mean()
        couplings = dict.fromkeys(m for m in modules(self) if isinstance(m, Coupling))
        penalty = zero + sum(coupling.penalty() for coupling in couplings)
        terms["regularizer"] = self.scale_penalty * penalty
        if self.label_weight and self.class_means is not None and context is not None:
            joint = self.class_means.log_ratios(self.class_means.inverse(z, context)[0])
            log_probs = (torch.log_softmax(joint, dim=1) * context).sum(1)
            terms["labels"] = -self.label_weight * log_probs.mean()
        return terms

    # ------------------------------------------------------------------ latents and samples

    def encode(
        self,
        x: Tensor,
        condition: Tensor | None = None,
        noise: Noise = None,
    ) -> Tensor:
        """Map raw data to latents: ``(B, *shape) -> (B, *shape)``.

        Integers (pixels, integer columns) are restored exactly: ``decode(encode(x))`` is ``x``. See
        :mod:`realnvp.round_trip`. Arguments are as in :meth:`log_prob`, but without labels, a
        class-conditional flow takes those that :meth:`classify` returns, which :meth:`decode`
        needs, too.

        Raises:
            ValueError: if the input is not what the flow models, or if some examples are stretched
                so much that no latents in the flow's precision decode to them.
        """
        self.check(x, noise)
        if condition is None and self.classes is not None:
            condition = self.classify(x, noise)
        with self.evaluating():
            context = self.as_condition(condition, x.shape[0])
            if not self.noisy:
                z, _ = self.latents_and_log_det(x, context)
                if not is_traced():
                    check_overflow(x, z, self.dtype)
                return z
            z, _, _, lost = exact_latents(self, x, context, noise)
        if lost.any():
            wider = "" if self.dtype == torch.float64 else "; use flow.double()"
            raise ValueError(
                f"{int(lost.sum())} of {x.shape[0]} examples, the first at index "
                f"{int(lost.int().argmax())}, cannot be decoded exactly: the flow stretches them "
                f"further than {str(self.dtype).removeprefix('torch.')} resolves{wider}"
            )
        return z

    def _check_latents(self, z: Tensor) -> None:
        if tuple(z.shape[1:]) != self.shape:
            raise ValueError(
                f"the bijection maps examples of shape {self.shape} to {tuple(z.shape[1:])}: the "
                "latents have the shape of the data"
            )

    def example_noise(self, seed: tuple[int, ...], start: int, count: int) -> Tensor | None:
        """Return the noise of consecutive examples of a sequence; None if the flow takes none.

        Args:
            seed: seed of the sequence; see :mod:`realnvp.utils.rng`.
            start: index of the first example.
            count: number of examples.
        """
        if not self.noisy:
            return None
        return uniform(seed, start, count, self.shape, self.dtype, self.device)

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map latents to raw data, the inverse of :meth:`encode`.

        Args:
            z: latents ``(B, *shape)``.
            condition: as in :meth:`log_prob`.

        Returns:
            ``(B, *shape)``: integers for images (uint8 up to 256 levels), floats for vectors.

        Raises:
            ValueError: if the shape of the latents or the condition does not fit the flow.
        """
        return self.decode_and_log_det(z, condition)[0]

    def decode_and_log_det(
        self, z: Tensor, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return :meth:`decode` of latents, and the log-determinants ``(B,)`` of that map."""
        if not isinstance(z, Tensor):
            raise ValueError(
                f"latents are a tensor, got {type(z).__name__}: pass torch.as_tensor(z)"
            )
        if tuple(z.shape[1:]) != self.shape:
            sizes = ", ".join(map(str, self.shape))
            raise ValueError(f"latents must have shape (B, {sizes}), got {tuple(z.shape)}")
        with self.evaluating():
            context = self.as_condition(condition, z.shape[0])
            x, log_det = self.bijection.inverse(z.to(self.dtype), context)
        check_log_det(log_det, z, self.bijection, "the inverse of the bijection")
        return x, log_det

    @torch.no_grad()
    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Draw ``n`` examples.

        Args:
            n: number of examples.
            temperature: standard deviation of the prior; below 1 gives likelier, less varied
                samples, which are then not draws from the model's density.
            condition: labels ``(n,)`` or vectors ``(n, K)`` if the flow is conditional. Labels that
                are left out are drawn, all classes being equally likely.
            generator: source of the latents, and of labels.
            batch_size: number of examples per batch; 256 images or 262,144 values if left out.
            progress: called after every batch with the number of examples done, and the total.

        Returns:
            ``(n, *shape)``, as :meth:`decode` returns them.

        Raises:
            ValueError: if ``n`` or ``batch_size`` is no integer from 1, the temperature is negative
                or not finite, or the condition does not fit the flow.
        """
        if batch_size is None:
            batch_size = self._batch_size
        elif not isinstance(batch_size, Integral) or batch_size < 1:
            raise ValueError(f"batch_size must be an integer, 1 or more, got {batch_size}")
        z = self._draw_latents(n, temperature, generator)
        if condition is None and self.classes is not None:
            classes = (self.classes, (n,))
            condition = torch.randint(*classes, generator=generator, device=self.device)
        self.as_condition(condition, n)  # checks it
        parts: list[Tensor] = []
        for part, context in _batches(z, condition, batch_size):
            parts.append(self.decode(part, context))
            if progress is not None:
                progress(min(len(parts) * batch_size, n), n)
        return torch.cat(parts)

    @torch.no_grad()
    def sample_and_log_prob(
        self,
        n: int,
        condition: Tensor | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Draw samples with the log-density that they are drawn from, in one inverse pass.

        At temperature :math:`T`, latents have the density :math:`\mathcal N(0, T^2 I)`, and so

        .. math:: \log q_T(x) = \log \mathcal N(z; 0, T^2 I) - \log |\det \partial x / \partial z|

        which is the log-density of the *tempered* samples. At 1 it is :meth:`log_prob`.

        Arguments are as in :meth:`sample`, but labels cannot be left out.

        Returns:
            samples ``(n, *shape)`` and their log-densities ``(n,)`` in nats.

        Raises:
            ValueError: if the flow models discrete values, whose probability is not the density of
                one latent; or if an argument does not fit, as in :meth:`sample`.

        >>> from realnvp import vector_flow
        >>> flow = vector_flow(2).eval()
        >>> x, log_prob = flow.sample_and_log_prob(5)
        >>> torch.allclose(log_prob, flow.log_prob(x), atol=1e-4)
        True
        """
        z = self._draw_latents(n, temperature, generator)
        self.as_condition(condition, n)  # checks it before the first batch
        batches = _batches(z, condition, self._batch_size)
        pairs = [self.push_forward(part, context, temperature) for part, context in batches]
        samples, log_probs = zip(*pairs, strict=True)
        return torch.cat(samples), torch.cat(log_probs)

    def rsample_and_log_prob(
        self,
        n: int,
        condition: Tensor | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw samples and log-densities as :meth:`sample_and_log_prob`, with gradients.

        Samples are a differentiable function of noise and parameters (reparameterized), and so are
        their log-densities, through the samples too. All ``n`` are one batch.

        >>> from realnvp import vector_flow
        >>> x, log_prob = vector_flow(2).rsample_and_log_prob(5)
        >>> x.requires_grad, log_prob.requires_grad
        (True, True)
        """
        return self.push_forward(
            self._draw_latents(n, temperature, generator), condition, temperature
        )

    def push_forward(
        self, z: Tensor, condition: Tensor | None = None, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Map latents that were drawn at a temperature to samples and their log-densities.

        See :meth:`sample_and_log_prob`.
        """
        if self.noisy:
            raise ValueError(
                "a flow of discrete values has no density of single samples: call sample, and then "
                "log_prob or bits_per_dim"
            )
        if condition is None and self.classes is not None:
            raise ValueError(
                "pass labels: a density over all classes takes a pass for each one, as sample and "
                "then log_prob do"
            )
        if temperature <= 0:
            raise ValueError(
                f"samples at temperature {temperature} have no density: it must be above 0"
            )
        x, log_det = self.decode_and_log_det(z, condition)
        return x, self.log_prior(z / temperature) - self.dim * math.log(temperature) - log_det

    @property
    def _batch_size(self) -> int:
        """Number of samples that are decoded at once: 256 images or 262,144 values."""
        return 256 if len(self.shape) == 3 else max(1, 2**18 // self.dim)

    def _draw_latents(
        self, n: int, temperature: float, generator: torch.Generator | None
    ) -> Tensor:
        if not isinstance(n, Integral) or n < 1:
            raise ValueError(f"the number of samples must be an integer, 1 or more, got {n}")
        if not 0 <= temperature < math.inf:
            raise ValueError(f"temperature is a standard deviation, 0 or more, got {temperature}")
        return temperature * torch.randn(
            n, *self.shape, generator=generator, device=self.device, dtype=self.dtype
        )

    def as_distribution(self, condition: Tensor | None = None) -> Distribution:
        """Return the density as a distribution of PyTorch, with gradients.

        Args:
            condition: labels ``(...)``, or vectors ``(..., K)``, if the flow is conditional: one
                distribution for each; see :class:`realnvp.interop.FlowDistribution`.

        >>> from realnvp import vector_flow
        >>> vector_flow(2, classes=3).as_distribution(torch.tensor([0, 2])).sample((5,)).shape
        torch.Size([5, 2, 2])
        """
        distribution: Distribution = find(DISTRIBUTION)(self, condition)
        return distribution

    def latent_scales(self) -> Tensor:
        """Return the scale of each latent entry: integers of :attr:`shape`, 0 the finest.

        Entries of scale 0 are factored out first; the last scale holds what passed through all.
        """
        return self.bijection.permute_index(torch.zeros(1, *self.shape, dtype=torch.int64))[0]

    # ------------------------------------------------------------------ saving

    def settings(self) -> dict[str, Any]:
        """Return the settings that are saved with the weights, from which the model can be rebuilt.

        Raises:
            ValueError: if the flow was not made by a builder.
        """
        if self.config is None:
            raise ValueError(
                "only flows made by a builder can be saved, such as image_flow, vector_flow or a "
                "function of your own with @realnvp.register_builder: there is no way to rebuild "
                "this one"
            )
        trained_on = None if self.trained_on is None else self.trained_on.as_dict()
        notes = {"trained_on": trained_on, "made_with": self.made_with}
        return {"model_type": "realnvp", "format": FORMAT, **self.config, **notes}

    def read_notes(self, settings: dict[str, Any]) -> None:
        """Take the notes on data and training from saved settings, which are not trusted.

        Raises:
            ValueError: if they do not have the form of ours.
        """
        check_made_with(settings.get("made_with"))
        saved = settings.get("trained_on")
        self.trained_on = None if saved is None else ModelInfo.from_dict(saved)
        self.made_with = settings.get("made_with")

    def save_pretrained(self, folder: str | Path, weights: dict[str, Tensor] | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors``, from which the model can be rebuilt.

        A calibration goes into ``calibration.safetensors``.

        Args:
            folder: folder to write into; files of these names are replaced.
            weights: weights to save instead of the flow's own, by the same names.

        Raises:
            ValueError: if the flow was not made by a builder, or its layers were changed since.
            OSError: if the files cannot be written.
        """
        if weights is None:  # a training run passes weights of the flow that it has built
            check_rebuildable(self)
            weights = self.state_dict()
        # Apple's GPUs have no float64.
        weights = weights | {n: weights[n].double() for n in CONDITION_UNITS if n in weights}
        write_model(Path(folder), self.settings(), weights, self.calibration)

    @staticmethod
    def from_pretrained(folder: str | Path) -> Flow:
        """Return the model that is saved in a folder, in evaluation mode, on the CPU.

        Raises:
            FileNotFoundError: if the folder has no saved model.
            ValueError: if its files are corrupt.
        """
        return load_folder(Path(folder))

    def set_compute_dtype(self, dtype: torch.dtype | None) -> None:
        """Let all conditioners compute in ``dtype``; None is the type of their input."""
        for module in self.modules():
            if isinstance(module, Conditioner):
                module.compute_dtype = dtype

    # ------------------------------------------------------------------ internals

    def check(self, x: Tensor, noise: Noise = None) -> None:
        """Raise a ValueError unless data are what the flow models, and noise is uniform.

        Values are not checked in a graph that is being compiled or exported, or in a function that
        ``torch.func`` transforms: there they cannot be read.
        """
        if self.columns is None and not is_traced():
            check_data(x, self.shape, self.levels)
        else:  # a table's layer checks the values, since missing ones are valid there
            check_kind(x, self.shape, self.levels)
        if isinstance(noise, Tensor) and not is_traced():
            check_noise(noise)

    def _warn_of_uninitialized(self) -> None:
        """Warn, once, if normalization layers have seen no data."""
        if self._norms_checked or is_traced():
            return
        self._norms_checked = True
        norms = {
            name: m for name, m in self.named_modules() if isinstance(m, ActNorm | RunningBatchNorm)
        }
        fresh = [name for name, norm in norms.items() if not norm.initialized]
        if fresh:
            warnings.warn(
                f"{len(fresh)} normalization layers ({fresh[0]} first) have seen no data, so this "
                "density is of a flow before training: call loss_terms in training mode on a "
                "batch, or train the flow",
                UserWarning,
                stacklevel=3,
            )

    def log_prior(self, z: Tensor) -> Tensor:
        """Return the log-density of latents ``(B, *shape)`` under the prior, ``(B,)``."""
        return -0.5 * (sum_per_example(z.square()) + self.dim * math.log(2 * math.pi))

    def evaluating(self) -> AbstractContextManager[None]:
        """Compute in evaluation mode inside this context; several threads may be in it."""
        return self._evaluation_mode.of(self)

    def as_condition(
        self, condition: Tensor | None, batch: int, check: bool = True
    ) -> Tensor | None:
        """Return the condition as the layers take it.

        It is checked, in the flow's type, labels one-hot, and numbers standardized:
        ``(condition - condition_shift) / condition_scale``.

        Args:
            condition: labels ``(B,)`` or vectors ``(B, K)``.
            batch: number B of examples.
            check: also check the values, which synchronizes with their device.
        """
        check = check and not is_traced()
        if self.classes is not None or not self.condition_dim or condition is None:
            dtype = self.dtype
            return as_condition(condition, batch, self.condition_dim, self.classes, dtype, check)
        wide = condition.dtype if condition.is_floating_point() else self.dtype
        numbers = as_condition(condition, batch, self.condition_dim, None, wide, check)
        assert numbers is not None  # only without a condition
        return ((numbers - self.condition_shift) / self.condition_scale).to(self.dtype)

    def check_values(self) -> None:
        """Raise ValueError unless names are as many as columns and classes, and scales positive."""
        counts = {"columns": self.dim if len(self.shape) == 1 else None, "categories": self.classes}
        for name, count in counts.items():
            names = None if self.trained_on is None else getattr(self.trained_on, name)
            if names is not None and count is not None and len(names) != count:
                raise ValueError(f"trained_on must name {count} {name}, got {len(names)}")
        if self.condition_dim and self.classes is None and not (self.condition_scale > 0).all():
            raise ValueError("condition_scale must be positive")


def _batches(
    z: Tensor, condition: Tensor | None, batch_size: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield latents with their conditions, a batch at a time."""
    parts = z.split(batch_size)
    conditions = [None] * len(parts) if condition is None else condition.split(batch_size)
    return zip(parts, conditions, strict=True)
