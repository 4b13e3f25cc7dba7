"""Every setting of a run, as validated dataclasses; the recipes in ``recipes/*.yaml`` are
instances of :class:`ImageRecipe` or :class:`VectorRecipe`.

This module imports nothing heavy, so that the command line can show help at once. Each field's
comment is its documentation; ranges are checked when the dataclass is made, so that a wrong value
fails before any data is read or any folder is made.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Literal

from realnvp.checks import check_types, positive, require

__all__ = [
    "DataConfig",
    "ImageModel",
    "ImageRecipe",
    "Recipe",
    "TrainingConfig",
    "VectorModel",
    "VectorRecipe",
    "to_dict",
]


@dataclass
class ImageModel:
    """A multi-scale flow for images; the defaults are Real NVP's parts (arXiv 1605.08803).

    Args:
        architecture: "realnvp" is the paper's (section 3.6); "glow" squeezes first, and then
            repeats steps of 1x1 convolution, channel-wise coupling and normalization
            (arXiv 1807.03039).
        scales: levels of the multi-scale architecture. Of "realnvp", 1 is one level with four
            checkerboard couplings, each further one adds three checkerboard couplings, a squeeze,
            three channel-wise couplings and a factoring out; of "glow", each is a squeeze and
            its steps.
        steps: steps of each scale of "glow".
        coupling: "affine" (the paper's), or "mixture", an affine map after the CDF of a mixture
            of logistics (arXiv 1902.00275).
        components: logistics of a mixture.
        dequantization: "uniform" noise, or "variational" noise that a small flow learns.
        linear: of "realnvp", a learned 1x1 convolution before each channel-wise coupling, and
            before the checkerboard ones of a scale with several channels, such as colours; "glow"
            always has them (arXiv 1807.03039).
        split_prior: predict the factored-out half from the half that goes on.
        hidden: feature maps of the couplings' conditioners at the first scale, doubled per scale.
        blocks: number of blocks of each coupling's conditioner.
        block: their kind: "residual" (the paper's, two 3x3 convolutions) or "gated", as in
            Flow++ (a 3x3 and a 1x1 convolution whose output is gated).
        patch: of "realnvp", side of the patches of pixels that the first scale's checkerboard
            conditioners see as one position, with so many times the feature maps; 1 is the paper's.
        norm: normalization between the couplings: "batch" (running-average batch norm, the
            paper's), "act" (ActNorm, arXiv 1807.03039) or "none".
        norm_momentum: weight of the current batch in the running averages.
        conditioner_norm: normalization inside the conditioners: "batch" (the paper's),
            "instance" (the seed's) or "none".
        alpha: how far the logit keeps away from 0 and 1.
        scale_penalty: L2 penalty on the learned scales of the couplings (paper, section 4).
    """

    architecture: Literal["realnvp", "glow"] = "realnvp"
    scales: int = 2
    steps: int = 8
    coupling: Literal["affine", "mixture"] = "affine"
    components: int = 4
    dequantization: Literal["uniform", "variational"] = "uniform"
    linear: bool = False
    split_prior: bool = False
    hidden: int = 32
    blocks: int = 4
    block: Literal["residual", "gated"] = "residual"
    patch: int = 1
    norm: Literal["batch", "act", "none"] = "batch"
    norm_momentum: float = 0.1
    conditioner_norm: Literal["batch", "instance", "none"] = "batch"
    alpha: float = 0.05
    scale_penalty: float = 5e-5

    def __post_init__(self) -> None:
        check_types(self, scales=30, steps=1000, blocks=1000, components=1000, patch=1000)
        positive(self, "scales", "hidden", "steps", "components", "patch")
        require(self.blocks >= 0, f"blocks must be 0 or more, got {self.blocks}")
        require(
            0 < self.norm_momentum <= 1, f"norm_momentum is in (0, 1], got {self.norm_momentum}"
        )
        require(0 < self.alpha < 0.5, f"alpha is in (0, 0.5), got {self.alpha}")
        require(self.scale_penalty >= 0, f"scale_penalty is 0 or more, got {self.scale_penalty}")


@dataclass
class DataConfig:
    """Where the data come from, and how they are split.

    Args:
        source: a named set (moons circles blobs uniform spirals pinwheel checkerboard
            eight-gaussians digits mnist fashion-mnist cifar10 celeba) or a path: .npz/.npy,
            image folder, CSV/Parquet, IDX.
        root: folder of the named sets, in torchvision's layout; also where they are downloaded.
        validation: how much of the training data is held out to validate: a fraction below 1, or
            a number of examples. Digits and CelebA have a validation part of their own.
        holdout: which examples are held out: the "last" of the file, or "random" ones.
        points: how many points a toy set draws for training.
        size: resize the images of a folder to this many pixels (height and width).
        flip: train on random horizontal flips.
        shift: train on images half of which are moved by up to so many pixels at random.
        condition: what the density is conditioned on: null, "label" (of a labelled set), or the
            name of a table's column.
        integers: a table's columns of whole numbers: "auto" dequantizes them, so that their
            density is a probability; "none" takes them for real numbers.
        seed: seed of the split and of generated sets.
    """

    source: str = "digits"
    root: str = "data"
    validation: float = 0.1
    holdout: Literal["last", "random"] = "random"
    points: int = 10_000
    size: int | None = None
    flip: bool = False
    shift: int = 0
    condition: str | None = None
    integers: Literal["auto", "none"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        positive(self, "validation", "points", "size")
        require(self.shift >= 0, f"data.shift is 0 or more pixels, got {self.shift}")
        require(bool(self.source), "data.source is empty: name a data set or give a path")
        require(
            self.validation < 1 or float(self.validation).is_integer(),
            f"validation is a fraction below 1 or a whole number of examples, "
            f"got {self.validation}",
        )


@dataclass
class VectorModel:
    """Real NVP for vectors: points and the rows of a table.

    Args:
        coupling: "affine" (the paper's), or "mixture", which makes one half a Gaussian mixture
            given the other, and learns modes and sharp curves with few layers.
        components: Gaussians of a mixture.
        couplings: number of coupling layers; each transforms one half of the columns.
        hidden: units of each hidden layer of the conditioners.
        blocks: residual blocks of each conditioner.
        norm: normalization between the couplings: "batch", "act" or "none".
        norm_momentum: weight of the current batch in the running averages.
        scale_penalty: L2 penalty on the learned scales of the couplings.
        start: the model starts as the mixture of so many Gaussians that fits the data; 1 is a
            single one, correlations included, 0 only standardizes the columns.
    """

    coupling: Literal["affine", "mixture"] = "affine"
    components: int = 8
    couplings: int = 8
    hidden: int = 64
    blocks: int = 2
    norm: Literal["batch", "act", "none"] = "act"
    norm_momentum: float = 0.1
    scale_penalty: float = 5e-5
    start: int = 0

    def __post_init__(self) -> None:
        check_types(self, couplings=10_000, blocks=1000, components=1000, start=1000)
        positive(self, "couplings", "hidden", "components")
        require(self.blocks >= 0, f"blocks must be 0 or more, got {self.blocks}")
        require(self.start >= 0, f"start must be 0 or more, got {self.start}")
        require(
            0 < self.norm_momentum <= 1, f"norm_momentum is in (0, 1], got {self.norm_momentum}"
        )
        require(self.scale_penalty >= 0, f"scale_penalty is 0 or more, got {self.scale_penalty}")


@dataclass
class TrainingConfig:
    """How a model is trained. The first budget that is reached ends the run.

    Args:
        minutes: budget of training time.
        epochs: budget of passes over the training data.
        steps: budget of optimizer steps.
        batch_size: examples per step, over all processes.
        optimizer: "adam" (the paper's), "adamw", or "muon", which orthogonalizes the
            steps of the conditioners' layers but the last, and leaves the rest to Adam.
        lr: peak learning rate.
        weight_decay: of matrices and kernels, not of biases and norms; decoupled with adamw, L2
            with adam, none with muon.
        betas: Adam's moment decays.
        warmup: steps over which the learning rate rises from 0.
        decay: shape of the learning rate over the budget: "cosine" to zero, "linear" to zero, or
            "constant".
        cooldown: fraction of the budget over which the rate decays; 1 is all of it.
        clip: largest norm of the gradient (of the loss in nats per dimension).
        smoothing: deviation of the Gaussian noise that is added to the vectors of every batch, in
            deviations of the data (of the Gaussians that it starts as, if it does). It keeps a
            flexible model from learning few rows by heart, and blurs what is finer.
        ema: decay per step of the exponential moving average of the weights, which is what is
            evaluated and saved; 0 evaluates the raw weights.
        validations: how many validations are spread evenly over the budget; the best one's model
            is kept.
        patience: stop after so many validations without a better one; null never does.
        checkpoint_every: seconds between checkpoints, from which a run can go on.
        validation_examples: at most so many are used for the validations during training.
        precision: arithmetic of the conditioners: "auto" is bfloat16 where the processor computes
            it natively and float32 elsewhere. Their last layers, couplings and log-determinants
            stay in float32.
        memory: what the backward pass needs is kept ("standard"), or computed again: "checkpoint"
            keeps each layer's input, "invertible" only the last one's output, so that memory does
            not grow with depth.
        compile: compile the conditioners (torch.compile); a minute or more before the first step.
        accelerator: "auto", "cpu", "cuda" or "mps".
        devices: number of processes on each machine, one a device.
        nodes: number of machines.
        strategy: how several processes share the work: "ddp" copies the model to each, "fsdp"
            shards its parameters over all of them.
    """

    minutes: float | None = None
    epochs: float | None = None
    steps: int | None = None
    batch_size: int = 64
    optimizer: Literal["adam", "adamw", "muon"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: int = 100
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    cooldown: float = 1.0
    clip: float = 1.0
    smoothing: float = 0.0
    ema: float = 0.999
    validations: int = 20
    patience: int | None = None
    checkpoint_every: float = 60.0
    validation_examples: int = 2_000
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    memory: Literal["standard", "checkpoint", "invertible"] = "standard"
    compile: bool = False
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"

    def __post_init__(self) -> None:
        check_types(self)
        positive(
            self, "minutes", "epochs", "steps", "batch_size", "lr", "clip", "validations",
            "patience", "checkpoint_every", "validation_examples", "devices", "nodes",
        )  # fmt: skip
        require(
            self.memory == "standard" or self.strategy != "fsdp",
            'strategy "fsdp" gathers parameters layer by layer, which goes with memory "standard" '
            'only: use "ddp"',
        )
        require(
            self.optimizer != "muon" or self.strategy != "fsdp",
            'optimizer "muon" needs whole matrices, which strategy "fsdp" shards: use "ddp"',
        )
        require(
            self.optimizer != "muon" or self.weight_decay == 0,
            f'optimizer "muon" has no weight decay, got {self.weight_decay}: use "adamw"',
        )
        require(self.weight_decay >= 0, f"weight_decay is 0 or more, got {self.weight_decay}")
        require(0 <= self.smoothing < math.inf, f"smoothing is 0 or more, got {self.smoothing}")
        require(self.warmup >= 0, f"warmup is 0 or more, got {self.warmup}")
        require(0 < self.cooldown <= 1, f"cooldown is in (0, 1], got {self.cooldown}")
        require(0 <= self.ema < 1, f"ema is in [0, 1), got {self.ema}")
        require(all(0 <= beta < 1 for beta in self.betas), f"betas are in [0, 1), got {self.betas}")


@dataclass
class ImageRecipe:
    """A recipe for images: model, data and training settings."""

    kind: Literal["image"] = field(default="image", init=False)
    model: ImageModel = field(default_factory=ImageModel)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self, seed=2**63 - 1)
        require(self.seed >= 0, f"seed is 0 or more, got {self.seed}")


@dataclass
class VectorRecipe:
    """A recipe for points and tables: model, data and training settings."""

    kind: Literal["vector"] = field(default="vector", init=False)
    model: VectorModel = field(default_factory=VectorModel)
    data: DataConfig = field(default_factory=lambda: DataConfig(source="moons"))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self, seed=2**63 - 1)
        require(self.seed >= 0, f"seed is 0 or more, got {self.seed}")


Recipe = ImageRecipe | VectorRecipe


def to_dict(config: object) -> dict:
    """The settings as plain nested dicts, for YAML and JSON."""
    return dataclasses.asdict(config)  # type: ignore[call-overload]
