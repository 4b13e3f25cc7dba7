"""Architectures: couplings by name in every arrangement, and the settings of scales."""

from __future__ import annotations

import pytest
import torch

from helpers.bijections import randomize
from realnvp import image_flow, vector_flow
from realnvp.architectures import make_coupling
from realnvp.bijections import ChannelMask
from realnvp.config import ImageModel, VectorModel
from realnvp.utils.registry import COUPLINGS


@pytest.mark.parametrize("coupling", list(COUPLINGS))
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 2, 6), (2, 3, 3), (3,)])
def test_every_coupling_is_for_images_and_vectors(coupling, shape):
    if len(shape) == 3:
        scales = 1 if shape[1] % 2 else 2
        flow = image_flow(shape, coupling=coupling, hidden=4, norm="none", scales=scales).eval()
        x = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
        assert torch.equal(flow.decode(flow.encode(x)), x)
    else:
        flow = vector_flow(*shape, coupling=coupling, hidden=4).eval()
        x = torch.randn(2, *shape)
        torch.testing.assert_close(flow.decode(flow.encode(x)), x, atol=1e-4, rtol=1e-4)
    assert torch.isfinite(flow.log_prob(x)).all()


def test_options_of_couplings_are_checked():
    model = VectorModel(coupling="affine", coupling_options={"bins": 8})
    with pytest.raises(ValueError, match="no option 'bins': it has none"):
        vector_flow(2, model=model)
    with pytest.raises(ValueError, match="no option 'bins': its options are components"):
        make_coupling(ChannelMask(), 2, VectorModel(coupling_options={"bins": 8}))
    with pytest.raises(ValueError, match="coupling_options must be"):
        VectorModel(coupling_options={"bins": [8]})
    few = vector_flow(2, coupling_options={"components": 3}, components=5)
    assert next(m.components for m in few.modules() if hasattr(m, "components")) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: vector_flow(2, coupling="afine"),
            "'afine': did you mean 'affine'",
        ),
        (lambda: VectorModel(conditioner="net"), "unknown conditioner 'net'"),
        (lambda: ImageModel(architecture="pixelcnn"), "unknown architecture"),
        (lambda: ImageModel(coupling="nowhere:Spline"), "--import MODULE"),
        (lambda: image_flow((1, 4, 4), conditioner="mlp"), "'mlp' does not fit this model"),
        (lambda: vector_flow(2, architecture="glow"), "for images"),
        (lambda: vector_flow(2, architecture="autoregressive", coupling="affine"), "for vectors"),
    ],
)
def test_parts_that_do_not_exist_or_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_settings_of_scales_are_one_value_or_one_for_each():
    flow = image_flow(
        (1, 8, 8), architecture="coarse_to_fine", scales=3, steps=[3, 2, 4], hidden=[4, 6, 8]
    )
    names = [type(layer).__name__ for _, layer, _ in flow.bijection.outline((1, 8, 8), "")]
    assert names.count("Refine") == names.count("FactorOut") == 2
    assert flow.latent_scales().flatten().bincount().tolist() == [48, 12, 4]
    with pytest.raises(ValueError, match="hidden must be one value, or a list of 2"):
        ImageModel(hidden=[4, 6, 8])
    with pytest.raises(ValueError, match="hidden must be a positive number"):
        ImageModel(hidden=[4, 0])
    with pytest.raises(ValueError, match="hidden must be"):
        ImageModel(hidden=[4, 6.5])


def test_the_small_image_has_a_density_of_its_own():
    """Coarse to fine, the pixels of the small image do not depend on those between them."""
    options = {"architecture": "coarse_to_fine", "steps": 3, "hidden": 4, "blocks": 1}
    flow = randomize(image_flow((1, 4, 4), levels=4, norm="act", **options)).eval()
    x = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    other = x.clone()
    other[..., 1::2, :] = 3
    other[..., :, 1::2] = 3
    noise = torch.full(x.shape, 0.5)
    (first, _), (second, _) = (flow.latents_and_log_det(image, None, noise) for image in (x, other))
    coarse = flow.latent_scales() == 1
    assert coarse.sum() == 4
    torch.testing.assert_close(first[0][coarse], second[0][coarse])
    assert (first[0][~coarse] - second[0][~coarse]).abs().min() > 0
