"""Columns one after the other: the average of several networks, and what training sees of it."""

from __future__ import annotations

import torch

from helpers.bijections import BIJECTIONS, autoregressive, randomize
from realnvp.bijections.gaussian_mixture import log_normal


def test_the_density_is_the_mean_of_the_networks_and_each_learns_for_itself():
    layer = BIJECTIONS["autoregressive-networks"].build()
    x, condition = BIJECTIONS["autoregressive-networks"].inputs()

    def log_densities(layer):
        """Return the conditional log-densities of the columns, ``(D, B)``."""
        x_i = x.T.contiguous()
        mixture = layer._average(layer.coupling.conditioner(x, condition))
        log_weight, mean, log_scale = mixture
        terms = log_weight + log_normal((x_i - mean) * torch.exp(-log_scale)) - log_scale
        return terms.logsumexp(0)

    each = []
    for m in range(3):  # a layer of the m-th network alone
        alone = randomize(autoregressive(3, 2).double()).eval()
        state = {
            name: tensor.view(3, -1, *tensor.shape[1:])[m]
            for name, tensor in layer.state_dict().items()
        }
        alone.load_state_dict(state)
        each.append(log_densities(alone))
    log_p = torch.stack(each)
    z, log_det = layer(x, condition)
    mean = log_p.exp().mean(0).log().sum(0)
    torch.testing.assert_close(log_normal(z).sum(1) + log_det, mean)
    z, log_det = layer.train()(x, condition)
    torch.testing.assert_close(log_normal(z).sum(1) + log_det, log_p.mean(0).sum(0))
