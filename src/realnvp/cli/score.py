"""``realnvp score``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from realnvp.cli.options import (
    Parser,
    add_data,
    add_draws,
    add_keep,
    add_model,
    add_processes,
    add_table_out,
    free_path,
    output_path,
)
from realnvp.cli.shared import (
    examples,
    identifiers,
    read_file,
    read_model,
    row_names,
    start,
    streamed,
    tell,
    warning_once,
)

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from realnvp.columns.impossible import Impossible
    from realnvp.data import Split
    from realnvp.flow import Flow
    from realnvp.outliers import Histogram, OutlierScorer
    from realnvp.training.launch import Processes

    Scores = dict[str, NDArray]

EPILOG = """examples:
  realnvp score runs/mnist --data photos/ --out scores.csv
  realnvp score runs/table --data new.csv --alpha 0.01           marks rows with p <= 0.01
  realnvp score runs/table --data new.csv --alpha 0.05 --fdr     at most 5 % false alarms
  realnvp score runs/table --data new.csv --explain              and which columns are unusual
  realnvp score runs/mnist --data photos/ --symmetries           finds inverted, turned photos
  realnvp score runs/table --data new.csv --out scores.parquet
  realnvp score detector --data new.csv                          a saved RealNVPOutlierDetector

docs/outliers.md explains what these scores can detect and what they cannot.
"""

BLOCK = 65_536
"""Approximate number of rows of a Parquet file, or of a result, that are in memory at a time."""

IN_MEMORY = 2**26
"""Bytes of scores from which on they wait on the disk until all rows are scored."""


def main(argv: list[str]) -> int:
    """Write the log-likelihood, the outlier score and the p-value of every example."""
    args = _parser().parse_args(argv)
    path = output_path(args, ".csv", ".parquet", ".npz")
    if args.alpha is not None and not 0 < args.alpha < 1:
        raise ValueError(f"--alpha is a probability between 0 and 1, got {args.alpha:g}")
    if args.fdr and args.alpha is None:
        raise ValueError("--fdr needs --alpha, the share of false discoveries")
    if args.keep is not None and (args.data is None or args.split is not None):
        raise ValueError("--keep names columns of a table: give the file with --data")
    explained = _explained_path(args, path)

    from realnvp.utils.model_folder import DETECTOR

    if (Path(args.model) / DETECTOR).is_file():
        _score_by_detector(args, path, explained)
        return 0
    with start(args) as processes:
        with processes.sync_errors():
            flow = read_model(args, processes.device)
        _score(args, flow, path, explained, processes)
    return 0


def _parser() -> Parser:
    parser = Parser(
        "score",
        "Score every example: the log-likelihood in nats (higher is likelier), for images also\n"
        "bits/dim (lower is likelier), an outlier score (higher is more unusual), and a p-value:\n"
        "the share of held-out examples that are at least as unusual.",
        EPILOG,
    )
    add_model(parser)
    add_data(parser)
    add_processes(parser)
    add_draws(parser)
    parser.add_argument(
        "--alpha",
        type=float,
        metavar="X",
        help="mark examples with a p-value of at most X, in a column `outlier` of 0 and 1",
    )
    parser.add_argument(
        "--fdr",
        action="store_true",
        help="bound the expected share of false alarms among the marked examples by --alpha\n"
        "instead (Benjamini and Hochberg)",
    )
    parser.add_argument(
        "--symmetries",
        action="store_true",
        help="compare each image with itself transposed and inverted, too, which takes three\n"
        "times as long",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="explain the 20 most unusual and the 20 most ordinary examples, next to the nearest\n"
        "training examples, in FILE-explained.csv, or in a picture of images",
    )
    add_keep(parser)
    add_table_out(
        parser,
        "scores.csv",
        "a .csv or .parquet table, whose first column is the name of the image, or the number\n"
        "of the row from 0; or a .npz file",
    )
    return parser


def _explained_path(args: Any, path: Path) -> Path | None:
    """Return the file of --explain without its suffix; neither kind of it must exist."""
    if not args.explain:
        return None
    stem = path.with_name(f"{path.stem}-explained")
    for suffix in (".csv", ".png"):
        free_path(args, Path(f"{stem}{suffix}"))
    return stem


def _score(args: Any, flow: Flow, path: Path, explained: Path | None, processes: Processes) -> None:
    import numpy as np
    import pandas as pd

    from realnvp.data.tables import read_frame
    from realnvp.outliers import Histogram, OutlierScorer
    from realnvp.outliers.calibration import statistics_by_block
    from realnvp.utils.progress import Bar, warn

    noted: list[Impossible] = []
    kept = None
    if args.keep is not None:
        kept = identifiers(read_frame(Path(args.data).expanduser()), args.keep, args.data)
    # Batches must begin where they do without streaming: then the results are the same bits.
    turn = args.batch_size * processes.world_size
    with processes.sync_errors():
        stream = None if args.explain else streamed(flow, args, -(-BLOCK // turn) * turn)
    if stream is None:
        read = partial(examples, flow, args, warning_once(noted))
        split, name = processes.rank_zero_first(read)
        count, parts = len(split), iter([split])
    else:
        (count, parts), name, split = stream, args.data, None
    scorer = OutlierScorer(flow, symmetries=args.symmetries)
    calibrated = scorer.calibration is not None
    if not calibrated and processes.main:
        if args.alpha is not None:
            raise ValueError(
                f"{args.model} has no calibration, so there are no p-values for --alpha: "
                f"realnvp calibrate {args.model} makes one"
            )
        warn(
            f"{args.model} has no calibration, so there are no p-values and the score is the "
            f"simplest one: realnvp calibrate {args.model} makes one"
        )
    names, seen = scorer.names, Histogram(scorer.held_out) if calibrated else None
    folder = path.parent if path.parent.is_dir() else Path()
    done = 0
    with tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(folder)) as stored:
        with Bar("scoring", visible=not args.json, main=processes.main) as bar:
            for part in _together(parts, processes):

                def progress(scored: int, _: int, before: int = done) -> None:
                    bar.update((before + scored) / count)

                for start, statistics in statistics_by_block(
                    flow,
                    part,
                    scorer.near,
                    samples=args.samples,
                    batch_size=args.batch_size,
                    seed=args.seed,
                    shared=True,
                    first=done,
                    symmetries=args.symmetries,
                    progress=progress,
                ):
                    if not processes.main:
                        continue
                    scores = scorer.columns(statistics)
                    stored.write(np.column_stack([scores[key] for key in names]).tobytes())
                    if seen is not None:
                        index = np.arange(start, start + len(statistics["bound"]))
                        seen.add(scores["p_value"], scorer.like_held_out(statistics, index))
                done += len(part)
        if processes.main:
            source = args.data or name.rpartition(" (")[0]
            every_row: dict[str, Any] = {"row": range(count)}
            labels = every_row if split is None else row_names(source, split)
            frames = _named(_blocks(stored, names), labels, kept)
            if kept is not None:  # and so in memory: types of columns follow from all rows
                frames = iter([pd.concat(frames, ignore_index=True)])
            result = write_scores(args, path, frames, names, seen, name)
            if explained is not None and split is not None:
                found = pd.concat(_blocks(stored, names), ignore_index=True)
                every = {key: found[key].to_numpy() for key in names}
                result["explained"] = str(_explain(args, explained, split, every, scorer, noted))
            report(args, result)


def _blocks(stored: IO[bytes], names: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield the scores that are stored, row by row, in float64."""
    import numpy as np
    import pandas as pd

    stored.seek(0)
    while content := stored.read(BLOCK * len(names) * 8):
        yield pd.DataFrame(np.frombuffer(content).reshape(-1, len(names)), columns=list(names))


def _named(
    frames: Iterable[pd.DataFrame], labels: dict[str, Any], kept: pd.DataFrame | None
) -> Iterator[pd.DataFrame]:
    """Yield scores after the columns that name their rows, or the columns that are kept."""
    import pandas as pd

    ((key, values),) = labels.items()
    start = 0
    for frame in frames:
        own = values[start : start + len(frame)]
        start += len(frame)
        if kept is not None:
            taken = {n: f"{n} (data)" for n in kept if n in (*frame, "outlier")}
            own = kept.iloc[list(own)].rename(columns=taken).reset_index(drop=True)
            yield pd.concat([own, frame], axis=1)
            continue
        if key == "image":  # names of files may not be text
            own = [str(file).encode(errors="backslashreplace").decode() for file in own]
        yield pd.concat([pd.DataFrame({key: own}), frame], axis=1)


def _score_by_detector(args: Any, path: Path, explained: Path | None) -> None:
    """Write the outlier score and the p-value of every row, by a saved detector."""
    import pandas as pd

    from realnvp.estimator import RealNVPOutlierDetector
    from realnvp.outliers import Histogram

    if args.data is None or args.split is not None or args.symmetries:
        raise ValueError(
            f"{args.model} is a saved detector of a table's outliers: give the rows with --data, "
            "and leave out --split and --symmetries"
        )
    detector, frame = RealNVPOutlierDetector.load(args.model), read_file(args.data)
    names = getattr(detector, "feature_names_in_", None)
    rows = frame.to_numpy() if names is None else frame[frame.columns.intersection(names)]
    kept = None if args.keep is None else identifiers(frame, args.keep, args.data)
    scores = {"outlier_score": -detector.score_samples(rows), "p_value": detector.p_values(rows)}
    seen = Histogram(detector.calibration_scores_)
    seen.add(scores["p_value"], detector.like_held_out(rows))
    named = _named([pd.DataFrame(scores)], {"row": range(len(frame))}, kept)
    result = write_scores(args, path, named, list(scores), seen, args.data)
    if explained is not None:
        chosen, _ = _extremes(scores)
        few = pd.DataFrame(rows).iloc[chosen].reset_index(drop=True)
        reasons = pd.DataFrame(detector.explain(few), columns=few.columns)
        file = Path(f"{explained}.csv")
        result["explained"] = str(_write_reasons(args, file, chosen, chosen, scores, reasons, few))
    report(args, result)


def _together(parts: Iterator[Split], processes: Processes) -> Iterator[Split]:
    """Yield parts, each as soon as all processes have read it."""
    while True:
        with processes.sync_errors():
            part = next(parts, None)
        if part is None:
            return
        yield part


def write_scores(
    args: Any,
    path: Path,
    frames: Iterator[pd.DataFrame],
    names: Sequence[str],
    seen: Histogram | None,
    data: str,
) -> dict[str, Any]:
    """Write scores, with a mark of outliers if ``--alpha`` is given.

    Args:
        args: the arguments.
        path: file to write.
        frames: the rows, in blocks.
        names: names of the columns of scores.
        seen: counts of all p-values, if there are any.
        data: name of the data.

    Returns:
        the summary to be reported.
    """
    import numpy as np
    import pandas as pd

    from realnvp.data.tables import write_frames
    from realnvp.utils.files import replacing

    limit = None
    if seen is not None and args.alpha is not None:
        limit = seen.threshold(args.alpha) if args.fdr else args.alpha
    sums, counts, rows = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0), 0

    def finished() -> Iterator[pd.DataFrame]:
        nonlocal rows
        for frame in frames:
            rows += len(frame)
            for key in names:
                finite = frame[key][np.isfinite(frame[key])]
                sums[key], counts[key] = sums[key] + finite.sum(), counts[key] + len(finite)
            yield frame if limit is None else frame.assign(outlier=frame["p_value"].le(limit) * 1)

    if path.suffix == ".npz":
        table = pd.concat(finished(), ignore_index=True)
        arrays: dict[str, Any] = {str(key): np.array(table[key].tolist()) for key in table}
        with replacing(path) as temporary:
            np.savez_compressed(temporary, **arrays)
    else:
        write_frames(finished(), path, escape=args.escape_formulas, digits=9)
    result: dict[str, Any] = {"out": str(path), "examples": rows, "data": data}
    for key in names:
        if key != "p_value":
            result[key] = float(sums[key] / counts[key]) if counts[key] else np.nan
    if counts.get("log_likelihood", rows) < rows:
        result["impossible"] = rows - counts["log_likelihood"]
    return result if seen is None else result | _judged(args, seen, limit, data)


def _judged(args: Any, seen: Histogram, limit: float | None, data: str) -> dict[str, Any]:
    """Return what p-values tell of all examples, with warnings."""
    from realnvp.outliers.significance import nothing_can_be_found
    from realnvp.utils.progress import warn

    held_out, total = len(seen.held_out), int(seen.p.sum())
    result: dict[str, Any] = {}
    if limit is not None:
        marked = seen.at_most(limit)
        result |= {"alpha": args.alpha, "fdr": args.fdr, "outliers": marked}
        other = ", leave out --fdr" if args.fdr else ""
        advice = f"choose a larger --alpha{other} or calibrate with more"
        if warning := nothing_can_be_found(seen.values[seen.p > 0], marked, held_out, advice):
            warn(warning)
    shift = seen.shift_p_value()
    if shift < 0.001:
        strange = seen.at_most(0.05) / total
        why = (
            "they look more ordinary, as the model's training data do: score data that it has "
            "not seen"
            if strange < 0.05
            else "p-values are unreliable where the data have shifted"
        )
        warn(
            f"the examples of {data} as a whole differ from the held-out ones (p = "
            f"{shift:.1e}; {strange:.1%} of their p-values are 0.05 or less): {why}"
        )
    return {**result, "calibration": held_out, "shift_p_value": shift}


def report(args: Any, result: dict[str, Any]) -> None:
    """Print the summary of scores."""
    mean, count = result.get("log_likelihood"), result["examples"]
    what = "outlier scores" if mean is None else f"log-likelihoods, mean {mean:.4f} nats"
    texts = [f"{args.out}  {count:,} {what}"]
    if "impossible" in result:
        texts.append(f"{result['impossible']:,} of them -inf, which are excluded from the mean")
    if "outliers" in result:
        what = f"false discoveries <= {args.alpha:g}" if args.fdr else f"p <= {args.alpha:g}"
        texts.append(f"{result['outliers']:,} of {count:,} are outliers ({what})")
    if "explained" in result:
        texts.append(f"{result['explained']}  the most unusual and the most ordinary examples")
    tell(args, result, *texts)


# ---------------------------------------------------------------------- explanations


def _explain(
    args: Any, stem: Path, split: Split, scores: Scores, scorer: OutlierScorer,
    noted: list[Impossible],
) -> Path:  # fmt: skip
    """Write the most unusual and the most ordinary examples with explanations."""
    import torch

    chosen, few = _extremes(scores)
    part = split.select(torch.as_tensor(chosen.copy()))
    if scorer.flow.levels is None:
        return _explain_rows(args, Path(f"{stem}.csv"), part, chosen, scores, scorer, noted)
    return _explain_images(args, Path(f"{stem}.png"), part, few, scorer)


def _extremes(scores: Scores) -> tuple[NDArray, int]:
    """Return the indices of the most unusual and the most ordinary examples, and their number."""
    import numpy as np

    order = np.argsort(-scores["outlier_score"], kind="stable")
    few = min(20, (len(order) + 1) // 2)
    return np.concatenate([order[:few], order[len(order) - few :]]), few


def _explain_rows(
    args: Any, path: Path, part: Split, chosen: Any, scores: Scores, scorer: OutlierScorer,
    noted: list[Impossible],
) -> Path:  # fmt: skip
    import pandas as pd

    from realnvp.data.tables import read_frame
    from realnvp.pretrained import table_of
    from realnvp.tables.scores import explained
    from realnvp.utils.progress import Bar

    flow = scorer.flow
    schema = table_of(flow)
    impossible = [each.of_rows(chosen) for each in noted]
    with Bar("explaining", visible=not args.json) as bar:
        reasons = explained(flow, part.x, part.condition, impossible, bar.count)
    near = None if scorer.near is None else scorer.near.rows[scorer.near.nearest(part.x)]

    def shown(x: Any) -> pd.DataFrame:
        x = x.cpu().double().numpy()
        if schema is None:
            return pd.DataFrame(x, columns=flow.column_names)
        return schema.decode(x, bounded=False)

    rows = chosen if part.rows is None else part.rows.numpy()
    nearest = None if near is None else shown(near)
    if any(each.rows for each in impossible):  # such values have no features
        values = read_frame(Path(args.data).expanduser()).iloc[rows].reset_index(drop=True)
    else:
        values = shown(part.x)
    return _write_reasons(args, path, rows, chosen, scores, reasons, values, nearest)


def _write_reasons(
    args: Any, path: Path, rows: Any, chosen: Any, scores: Scores, reasons: pd.DataFrame,
    values: pd.DataFrame, nearest: pd.DataFrame | None = None,
) -> Path:  # fmt: skip
    """Write rows with the surprise of each column, and the nearest training rows."""
    import pandas as pd

    from realnvp.utils.files import csv_text, write_atomically

    reasons = reasons.dropna(axis=1, how="all")  # columns that add no information
    results: dict[str, Any] = {"row": rows}
    for key in ("outlier_score", "p_value"):
        if key in scores:
            results[key] = scores[key][chosen]
    # At most three columns, whose surprise is more than a nat.
    results["most surprising"] = [
        ", ".join(map(str, row[row > 1].nlargest(3).index)) for _, row in reasons.iterrows()
    ]
    # A table may have columns of these names itself.
    table = {f"{key} (realnvp)" if key in reasons else key: v for key, v in results.items()}
    for name in reasons.columns:
        table[name] = values[name]
        table[f"{name}: surprise"] = reasons[name].round(3)
        if nearest is not None:
            table[f"{name}: nearest"] = nearest[name]
    content = csv_text(pd.DataFrame(table), escape=args.escape_formulas, float_format="%.9g")
    write_atomically(path, content.encode())
    return path


def _explain_images(args: Any, path: Path, part: Split, few: int, scorer: OutlierScorer) -> Path:
    from realnvp import plots
    from realnvp.outliers.explain import heat_map

    flow, condition = scorer.flow, part.condition
    condition = None if condition is None else condition.to(flow.device)
    maps = heat_map(flow, part.x.to(flow.device), condition).cpu()
    picture = plots.explained(
        part.x, maps, _nearest_images(args, flow, part.x), few, flow.levels or 256
    )
    plots.save_figure(picture, path)
    return path


def _nearest_images(args: Any, flow: Flow, x: Any) -> Any:
    """Return the nearest training images if the model is a run directory; otherwise None."""
    import torch

    if flow.origin != "run":
        return None
    train, _ = examples(flow, args, data=None, split="train")
    best = torch.full((len(x),), torch.inf)
    nearest = torch.zeros_like(x)
    flat = x.flatten(1).float()
    for part in train.x.split(4096):
        distance, index = torch.cdist(flat, part.flatten(1).float()).min(1)
        closer = distance < best
        best = torch.where(closer, distance, best)
        nearest[closer] = part[index[closer]]
    return nearest
