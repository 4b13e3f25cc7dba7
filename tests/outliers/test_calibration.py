"""Calibrations: what is saved with a model, and the scores that are made of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import realnvp
from realnvp.data import Split
from realnvp.estimator import RealNVPDensity
from realnvp.evaluation import log_likelihoods
from realnvp.outliers import Calibration, OutlierScorer, calibrate
from realnvp.outliers.calibration import statistics_by_block
from realnvp.outliers.statistics import COPIES


def rows(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


def flow_of_vectors() -> realnvp.Flow:
    return realnvp.vector_flow(2, coupling="affine").eval()


def flow_of_images() -> realnvp.Flow:
    flow = realnvp.image_flow((1, 8, 8), levels=17, hidden=4, blocks=1)
    flow.loss_terms(torch.arange(320, dtype=torch.uint8).view(5, 1, 8, 8) % 17)
    return flow.eval()


def found(scorer: OutlierScorer, x: torch.Tensor) -> dict[str, np.ndarray]:
    return {name: t.numpy() for name, t in scorer.statistics(x).items()}


def scores(scorer: OutlierScorer, x: torch.Tensor) -> np.ndarray:
    return scorer.score(found(scorer, x))


def test_p_values_of_new_rows_are_uniform_and_of_far_ones_small():
    flow = flow_of_vectors()
    scorer = OutlierScorer(flow, calibrate(flow, Split(rows(400, 0)), Split(rows(400, 1))))
    p = scorer.p_values(found(scorer, rows(2000, 2)))
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.025)
    assert scorer.p_values(found(scorer, torch.tensor([[5.0, -5.0]])))[0] < 0.005


def test_it_is_saved_with_the_model_and_counts_for_its_weights_only(tmp_path):
    flow = flow_of_vectors()
    flow.calibration = calibrate(flow, Split(rows(50, 0)), Split(rows(60, 1))).as_tensors()
    flow.save_pretrained(tmp_path)
    back = realnvp.load(tmp_path)
    x = rows(20, 2)
    assert np.array_equal(scores(OutlierScorer(flow), x), scores(OutlierScorer(back), x))
    other = {name: t + 1e-3 for name, t in flow.state_dict().items()}
    flow.calibration = None
    flow.save_pretrained(tmp_path, other)
    assert realnvp.load(tmp_path).calibration is None


def test_what_is_no_calibration_of_the_flow_is_refused():
    flow = flow_of_vectors()
    good = calibrate(flow, Split(rows(50, 0)), Split(rows(60, 1))).as_tensors()
    for name, tensor in (
        ("statistic/energy", torch.zeros(3)),
        ("statistic/energy", torch.full((50,), torch.nan)),
        ("rows", torch.zeros(5, 3)),
        ("condition", torch.zeros(2)),
    ):
        with pytest.raises(ValueError, match="realnvp calibrate"):
            Calibration.from_tensors({**good, name: tensor}, flow)
    with pytest.raises(ValueError, match="realnvp calibrate"):
        Calibration.from_tensors({}, flow)


def test_blocks_have_the_likelihood_and_noise_of_an_evaluation():
    flow = flow_of_images()
    generator = torch.Generator().manual_seed(0)
    split = Split(torch.randint(0, 17, (50, 1, 8, 8), generator=generator, dtype=torch.uint8))
    whole = log_likelihoods(flow, split, samples=2, batch_size=7, seed=3)
    blocks = statistics_by_block(flow, split, samples=2, batch_size=7, seed=3, block=20)
    parts = [found["bound"] for _, found in blocks]
    assert len(parts) > 2
    assert np.allclose(np.concatenate(parts), whole)


def test_images_without_a_calibration_have_the_score_that_needs_none():
    flow = flow_of_images()
    x = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    scorer = OutlierScorer(flow)
    found = {name: t.numpy() for name, t in scorer.statistics(x, None, None).items()}
    bits = -found["log_likelihood"] / (64 * np.log(2))
    assert np.allclose(scorer.score(found), bits - found["codec"])
    held_out = Split(torch.randint(0, 17, (30, 1, 8, 8), dtype=torch.uint8))
    assert len(OutlierScorer(flow, calibrate(flow, held_out, most=20)).held_out) == 20


def test_images_are_compared_with_copies_if_the_calibration_has_them():
    flow, generator = flow_of_images(), torch.Generator().manual_seed(0)
    x = torch.randint(0, 17, (60, 1, 8, 8), generator=generator, dtype=torch.uint8)
    calibration = calibrate(flow, Split(x[:40]))
    with_copies = OutlierScorer(flow, calibration, symmetries=True)
    assert scores(with_copies, x[40:]).shape == (20,)
    assert (with_copies.p_values(found(with_copies, x[40:])) > 1 / 42).any()
    # Without them, the score is that of a calibration that never had any.
    former = {k: v for k, v in calibration.statistics.items() if k not in COPIES}
    plain, older = OutlierScorer(flow, calibration), OutlierScorer(flow, Calibration(former))
    values = found(plain, x[40:])
    assert not values.keys() & set(COPIES)
    assert np.array_equal(plain.score(values), older.score(values))
    for missing in (Calibration(former), None):
        with pytest.raises(ValueError, match="calibrate the model again"):
            OutlierScorer(flow, missing, symmetries=True)
    with pytest.raises(ValueError, match="model of vectors"):
        OutlierScorer(flow_of_vectors(), symmetries=True)


def test_large_numbers_of_a_table_are_compared_with_themselves(tmp_path):
    rng = np.random.default_rng(0)
    ids = 10**15 + 7 * rng.permutation(400)
    frame = pd.DataFrame({"id": ids, "v": rng.normal(size=400).round(2)})
    density = RealNVPDensity(max_steps=5, hidden=4, mixture_init=1, random_state=0).fit(frame)
    flow, x = density.flow_.float(), torch.as_tensor(density._schema.encode(frame)[0])
    calibration = calibrate(flow, Split(x[:100]), Split(x[100:]))
    assert calibration.statistics["latent_distance_1"].max() < 5
    flow.calibration = calibration.as_tensors()
    flow.save_pretrained(tmp_path)
    twin = realnvp.load(tmp_path)
    scorer = OutlierScorer(twin)
    _, found = next(statistics_by_block(twin, Split(x[:100]), scorer.near))
    assert 0.3 < np.median(scorer.p_values(found)) < 0.7
