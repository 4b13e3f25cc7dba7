"""The optimizer and its learning rate over the budget."""

from __future__ import annotations

import math

import torch

from realnvp.config import TrainingConfig
from realnvp.models import Flow

__all__ = ["learning_rate", "make_optimizer"]


def make_optimizer(flow: Flow, config: TrainingConfig) -> torch.optim.Optimizer:
    """Adam or AdamW; the weight decay is of the conditioners' weights, not of biases and norms."""
    weights = [p for p in flow.parameters() if p.ndim > 1]
    others = [p for p in flow.parameters() if p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, betas=config.betas, fused=True)


def learning_rate(config: TrainingConfig, step: int, progress: float) -> float:
    """Warm-up by steps, then the decay over the last ``cooldown`` of the budget."""
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    done = max(0.0, (progress - (1 - config.cooldown)) / config.cooldown)
    fall = {
        "constant": 1.0,
        "linear": 1 - done,
        "cosine": 0.5 * (1 + math.cos(math.pi * min(done, 1.0))),
    }[config.decay]
    return config.lr * rise * fall
