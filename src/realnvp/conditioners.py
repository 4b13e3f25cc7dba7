r"""Conditioners: networks that compute a coupling's parameters from its passive part.

A conditioner is never inverted, so it may be any network (arXiv 1605.08803, section 3.2). Its last
layer starts at zero, so that the coupling starts as the identity.

Images have :class:`ResNet` (section 4.1 of the paper), made of convolutions with weight
normalization and of batch normalization over all processes; vectors have :class:`MLP`. One of your
own is registered with :func:`realnvp.register_conditioner`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from realnvp.bijections.normalization import is_recomputing
from realnvp.utils.distributed import mean_and_variance, world_size
from realnvp.utils.tracing import is_transformed

__all__ = [
    "MLP",
    "BatchNorm2d",
    "ColumnMLPs",
    "Conditioner",
    "ImageFeatures",
    "ResNet",
    "WeightNormConv2d",
]


class BatchNorm2d(nn.BatchNorm2d):
    """Normalize by the statistics of the batch, over all processes.

    PyTorch's ``SyncBatchNorm`` works on GPUs only, and this layer on every device on which the
    processes can reduce. A single process takes the fused path of ``nn.BatchNorm2d``. Parameters
    and buffers are those of that class.

    Args:
        num_features: channels of the input; further arguments are those of ``nn.BatchNorm2d``.

    Attributes:
        frozen: normalize by the running averages in training mode too, and leave them as they are.

    >>> BatchNorm2d(2)(torch.ones(3, 2, 4, 4)).abs().max().item()
    0.0
    """

    frozen = False

    def train(self, mode: bool = True) -> BatchNorm2d:
        return super().train(mode and not self.frozen)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        if world_size() == 1:
            if x.numel() == x.shape[1]:
                raise ValueError(
                    "a batch of one image of one pixel has no statistics to normalize by: use "
                    'larger batches, or conditioner_norm "none"'
                )
            if is_recomputing():  # the averages have been updated already
                return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
            return super().forward(x)
        # Under autocast x may be narrow: statistics need float32, as the fused kernels use.
        wide = x.to(self.running_mean.dtype)  # type: ignore[union-attr]
        mean, var, count = mean_and_variance(wide)
        if not is_recomputing():
            self._follow(mean.detach(), var.detach() * (count / max(count - 1, 1)))
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        return (wide * scale[:, None, None] + shift[:, None, None]).to(x.dtype)

    def check_values(self) -> None:
        """Raise ValueError if the running variance, which may be untrusted, is negative."""
        assert self.running_var is not None
        if (self.running_var < 0).any():
            raise ValueError("the running variance is negative")

    @torch.no_grad()
    def _follow(self, mean: Tensor, unbiased: Tensor) -> None:
        """Move the running averages; like the parent, they hold the unbiased variance."""
        assert self.num_batches_tracked is not None  # this class always tracks
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)


class Conditioner(nn.Module, ABC):
    """A network that computes a coupling's parameters, in a narrower type where that is faster.

    A subclass implements :meth:`network`, which may run under autocast, and :meth:`output`, its
    last layer, which does not: errors of bfloat16 in the parameters show in the density (0.004
    bits/dim of a trained model of MNIST). So do the coupling's arithmetic and every
    log-determinant, which stay in the type of the input. The last layer is called ``last`` and
    starts at zero.

    Attributes:
        compute_dtype: type of the network's arithmetic (autocast); None is that of the input.
        takes_condition: whether the network may depend on the condition.
    """

    compute_dtype: torch.dtype | None = None
    takes_condition = True
    last: nn.Linear | nn.Conv2d

    def forward(self, x: Tensor, condition: Tensor | None = None, **options: Any) -> Tensor:
        """Return the coupling's parameters.

        Args:
            x: passive part, ``(B, D)`` or ``(B, C, H, W)``.
            condition: condition ``(B, K)``, or None.
            options: further arguments of both methods.
        """
        # The meta device does not support autocast.
        wide = x.is_meta or not torch.is_autocast_enabled(x.device.type)
        if self.compute_dtype is None and wide:
            return self.output(
                self.network(x, condition, **options), **options
            )  # contexts take time in small networks
        with torch.autocast(
            x.device.type,
            dtype=self.compute_dtype or torch.bfloat16,
            enabled=self.compute_dtype is not None,
        ):
            h = self.network(x, condition, **options).to(x.dtype)
        if wide:
            return self.output(h, **options)
        with torch.autocast(x.device.type, enabled=False):
            return self.output(h, **options)

    @abstractmethod
    def network(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Return the features, from which :meth:`output` computes the parameters."""

    @abstractmethod
    def output(self, h: Tensor) -> Tensor:
        """Return the parameters, from the features."""

    def matrices(self) -> list[nn.Parameter]:
        """Return the weights of all layers but the last, which Muon orthogonalizes.

        They are matrices, or kernels of convolutions with one row per output.
        """
        layers = [m for m in self.modules() if isinstance(m, WeightNormConv2d)]
        return [layer.direction for layer in layers]

    def _zero_last(self) -> None:
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]


def _check_sizes(network: MLP | ColumnMLPs | ResNet, x: Tensor, condition: Tensor | None) -> None:
    """Raise ValueError unless the passive part and the condition are what a network is made for.

    Any other sizes would fail in a matrix product or a convolution, which cannot say why.
    """
    found = x.shape[1], 0 if condition is None else condition.shape[1]
    if x.ndim != network.ndim or found != network.sizes:
        kind = "an image (B, C, H, W)" if network.ndim == 4 else "vectors (B, C)"
        raise ValueError(
            f"this {type(network).__name__} was made for {kind} with C = {network.sizes[0]} and a "
            f"condition of size {network.sizes[1]}, but the passive part has the shape "
            f"{tuple(x.shape)}, and the condition the size {found[1]}"
        )


class WeightNormConv2d(nn.Module):
    r"""A convolution with weight normalization (arXiv 1602.07868) and "same" padding.

    .. math:: w = g \, v / \|v\|

    with one learned length :math:`g` per output channel. Starts with PyTorch's default weights.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        kernel: size of the kernel, an odd number.

    >>> WeightNormConv2d(3, 8, 3)(torch.ones(1, 3, 4, 4)).shape
    torch.Size([1, 8, 4, 4])
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3) -> None:
        super().__init__()
        init = nn.Conv2d(channels_in, channels_out, kernel)
        self.direction = nn.Parameter(
            init.weight.detach().to(memory_format=torch.channels_last)  # fastest for all kernels
        )
        # The norm of a meta tensor would import torch._dynamo, which takes seconds.
        blank = self.direction.is_meta
        length = self.direction.new_empty(channels_out, 1, 1, 1) if blank else self._norm()
        self.length = nn.Parameter(length.detach())
        assert init.bias is not None
        self.bias = nn.Parameter(init.bias.detach())
        self.padding = kernel // 2

    def check_values(self) -> None:
        """Raise ValueError if a kernel, which may be untrusted, is zero and has no direction."""
        if (self._norm() == 0).any():
            raise ValueError("a kernel of weight normalization is zero and has no direction")

    def _norm(self) -> Tensor:
        return torch.linalg.vector_norm(self.direction, dim=(1, 2, 3), keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.direction * (self.length / self._norm())
        return F.conv2d(x, weight, self.bias, padding=self.padding)


def _norm_layer(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return BatchNorm2d(channels)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    if kind == "none":
        return nn.Identity()
    raise ValueError(f'conditioner_norm is "batch", "instance" or "none", got {kind!r}')


def _normalized_relu(norm: nn.Module, x: Tensor) -> Tensor:
    """Return ``relu(norm(x))``, computed in place in the norm's output, which nothing else uses."""
    return F.relu(norm(x), inplace=not isinstance(norm, nn.Identity))


class _Block(nn.Module):
    r"""A pre-activation residual block (arXiv 1603.05027): norm, ReLU, convolution, twice.

    The second convolution is a 3x3 one whose output is the change of ``x``, or, gated as in Flow++
    (arXiv 1902.00275), a 1x1 one to twice the channels, for three fifths of the arithmetic:

    .. math::
        x + a \odot \operatorname{sigmoid}(b), \qquad
        (a, b) = W_2 * \operatorname{ReLU}(W_1 * \operatorname{ReLU}(x))
    """

    def __init__(self, hidden: int, norm: str, gated: bool) -> None:
        super().__init__()
        self.gated = gated
        self.norm1 = _norm_layer(norm, hidden)
        self.conv1 = WeightNormConv2d(hidden, hidden)
        self.norm2 = _norm_layer(norm, hidden)
        self.conv2 = WeightNormConv2d(hidden, hidden * (1 + gated), 1 if gated else 3)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        h = self.conv1(_normalized_relu(self.norm1, x))
        if bias is not None:
            h = h + bias[:, :, None, None]
        h = self.conv2(_normalized_relu(self.norm2, h))
        if self.gated:
            change, gate = h.chunk(2, dim=1)
            h = change * gate.sigmoid()
        return h.add_(x)


class ResNet(Conditioner):
    """The residual convolutional conditioner of Real NVP (arXiv 1605.08803, section 4.1).

    A projecting convolution at each end (as the paper leaves open and the field does), and
    between them pre-activation blocks of two 3x3 convolutions with weight normalization, or gated
    ones (arXiv 1902.00275). A condition ``(B, K)`` shifts the features inside every block; one
    that is an image ``(B, F, H, W)``, of ``context_channels`` channels, joins the input.

    Args:
        channels_in: channels of the coupling's passive part.
        channels_out: channels of the parameters.
        hidden: feature maps.
        blocks: number of blocks.
        norm: normalization inside the blocks: "batch", "instance" or "none".
        condition_dim: size K of the condition; 0 is none.
        context_channels: channels F of the condition, if it is an image; 0 is none.
        patch: side of the patches of pixels that the network sees as one position, with the pixels
            as channels. With ``patch`` times the feature maps, blocks cost as much arithmetic as
            those that see single pixels, have ``patch**2`` times the parameters, move fewer bytes,
            and see further.
        block: kind of the blocks, "residual" or "gated".

    Attributes:
        memory_format: memory format of the activations. With channels last, convolutions are
            several times as fast on CPUs, and as fast or faster on GPUs.

    >>> ResNet(1, 2, hidden=8, blocks=1)(torch.ones(3, 1, 4, 4)).abs().max().item()
    0.0
    >>> ResNet(1, 2, hidden=16, blocks=1, patch=2)(torch.ones(3, 1, 4, 4)).shape
    torch.Size([3, 2, 4, 4])
    """

    memory_format = torch.channels_last
    ndim = 4

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        hidden: int,
        blocks: int,
        norm: str = "batch",
        condition_dim: int = 0,
        context_channels: int = 0,
        patch: int = 1,
        block: str = "residual",
    ) -> None:
        super().__init__()
        if block not in ("residual", "gated"):
            raise ValueError(f'block is "residual" or "gated", got {block!r}')
        gated = block == "gated"
        self.patch = patch
        self.sizes = channels_in, condition_dim or context_channels
        self.first = WeightNormConv2d((channels_in + context_channels) * patch**2, hidden)
        self.joins = context_channels > 0
        self.blocks = nn.ModuleList(_Block(hidden, norm, gated) for _ in range(blocks))
        self.norm = _norm_layer(norm, hidden)
        self.last = nn.Conv2d(hidden, channels_out * patch**2, 1)
        self.takes_condition = condition_dim > 0
        self.embed = nn.Linear(condition_dim, hidden * (blocks + 1)) if condition_dim else None
        self._zero_last()

    def deepened(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of such a network with fewer blocks, and of further ones.

        The further blocks are this network's, of which each adds zero to its input: both networks
        compute the same (arXiv 1511.05641, section 2.3).

        Args:
            state: tensors of the other network, as its ``state_dict()`` returns them.
        """
        found, own = dict(state), self.state_dict()
        count = sum(f"blocks.{i}.conv1.direction" in state for i in range(len(self.blocks)))
        hidden = len(self.first.direction)
        for i in range(count, len(self.blocks)):
            prefix = f"blocks.{i}."
            found |= {name: own[name].clone() for name in own if name.startswith(prefix)}
            for name in ("length", "bias"):
                found[f"{prefix}conv2.{name}"][:hidden] = 0
        for name in {"embed.weight", "embed.bias"} & found.keys():
            first, last = found[name].split((count * hidden, hidden))
            new = first.new_zeros((len(self.blocks) - count) * hidden, *first.shape[1:])
            found[name] = torch.cat((first, new, last))
        return found

    def network(self, x: Tensor, condition: Tensor | None) -> Tensor:
        _check_sizes(self, x, condition if self.joins or self.takes_condition else None)
        if self.joins and condition is not None:
            x = torch.cat((x, condition), dim=1)
        if self.patch > 1:  # patches of a single pixel would be copied
            x = F.pixel_unshuffle(x, self.patch)
        if not is_transformed():  # vmap supports no other memory format
            x = x.contiguous(memory_format=self.memory_format)
        h = self.first(x)
        biases: list[Tensor | None] = [None] * (len(self.blocks) + 1)
        if self.embed is not None:
            biases = list(self.embed(condition).chunk(len(biases), dim=1))
            h = h + biases[-1][:, :, None, None]  # type: ignore[index]
        for block, bias in zip(self.blocks, biases, strict=False):
            h = block(h, bias)
        return h

    def output(self, h: Tensor) -> Tensor:
        parameters = self.last(_normalized_relu(self.norm, h))
        return F.pixel_shuffle(parameters, self.patch) if self.patch > 1 else parameters


class ImageFeatures(ResNet):
    """A residual network from images to features. Its last layer does not start at zero.

    Args:
        channels: channels of the image.
        features: feature maps, inside and of the output.
        blocks: number of residual blocks.
        condition_dim: size K of the condition; 0 is none.

    >>> ImageFeatures(1, 8, blocks=1)(torch.ones(3, 1, 4, 4)).shape
    torch.Size([3, 8, 4, 4])
    """

    def __init__(self, channels: int, features: int, blocks: int, condition_dim: int = 0) -> None:
        super().__init__(channels, features, features, blocks, "none", condition_dim)
        self.last.reset_parameters()


def _linear(layer: Any, h: Tensor) -> Tensor:
    """Return ``layer(h)`` without the overhead of calling a module: a tenth of a small layer."""
    return F.linear(h, layer.weight, layer.bias)


class MLP(Conditioner):
    """A residual multilayer perceptron for vectors; a condition joins the input.

    Without any input, its output is a learned constant.

    Args:
        features_in: columns of the coupling's passive part; 0 for a single column's.
        features_out: number of parameters.
        hidden: units of each layer.
        blocks: number of residual blocks of two layers each.
        condition_dim: size K of the condition; 0 is none.

    >>> MLP(1, 2, hidden=8, blocks=1)(torch.ones(3, 1)).abs().max().item()
    0.0
    """

    ndim = 2

    def __init__(
        self,
        features_in: int,
        features_out: int,
        hidden: int,
        blocks: int,
        condition_dim: int = 0,
    ) -> None:
        super().__init__()
        self.takes_condition = condition_dim > 0
        self.sizes = features_in, condition_dim
        self.first = nn.Linear(max(1, features_in + condition_dim), hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(2 * blocks))
        self.last = nn.Linear(hidden, features_out)
        self._zero_last()

    def matrices(self) -> list[nn.Parameter]:
        return [layer.weight for layer in (self.first, *self.layers)]

    def network(self, x: Tensor, condition: Tensor | None) -> Tensor:
        condition = condition if self.takes_condition else None
        _check_sizes(self, x, condition)
        if condition is not None:
            x = torch.cat((x, condition), dim=1)
        h = _linear(self.first, x if x.shape[1] else x.new_ones(x.shape[0], 1))
        layers = iter(self.layers)  # a slice of them would be a module, made in every call
        for first, second in zip(layers, layers, strict=True):
            change = _linear(second, F.silu(_linear(first, F.silu(h))))
            h = change.add_(h)  # in place: small networks spend their time on memory
        return h

    def output(self, h: Tensor) -> Tensor:
        # With the examples last in memory, which is how couplings compute with many parameters.
        bias, weight = self.last.bias, self.last.weight
        return torch.addmm(bias[:, None], weight, F.silu(h).T).T  # type: ignore[index]


class ColumnLinear(nn.Module):
    """A linear layer for each of several columns.

    Args:
        columns: number C of columns.
        features_in: inputs of each column's layer.
        features_out: outputs of each column's layer.

    >>> ColumnLinear(3, 2, 5)(torch.ones(1, 2, 4), slice(0, 1)).shape
    torch.Size([1, 5, 4])
    """

    def __init__(self, columns: int, features_in: int, features_out: int) -> None:
        super().__init__()
        bound = features_in**-0.5
        self.sizes = columns, features_out, features_in
        weight = torch.empty(columns * features_out, features_in)
        self.weight = nn.Parameter(weight.uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(columns * features_out).uniform_(-bound, bound))

    def forward(self, h: Tensor, columns: slice, weight: Tensor | None = None) -> Tensor:
        """Map ``(C, features_in, B)`` to ``(C, features_out, B)``, C the number of ``columns``."""
        weight = self.matrices() if weight is None else weight
        bias = self.bias.view(self.sizes[:2])[columns, :, None]
        return torch.baddbmm(bias, weight[columns], h)

    def matrices(self) -> Tensor:
        """Return the matrix of each column, ``(C, features_out, features_in)``."""
        return self.weight.view(self.sizes)


class ColumnMLPs(Conditioner):
    """Residual multilayer perceptrons of each column, which see the columns before it.

    The condition joins the input of each; those of the first column see nothing else.

    Args:
        features_in: number D of columns.
        features_out: number of parameters of all columns, a multiple of D, from one network each.
        hidden: units of each layer.
        blocks: number of residual blocks of two layers each.
        condition_dim: size K of the condition; 0 is none.
        dropout: fraction of the units that training sets to zero, each example its own (arXiv
            1207.0580).
        networks: number M of networks of each column.

    The output, ``(B, M * features_out)``, has the first parameter of the D columns by the first
    network, by the second, and so on; then the second parameter. With ``column=i``, it has the
    parameters of the i-th column alone.

    >>> nets = ColumnMLPs(3, 6, hidden=8, blocks=1)
    >>> x = torch.ones(4, 3)
    >>> nets(x).shape, nets(x, column=2).shape
    (torch.Size([4, 6]), torch.Size([4, 2]))
    """

    ndim = 2
    last: Any  # layers of all columns

    def __init__(
        self,
        features_in: int,
        features_out: int,
        hidden: int,
        blocks: int,
        condition_dim: int = 0,
        dropout: float = 0.0,
        networks: int = 1,
    ) -> None:
        super().__init__()
        self.takes_condition = condition_dim > 0
        self.sizes, self.dropout = (features_in, condition_dim), dropout
        self.networks = networks
        inputs, count = condition_dim + features_in, networks * features_in
        self.first = ColumnLinear(count, inputs, hidden)
        visible = condition_dim + torch.arange(features_in).clamp(min=1 - condition_dim)
        with torch.no_grad():  # the deviation of a layer of this number of inputs
            scale = (inputs / visible).sqrt().repeat(networks)
            self.first.matrices().mul_(scale[:, None, None])
        self.layers = nn.ModuleList(ColumnLinear(count, hidden, hidden) for _ in range(2 * blocks))
        self.last = ColumnLinear(count, hidden, features_out // features_in)
        self._zero_last()

    def matrices(self) -> list[nn.Parameter]:
        return [layer.weight for layer in (self.first, *self.layers)]

    def network(self, x: Tensor, condition: Tensor | None, column: int | None = None) -> Tensor:
        condition = condition if self.takes_condition else None
        _check_sizes(self, x, condition)
        if condition is not None:
            x = torch.cat((condition, x), dim=1)
        columns = self._those(column)
        # Every unit has a matrix of columns by inputs, which is zero from the column itself on.
        weight = self.first.matrices().unflatten(0, (self.networks, -1)).transpose(1, 2)
        weight = weight.tril(self.sizes[1] - 1).transpose(1, 2).flatten(0, 1)
        h = self.first(x.T.expand(len(weight[columns]), *x.T.shape), columns, weight)
        layers = iter(self.layers)
        for first, second in zip(layers, layers, strict=True):
            h = h + second(self._dropped(F.silu(first(F.silu(h), columns))), columns)
        return h

    def output(self, h: Tensor, column: int | None = None) -> Tensor:
        # The first parameter of all columns, then the second; the examples are last in memory.
        parameters = self.last(self._dropped(F.silu(h)), self._those(column))
        return parameters.movedim(0, 1).flatten(0, 1).T

    def _those(self, column: int | None) -> slice:
        return slice(column, None, 1 if column is None else self.sizes[0])

    def _dropped(self, h: Tensor) -> Tensor:
        """Return units with some of them set to zero in training, and the others enlarged."""
        if not self.training or not self.dropout:
            return h
        # What is drawn is a function of the units: there is no state to save, and a layer that is
        # computed again draws the same. Bytes are drawn eight at a time, in a tenth of the time.
        seed = int(h.detach().sum(dtype=torch.float64).view(torch.int64))
        generator = torch.Generator(h.device).manual_seed(seed)
        words = torch.empty(-(-h.numel() // 8), dtype=torch.int64, device=h.device)
        numbers = words.random_(-(2**63), None, generator=generator).view(torch.uint8)
        kept = numbers[: h.numel()].view(h.shape) >= round(256 * self.dropout)
        return h * (kept / (1 - round(256 * self.dropout) / 256)).to(h.dtype)
