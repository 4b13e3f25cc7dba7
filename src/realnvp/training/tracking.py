"""External reports of a training run: Lightning's loggers, and the user's own callbacks."""

from __future__ import annotations

import io
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from realnvp import plots
from realnvp.recipes import flat_settings
from realnvp.reports.samples import picture_of_rows
from realnvp.training.callback import Callback
from realnvp.utils.progress import warn

if TYPE_CHECKING:
    from realnvp.columns.schema import TableSchema


class LightningLogger(Callback):
    """Send records, pictures and settings to one of Lightning's loggers.

    Its errors cause a warning, once: a service that is down does not interrupt training.

    Args:
        logger: object with the methods of ``lightning.fabric.loggers.Logger``.
        settings: settings of the run, which become its hyperparameters.
        levels: number of grey levels of images, None for vectors.
        schema: columns of the table that vectors are the features of.
    """

    draws = True

    def __init__(
        self,
        logger: Any,
        settings: dict[str, Any],
        levels: int | None = None,
        schema: TableSchema | None = None,
    ) -> None:
        self.logger, self._levels = logger, levels
        self._picture = partial(picture_of_rows, schema=schema)
        self._warned = False
        self._try(lambda: logger.log_hyperparams(flat_settings(settings)))

    def log(self, kind: str, step: int, seconds: float, values: dict[str, Any]) -> None:
        numbers = {f"{kind}/{k}": float(v) for k, v in values.items() if isinstance(v, int | float)}
        if numbers:
            numbers["seconds"] = seconds
            self._try(lambda: self.logger.log_metrics(numbers, step=step))

    def picture(self, step: int, samples: Tensor) -> None:
        def send() -> None:
            image = self._drawn(samples)
            if hasattr(self.logger, "log_image"):  # Weights & Biases
                self.logger.log_image(key="samples", images=[image], step=step)
            elif hasattr(getattr(self.logger, "experiment", None), "log_image"):  # MLflow
                run, file = self.logger.run_id, f"samples/step-{step:07d}.png"
                self.logger.experiment.log_image(run, image, file)

        self._try(send)

    def _drawn(self, samples: Tensor) -> Image.Image:
        if self._levels is not None:
            return plots.tiles(samples, levels=self._levels)
        figure = self._picture(samples)
        with Image.open(io.BytesIO(plots.as_png(figure))) as image:
            return image.convert("RGB")

    def close(self) -> None:
        """End the run of the logger."""
        self._try(lambda: self.logger.finalize("success"))

    def _try(self, action: Any) -> None:
        try:
            action()
        except Exception as error:
            if not self._warned:
                name = type(self.logger).__name__
                warn(f"{name} failed ({error}): training goes on, without it where it fails")
            self._warned = True


def lightning_logger(name: str, folder: Path | None) -> Any:
    """Return Lightning's logger of a service.

    Args:
        name: "wandb" or "mlflow".
        folder: run directory, whose name is that of the run; None for a run without one.

    MLflow's records go where MLFLOW_TRACKING_URI says, or else to the default place of its version:
    ``mlflow.db`` in the current folder since 3.7, ``mlruns`` before.

    Raises:
        ValueError: if Lightning's logger, or the service's own package, is not installed, or the
            service has no place for a run.
    """
    package = "lightning.pytorch" if find_spec("lightning") else "pytorch_lightning"
    run = None if folder is None else folder.absolute().name
    try:
        loggers = import_module(f"{package}.loggers")
        if name == "wandb":
            where = "." if folder is None else str(folder)
            return loggers.WandbLogger(name=run, project="realnvp", save_dir=where)
        # Lightning's own choice is a folder, which newer versions of MLflow refuse.
        uri = import_module("mlflow").get_tracking_uri()
        return loggers.MLFlowLogger(experiment_name="realnvp", run_name=run, tracking_uri=uri)
    except ImportError as error:
        raise ValueError(
            f"--logger {name} needs Lightning's logger: pip install pytorch-lightning {name}"
        ) from error
    except Exception as error:  # each service has its own
        raise ValueError(f"--logger {name}: {' '.join(str(error).split())}") from error
