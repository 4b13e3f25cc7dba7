"""Every setting of a run, as validated dataclasses.

:class:`ImageRecipe` and :class:`VectorRecipe` hold all of them; :mod:`realnvp.recipes` reads them
from YAML.

This module imports nothing heavy, so that the command line can show help immediately. Each field's
comment is its documentation; ranges are checked when the dataclass is made, so that a wrong value
fails before any data is read or any folder is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from realnvp.utils.registry import ARCHITECTURES, BUILDERS, CONDITIONERS, COUPLINGS
from realnvp.utils.settings import check_types, not_negative, positive, require

if TYPE_CHECKING:
    from realnvp.flow import Flow

__all__ = [
    "LOGGERS",
    "DataConfig",
    "ImageModel",
    "ImageRecipe",
    "Recipe",
    "TrainingConfig",
    "VectorModel",
    "VectorRecipe",
    "given_text",
]


LOGGERS = ("tensorboard", "wandb", "mlflow", "none")
"""Experiment trackers that are known by name."""


def check_names(model: ImageModel | VectorModel) -> None:
    """Raise ValueError if a part that is referred to by name is unknown; imports nothing."""
    ARCHITECTURES.check(model.architecture)
    COUPLINGS.check(model.coupling)
    CONDITIONERS.check(model.conditioner)


def check_layers(model: ImageModel | VectorModel) -> None:
    """Raise ValueError unless the settings that all models share are in range."""
    not_negative(model, "blocks", "scale_penalty")
    momentum = model.norm_momentum
    require(0 < momentum <= 1, f"norm_momentum is in (0, 1], got {momentum}")


@dataclass
class ImageModel:
    """A multi-scale flow for images; the defaults are Real NVP's parts (arXiv 1605.08803).

    Args:
        architecture: "realnvp" is the paper's (section 3.6); "glow" squeezes first, and then
            repeats steps of 1x1 convolution, channel-wise coupling and normalization
            (arXiv 1807.03039); "coarse_to_fine" models a small image first, and then the pixels
            between its own; or the name of your own.
        scales: number of scales. With "realnvp", a single scale has four checkerboard couplings,
            and each further one adds three checkerboard couplings, a squeeze, three channel-wise
            couplings and a factoring out. With "glow", a scale is a squeeze and its steps; with
            "coarse_to_fine", each scale but the last halves the image.
        steps: steps of each scale of "glow"; couplings of each scale of "coarse_to_fine". One
            number, or a list with one for each scale.
        coupling: "affine" (the paper's); "logistic_mixture", an affine map after the CDF of a
            mixture of logistics (arXiv 1902.00275); "gaussian_mixture"; or the name
            of one of your own.
        coupling_options: options of a coupling of your own, by name.
        components: components of a mixture.
        dequantization: "uniform" noise, or "variational" noise that a small flow learns.
        linear: add a learned 1x1 convolution before each channel-wise coupling, and before the
            checkerboard ones of a scale with several channels, such as colors; "glow" always has
            them (arXiv 1807.03039).
        split_prior: predict the factored-out half of the variables from the other half.
        conditioner: network of the couplings: "resnet" (the paper's), or the name of
            one of your own.
        hidden: feature maps of the conditioners at the first scale, doubled per scale; or a list
            with those of each scale.
        blocks: residual blocks of each conditioner; or a list with those of each scale's.
        block: kind of those blocks: "residual" (the paper's, two 3x3 convolutions) or "gated", as
            in Flow++ (a 3x3 and a 1x1 convolution whose output is gated).
        patch: side of the patches of pixels that the first scale's checkerboard conditioners see as
            one position, with ``patch`` times the feature maps; 1 is the paper's. "realnvp" only.
        norm: normalization between the couplings: "batch" (running-average batch norm, the
            paper's), "act" (ActNorm, arXiv 1807.03039) or "none".
        norm_momentum: weight of the current batch in the running averages.
        conditioner_norm: normalization inside the conditioners: "batch" (the paper's),
            "instance" or "none".
        labels: where the labels of a class-conditional model enter: the "conditioners", or the
            "prior", which then has a mean for each class, so that all classes share one pass.
        label_weight: weight of the labels' cross-entropy by Bayes' rule, added to the likelihood
            (arXiv 2001.06448); only with labels "prior". 0 trains on the likelihood alone.
        alpha: distance that the logit keeps from 0 and 1.
        scale_penalty: L2 penalty on the learned scales of the couplings (paper, section 4).
    """

    architecture: str = "realnvp"
    scales: int = 2
    steps: int | list[int] = 8
    coupling: str = "affine"
    coupling_options: dict[str, Any] | None = None
    components: int = 4
    dequantization: Literal["uniform", "variational"] = "uniform"
    linear: bool = False
    split_prior: bool = False
    conditioner: str = "resnet"
    hidden: int | list[int] = 32
    blocks: int | list[int] = 2
    block: Literal["residual", "gated"] = "residual"
    patch: int = 1
    norm: Literal["batch", "act", "none"] = "batch"
    norm_momentum: float = 0.1
    conditioner_norm: Literal["batch", "instance", "none"] = "batch"
    labels: Literal["conditioners", "prior"] = "conditioners"
    label_weight: float = 0.0
    alpha: float = 0.05
    scale_penalty: float = 5e-5

    def __post_init__(self) -> None:
        check_types(self, scales=30, steps=1000, blocks=1000, components=1000, patch=1000)
        check_names(self)
        positive(self, "scales", "hidden", "steps", "components", "patch")
        for name in ("steps", "hidden", "blocks"):
            value = getattr(self, name)
            require(
                not isinstance(value, list) or len(value) == self.scales,
                f"{name} must be one value, or a list of {self.scales}, one per scale, got {value}",
            )
        not_negative(self, "label_weight")
        require(
            self.labels == "prior" or self.label_weight == 0,
            'label_weight needs labels "prior", which all classes share one pass with',
        )
        check_layers(self)
        require(0 < self.alpha < 0.5, f"alpha is in (0, 0.5), got {self.alpha}")


@dataclass
class DataConfig:
    """Source of the data, and how they are split.

    Args:
        source: a named set (moons circles blobs uniform spirals pinwheel checkerboard
            eight-gaussians digits mnist fashion-mnist cifar10 celeba) or a path: .npz/.npy,
            image folder, CSV/Parquet, IDX.
        root: folder of the named sets, in torchvision's layout; also where they are downloaded.
        validation: share of the training data that is held out for validation: a fraction below 1,
            or a number of examples. Digits and CelebA have a validation part of their own.
        test: share that is held out for the final evaluation if the data have no test part of their
            own: a fraction or a number; null is 0.1 for tables of 1,000 rows and more, else 0.
        holdout: which examples are held out: the "last" of the file, or "random" ones.
        points: number of points that a toy set draws for training.
        size: number of pixels (height and width) to resize the images of a folder to.
        crop: number of pixels (height and width) to cut from the middle of the images of a folder,
            before they are resized.
        channels: channels to convert the images of a folder to: 1 is grey, 3 is color.
        background: color behind transparent pixels, by name or as "#rrggbb".
        skip_unreadable: leave out images that cannot be read as they are, with a warning.
        flip: train on random horizontal flips.
        shift: move half of the training images by up to this number of pixels at random.
        condition: what the density is conditioned on: null, "label" (of a labeled set), or the name
            of a column: of a table (several with commas), or of a CSV file in a folder of images,
            whose first column has the names of the image files.
        integers: integer columns of an array: "auto" dequantizes them, so that their density is a
            probability; "none" treats them as real numbers.
        columns: kinds of a table's columns by name, instead of the detected ones (realnvp columns
            FILE shows them): continuous, decimal, integer, categorical, datetime, or drop to leave
            one out.
        keep_range: keep samples of numeric columns of a table within the range of the data.
        cache: folder for the decoded images of 2,000 image files and more (of a folder, or of a
            named set such as celeba), so that they are decoded once: null is the user's cache
            folder, "none" no cache.
        storage: where cached images are during training: "auto" puts them on an accelerator if they
            take at most half of its free memory, and otherwise reads each batch from the files,
            which the system keeps in free memory; "memory" reads all of them at the start; "disk"
            always reads from the files. Of a large Parquet table, "memory" reads all rows.
        seed: seed of the split and of generated sets.
    """

    source: str = "digits"
    root: str = "data"
    validation: float = 0.1
    test: float | None = None
    holdout: Literal["last", "random"] = "random"
    points: int = 10_000
    size: int | None = None
    crop: int | None = None
    channels: int | None = None
    background: str | None = None
    skip_unreadable: bool = False
    flip: bool = False
    shift: int = 0
    condition: str | None = None
    integers: Literal["auto", "none"] = "auto"
    columns: dict[str, Any] | None = None
    keep_range: bool = False
    cache: str | None = None
    storage: Literal["auto", "memory", "disk"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        positive(self, "validation", "points", "size", "crop")
        require(bool(self.source), "data.source is empty: name a data set or give a path")
        require(self.cache != "", "data.cache is empty: give a folder, or none")
        not_negative(self, "shift", "seed")
        require(
            self.channels in (None, 1, 3),
            f"data.channels is 1 (grey) or 3 (color), got {self.channels}",
        )
        for name in ("validation", "test"):
            share = getattr(self, name)
            require(
                share is None or 0 <= share < 1 or share == share // 1 < math.inf,
                f"{name} is a fraction below 1 or an integer number of examples, got {share}",
            )


@dataclass
class VectorModel:
    """Real NVP for vectors: points and the rows of a table.

    Args:
        architecture: "realnvp"; "autoregressive", one layer in which each column is a Gaussian
            mixture given those before it, whatever ``couplings`` is; or the name of one of your
            own.
        coupling: "gaussian_mixture" models one half of the columns as a Gaussian mixture given the
            other, and learns modes and sharp curves with few layers; "affine" is the paper's;
            "logistic_mixture" (arXiv 1902.00275); "piecewise_linear", intervals whose masses are
            learned (arXiv 1808.03856) and which, for a single discrete column, are its values;
            "spline", rational-quadratic splines (arXiv 1906.04032), which suit sharp edges; or
            the name of one of your own.
        coupling_options: options of the coupling, by name, such as "bound" of a spline.
        components: components of a mixture, intervals, or bins of a spline.
        condition_bins: number of intervals, between quantiles, in which each number of a condition
            is encoded for the couplings (arXiv 2203.05556); 0 adds no such features.
        couplings: number of coupling layers; each transforms one half of the columns.
        conditioner: network of the couplings: "mlp", or the name of one of your own.
        hidden: units of each hidden layer of the conditioners.
        blocks: residual blocks of each conditioner.
        dropout: fraction of the conditioners' units that training sets to zero, for the
            architecture "autoregressive" (arXiv 1207.0580).
        networks: number of networks whose densities of a column are averaged (arXiv 1612.01474),
            for the architecture "autoregressive".
        norm: normalization between the couplings: "batch", "act" or "none".
        norm_momentum: weight of the current batch in the running averages.
        scale_penalty: L2 penalty on the learned scales of the couplings.
        mixture_init: number of Gaussians, fitted to the data, with which the model is initialized;
            1 is a single one, including correlations; 0 only standardizes the columns; "auto"
            chooses the number by cross-validation (without training data, it is 1).
        domain: for each column null, for all real numbers, or a domain and its numbers:
            ``[interval, a, b]``, ``[halfline, a]``, ``[circle]`` (angles in radians, or with both
            ends of a period), or ``[simplex]`` for all columns of one simplex.
    """

    architecture: str = "realnvp"
    coupling: str = "gaussian_mixture"
    coupling_options: dict[str, Any] | None = None
    components: int = 8
    condition_bins: int = 0
    couplings: int = 4
    conditioner: str = "mlp"
    hidden: int = 32
    blocks: int = 1
    dropout: float = 0.0
    networks: int = 1
    norm: Literal["batch", "act", "none"] = "none"
    norm_momentum: float = 0.1
    scale_penalty: float = 5e-5
    mixture_init: int | Literal["auto"] = 0
    domain: list[list | None] | None = None

    def __post_init__(self) -> None:
        check_types(
            self, couplings=10_000, blocks=1000, components=1000, mixture_init=1000,
            condition_bins=1000,
        )  # fmt: skip
        check_names(self)
        positive(self, "couplings", "hidden", "components", "networks")
        check_layers(self)
        not_negative(self, "condition_bins", "mixture_init")
        require(0 <= self.dropout < 1, f"dropout is in [0, 1), got {self.dropout}")


@dataclass
class TrainingConfig:
    """How a model is trained. The first budget that is reached ends the run.

    Args:
        minutes: budget of time, including validations and the final evaluation.
        epochs: budget of passes over the training data.
        steps: budget of optimizer steps.
        batch_size: examples per step, over all processes.
        optimizer: "adam" (the paper's), "adamw", or "muon", which orthogonalizes the
            steps of the conditioners' layers but the last, and leaves the rest to Adam.
        lr: peak learning rate. "auto", for vectors, here and below: chosen by the number of rows,
            since few rows need more regularization.
        weight_decay: weight decay of matrices and kernels, not of biases and norms; decoupled with
            adamw, L2 with adam, none with muon.
        betas: Adam's moment decays.
        warmup: steps over which the learning rate rises from 0.
        decay: shape of the learning rate over the budget: "cosine" to zero, "linear" to zero, or
            "constant".
        decay_fraction: fraction of the budget over which the rate decays; 1 is all of it.
        clip: largest norm of the gradient (of the loss in nats per dimension).
        smoothing: standard deviation of the Gaussian noise that is added to the vectors of each
            batch, in standard deviations of the data, or of the Gaussians that the model starts as.
            It keeps a flexible model from memorizing few rows, and blurs finer structure.
        ema: decay per step of the exponential moving average of the weights, which is what is
            evaluated and saved; 0 evaluates the raw weights.
        num_validations: number of validations, spread evenly over the budget; the model with the
            best one is kept.
        patience: stop after this number of validations without an improvement; null never does.
            "auto" is for images: 5, and 100 validations, for fewer than 1,000 to train on, which
            are soon memorized; null for more.
        frozen_norm: last fraction of the budget in which the conditioners' batch norm normalizes by
            its running averages, which do not move any more (frozen batch norm, arXiv 2105.07576).
            The statistics of a batch are noise: it regularizes, and costs bits where examples are
            many.
        checkpoint_every: seconds between checkpoints, from which a run can be resumed.
        validation_examples: largest number of held-out examples of a validation during training.
        validation_share: largest fraction of the time that validations and their pictures may take:
            their number and their examples are reduced to keep to it; 1 is no limit.
        calibration: largest number of held-out examples whose statistics are saved with the model,
            for outlier scores and p-values (realnvp score), and of a table also up to 5,000 of its
            training rows; 0 saves neither.
        precision: arithmetic of the conditioners: "auto" is bfloat16 where the processor computes
            it natively and float32 elsewhere. Their last layers, couplings and log-determinants
            stay in float32.
        memory: whether what the backward pass needs is kept ("standard") or computed again:
            "checkpoint" keeps each layer's input, "invertible" only the last one's output, so that
            memory does not grow with depth.
        compile: compile the conditioners (torch.compile); a minute or more before the first step.
        accelerator: "auto", "cpu", "cuda" or "mps".
        devices: number of processes on each machine, one per device.
        nodes: number of machines.
    """

    minutes: float | None = None
    epochs: float | None = None
    steps: int | None = None
    batch_size: int = 64
    optimizer: Literal["adam", "adamw", "muon"] = "adam"
    lr: float | Literal["auto"] = 1e-3
    weight_decay: float | Literal["auto"] = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: int = 100
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    decay_fraction: float = 1.0
    clip: float = 1.0
    smoothing: float | Literal["auto"] = 0.0
    ema: float | Literal["auto"] = 0.999
    num_validations: int = 20
    patience: int | Literal["auto"] | None = None
    frozen_norm: float = 0.0
    checkpoint_every: float = 60.0
    validation_examples: int = 2_000
    validation_share: float = 0.1
    calibration: int = 2_000
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    memory: Literal["standard", "checkpoint", "invertible"] = "standard"
    compile: bool = False
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1

    def __post_init__(self) -> None:
        check_types(self)
        self.betas = (self.betas[0], self.betas[1])  # YAML has lists instead of tuples
        positive(
            self, "minutes", "epochs", "steps", "batch_size", "lr", "clip", "num_validations",
            "patience", "checkpoint_every", "validation_examples", "devices", "nodes",
        )  # fmt: skip
        require(
            self.optimizer != "muon" or self.weight_decay == 0,
            f'optimizer "muon" has no weight decay, got {self.weight_decay}: use "adamw"',
        )
        require(
            0 < self.validation_share <= 1,
            f"validation_share is in (0, 1], got {self.validation_share}",
        )
        not_negative(self, "weight_decay", "smoothing", "warmup")
        require(0 <= self.frozen_norm <= 1, f"frozen_norm is in [0, 1], got {self.frozen_norm}")
        require(
            0 < self.decay_fraction <= 1, f"decay_fraction is in (0, 1], got {self.decay_fraction}"
        )
        require(self.ema == "auto" or 0 <= self.ema < 1, f"ema is in [0, 1), got {self.ema}")
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
        not_negative(self, "seed")

    def build(
        self,
        shape: tuple[int, int, int],
        levels: int = 256,
        *,
        condition_dim: int = 0,
        classes: int | None = None,
    ) -> Flow:
        """Return the recipe's untrained model.

        Args:
            shape: ``(C, H, W)``.
            levels: number of grey levels.
            condition_dim: size of the condition, 0 for none.
            classes: number of classes, if the condition is a label.

        Raises:
            ValueError: if the shape does not fit the model, or the density has a condition that is
                not given.

        >>> from realnvp.recipes import load_recipe
        >>> load_recipe("mnist-paper").build((1, 28, 28)).shape
        (1, 28, 28)
        """
        _check_condition(self.data, condition_dim, classes)
        return BUILDERS["image_flow"](
            shape,
            levels=levels,
            condition_dim=condition_dim,
            classes=classes,
            model=self.model,
        )


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
        not_negative(self, "seed")

    def build(
        self,
        dim: int,
        *,
        condition_dim: int = 0,
        classes: int | None = None,
        **first: Any,
    ) -> Flow:
        """Return the recipe's untrained model.

        Args:
            dim: number of columns.
            condition_dim: size of the condition, 0 for none.
            classes: number of classes, if the condition is a label.
            first: ``mean``, ``std``, ``mixture``, ``integers`` or ``columns``, ``categories`` and
                the tensors of these, which set the first layers; see
                :func:`realnvp.vector_flow`.

        Raises:
            ValueError: if the density has a condition that is not given.

        >>> from realnvp.recipes import load_recipe
        >>> load_recipe("moons").build(2).shape
        (2,)
        """
        _check_condition(self.data, condition_dim, classes)
        return BUILDERS["vector_flow"](
            dim, condition_dim=condition_dim, classes=classes, model=self.model, **first
        )


Recipe = ImageRecipe | VectorRecipe


def given_text(condition: str | None) -> str:
    """Return what the name of a likelihood is followed by, if it is a conditional one.

    Args:
        condition: ``data.condition``.

    >>> given_text("label"), given_text("Smiling"), given_text(None)
    (' given the label', ' given Smiling', '')
    """
    if condition is None:
        return ""
    return " given the label" if condition == "label" else f" given {condition}"


def _check_condition(data: DataConfig, condition_dim: int, classes: int | None) -> None:
    require(
        data.condition is None or condition_dim > 0 or classes is not None,
        f"the recipe's density depends on {data.condition!r}, whose size is unknown until "
        f"the data are read: give classes or condition_dim to build()",
    )
