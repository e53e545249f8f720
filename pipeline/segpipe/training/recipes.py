"""What `train.recipe` puts where params.yaml says `auto`."""

from __future__ import annotations

from typing import Any

AUTO = "auto"
# From scratch, all weights learn at one rate. When fine-tuning (docs/training.md), the encoder already knows much and
# learns at half the rate; decay would pull the scales of its batch norms away from ImageNet's.
RECIPES: dict[str, dict[str, Any]] = {
    "scratch": {
        "lr": 0.004, "weight_decay": 0.01, "schedule": "polynomial", "warmup_epochs": 1, "encoder_rate": 1.0,
        "decay_norms": True, "frozen_norms": False,
    },
    "finetune": {
        "lr": 0.002, "weight_decay": 0.01, "schedule": "polynomial", "warmup_epochs": 1, "encoder_rate": 0.5,
        "decay_norms": False, "frozen_norms": False,
    },
}  # fmt: skip


def fill(values: dict[str, Any], recipe: object) -> dict[str, Any]:
    """The values with what the recipe says in place of `auto`; an unknown recipe fills nothing."""
    chosen = RECIPES.get(recipe, {}) if isinstance(recipe, str) else {}
    return {key: chosen.get(key, value) if value == AUTO else value for key, value in values.items()}
