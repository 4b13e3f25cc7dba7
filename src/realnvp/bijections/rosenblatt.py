r"""A mixture of Gaussians made standard normal: the layer that a table's flow starts with.

A flow of a few hundred rows has to learn everything from noise, correlations and clusters
included, unless it starts with them. Any density is a flow by its conditional distribution
functions (Rosenblatt, Annals of Mathematical Statistics 23, 1952):
:math:`z_i = \Phi^{-1}(F(x_i \mid x_1 \dots x_{i-1}))` is standard normal and independent of the
others. For a mixture of Gaussians these are mixtures of Gaussians again, in closed form
(:mod:`realnvp.bijections.gaussian_mixture`). With :class:`Rosenblatt` as its first layer, a flow
starts as the mixture that fits the data, and the couplings only learn the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from realnvp.bijections.base import Bijection
from realnvp.bijections.gaussian_mixture import examples_last, gaussianize, invert_mixture

__all__ = ["Rosenblatt"]


class Rosenblatt(Bijection):
    r"""A fixed map that takes a mixture of K Gaussians to the standard normal.

    .. math::
        z_i = \Phi^{-1}\Big(\sum_k w_{ik} \Phi(u_{ki})\Big), \qquad
        u_k = L_k^{-1} (x - \mu_k), \qquad
        w_{ik} \propto \pi_k \prod_{j < i} \mathcal N(u_{kj}) / (L_k)_{jj}

    for the covariances :math:`L_k L_k^T`; the weights :math:`w_{ik}` are the components'
    probabilities given the columns before the i-th. A single Gaussian is whitened,
    :math:`z = L^{-1} (x - \mu)`: since :math:`L` is lower triangular, :math:`z_1` is still the
    first column, and columns keep their meaning, unlike under a rotation.

    The mixture may depend on the condition, in one of two ways; :meth:`shapes` returns the shapes
    of the tensors of each:

    - **Classes.** The tensors have a leading axis of C classes, and the one-hot condition
      ``(B, C)`` chooses the mixture of each row.
    - **Numeric condition** of M numbers. The mixture is of the condition and the row
      *jointly*: the first M of its M + D columns are the condition. The map is of the last D
      columns, and its density is the mixture's conditional density :math:`p(x \mid c)`: a mixture
      of linear regressions on the condition, whose weights :math:`w_{ik}` depend on it as well
      (a Gaussian mixture of experts). Any Gaussian mixture fitted to the rows ``(c, x)`` will do.

    Args:
        means: :math:`\mu`, ``(K, D)``; with classes ``(C, K, D)``.
        factors: :math:`L`, ``(K, D, D)``, lower triangular with a positive diagonal; with classes
            ``(C, K, D, D)``. Identities by default.
        weights: :math:`\pi`, ``(K,)``, positive, with the sum 1; with classes ``(C, K)``. Equal
            by default.
        condition_dim: number M of the leading columns that are a numeric condition.

    Raises:
        ValueError: if the shapes do not fit each other, or the values do not make a mixture.

    >>> layer = Rosenblatt(torch.tensor([[1.0, 0.0]]), torch.tensor([[[2.0, 0.0], [1.0, 1.0]]]))
    >>> z, log_det = layer(torch.tensor([[3.0, 2.0]]))
    >>> z, log_det  # -log 2
    (tensor([[1., 1.]]), tensor([-0.6931]))

    The second column given the first is a Gaussian with the mean ``(c - 1) / 2``:

    >>> layer = Rosenblatt(layer.means, layer.factors, condition_dim=1)
    >>> layer(torch.tensor([[2.0]]), condition=torch.tensor([[3.0]]))
    (tensor([[1.]]), tensor([-0.]))
    """

    term = "preprocessing"
    has_analytic_inverse = False

    means: Tensor
    factors: Tensor
    weights: Tensor

    def __init__(
        self,
        means: Tensor,
        factors: Tensor | None = None,
        weights: Tensor | None = None,
        condition_dim: int = 0,
    ) -> None:
        super().__init__()
        *classes, k, dim = means.shape
        if factors is None:
            factors = means.new_zeros(*classes, k, dim, dim)
            factors.diagonal(dim1=-2, dim2=-1).fill_(1)
        weights = means.new_full((*classes, k), 1 / k) if weights is None else weights
        if len(classes) > 1 or factors.shape != (*classes, k, dim, dim):
            raise ValueError(
                f"means of shape {tuple(means.shape)} need factors of shape "
                f"{(*classes, k, dim, dim)}, got {tuple(factors.shape)}"
            )
        if weights.shape != (*classes, k):
            raise ValueError(f"weights must have shape {(*classes, k)}, got {tuple(weights.shape)}")
        if condition_dim and (classes or condition_dim >= dim):
            raise ValueError(
                f"a numeric condition of {condition_dim} columns needs means of shape "
                f"(K, {condition_dim} + D), got {tuple(means.shape)}"
            )
        self.classes = classes[0] if classes else None
        self.condition_dim = condition_dim
        self.takes_condition = bool(classes) or condition_dim > 0
        self.register_buffer("means", means.clone())
        self.register_buffer("factors", factors.clone())
        self.register_buffer("weights", weights.clone())
        if not means.is_meta:  # on the meta device, where sizes are compared, there are no values
            self.check_values()

    def check_values(self) -> None:
        for name, tensor in self.named_buffers(recurse=False):
            if not torch.isfinite(tensor).all():
                raise ValueError(f"the {name} of a mixture must be finite")
        if not torch.equal(self.factors, self.factors.tril()):
            raise ValueError("the factors of a mixture must be lower triangular")
        diagonal = self.factors.diagonal(dim1=-2, dim2=-1)
        for name, tensor in (("factors' diagonals", diagonal), ("weights", self.weights)):
            if not (tensor >= torch.finfo(tensor.dtype).tiny).all():
                raise ValueError(f"the {name} of a mixture must be positive")

    @staticmethod
    def shapes(
        components: int, dim: int, condition_dim: int = 0, classes: int | None = None
    ) -> dict[str, tuple[int, ...]]:
        """Return the shape of each buffer.

        Args:
            components: number K of Gaussians, of each class if there are classes.
            dim: number D of columns of the data.
            condition_dim: number M of columns of a numeric condition; 0 for none. Ignored if
                there are classes.
            classes: number C of classes, if the condition is a label.

        >>> Rosenblatt.shapes(3, 5)
        {'means': (3, 5), 'factors': (3, 5, 5), 'weights': (3,)}
        >>> Rosenblatt.shapes(3, 5, condition_dim=2)
        {'means': (3, 7), 'factors': (3, 7, 7), 'weights': (3,)}
        >>> Rosenblatt.shapes(3, 5, classes=4)
        {'means': (4, 3, 5), 'factors': (4, 3, 5, 5), 'weights': (4, 3)}
        """
        leading = (components,) if classes is None else (classes, components)
        size = dim if classes is not None else condition_dim + dim
        return {
            "means": (*leading, size),
            "factors": (*leading, size, size),
            "weights": leading,
        }

    def covariance(self) -> Tensor:
        """Return the mean covariance of the Gaussians given the condition, ``(D, D)``.

        Components count by their weights, and classes equally.
        """
        factors = self.factors[..., self.condition_dim :, self.condition_dim :]
        weighted = self.weights[..., None, None] * (factors @ factors.mT)
        return weighted.flatten(0, -3).sum(0) / (self.classes or 1)

    def _given(self, condition: Tensor | None, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the numeric condition ``(B, M)``, M maybe 0, and the mixture of the rows.

        Like everything below, the mixture has the examples last: means ``(K, M + D, 1)``, factors
        ``(K, M + D, M + D, 1)`` and weights ``(K, 1)``, or, with classes, one for every row,
        ``(K, D, B)``, ``(K, D, D, B)`` and ``(K, B)``.
        """
        mixture = self.means, self.factors, self.weights
        size = self.classes or self.condition_dim
        if size and (condition is None or condition.shape != (x.shape[0], size)):
            got = None if condition is None else tuple(condition.shape)
            raise ValueError(
                f"this mixture needs a condition of shape {(x.shape[0], size)}, got {got}"
            )
        if self.classes is None or condition is None:
            means, factors, weights = (tensor.unsqueeze(-1) for tensor in mixture)
            numbers = x[:, :0] if condition is None or not self.condition_dim else condition
            return numbers, means, factors, weights
        labels = condition.argmax(1)
        means, factors, weights = (tensor[labels].movedim(0, -1) for tensor in mixture)
        return x[:, :0], means, factors, weights

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        numbers, means, factors, weights = self._given(condition, x)
        m = numbers.shape[1]
        u = _whitened(torch.cat((numbers, x), dim=1), means, factors)
        scale = factors.diagonal(dim1=1, dim2=2).movedim(-1, 1)
        if len(u) == 1:
            return u[0, m:].T, -scale[0, m:].log().sum(0).expand(x.shape[0])
        log_scale = scale.log()
        log_terms = -0.5 * u.square() - log_scale
        # Sums over the columns before the i-th: subtracting its own term from the sum up to it
        # would cancel digits.
        before = torch.cat((torch.zeros_like(u[:, :1]), log_terms[:, :-1].cumsum(1)), dim=1)[:, m:]
        log_weight = (before + weights.log().unsqueeze(1)).log_softmax(0)
        u, scale, log_scale = u[:, m:], scale[:, m:], log_scale[:, m:]
        columns = examples_last(x)
        z, log_grad = gaussianize(columns, log_weight, columns - u * scale, log_scale)
        return z.T, log_grad.sum(0)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        numbers, means, factors, weights = self._given(condition, z)
        m = numbers.shape[1]
        u = _whitened(numbers, means[:, :m], factors[:, :m, :m])
        log_scale = factors.diagonal(dim1=1, dim2=2).movedim(-1, 1).log()
        if len(u) == 1:
            u = torch.cat((u[0], z.T))
            x = means[0, m:] + (factors[0, m:] * u).sum(1)
            return x.T, log_scale[0, m:].sum(0).expand(z.shape[0])
        log_weight = weights.log() - (0.5 * u.square() + log_scale[:, :m]).sum(1)
        columns: list[Tensor] = []
        log_det = z.new_zeros(z.shape[0])
        for i in range(m, m + z.shape[1]):  # each column needs those before it
            mean = means[:, i] + (factors[:, i, :i] * u).sum(1)
            mixture = log_weight.log_softmax(0), mean, log_scale[:, i].expand_as(mean)
            x, log_grad = invert_mixture(z[:, i - m], *mixture)
            whitened = (x - mean) / factors[:, i, i]
            log_weight = log_weight - 0.5 * whitened.square() - log_scale[:, i]
            u = torch.cat((u, whitened.unsqueeze(1)), dim=1)
            log_det = log_det - log_grad
            columns.append(x)
        return torch.stack(columns, dim=1), log_det


def _whitened(v: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """Return ``L^-1 (v - mean)`` of every component and row, ``(K, D, B)``."""
    centered = v.T - means
    if factors.shape[-1] == 1:
        return torch.linalg.solve_triangular(factors[..., 0], centered, upper=False)
    by_row = factors.movedim(-1, 0), centered.movedim(-1, 0).unsqueeze(-1)  # of each row
    return torch.linalg.solve_triangular(*by_row, upper=False)[..., 0].movedim(0, -1)
