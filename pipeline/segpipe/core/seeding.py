"""Random numbers by counter: a draw depends on its key alone, never on what was drawn before.

Workers, resuming and the order of samples therefore cannot change a result.
"""

from __future__ import annotations

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def mix(*key: int) -> int:
    """One well-mixed 64-bit integer from integers (splitmix64 finaliser over each part).

    >>> mix(0, 1) != mix(1, 0)
    True
    """
    state = 0
    for part in key:
        state = (state ^ (part & _MASK)) + _GOLDEN & _MASK
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


def generator(*key: int) -> np.random.Generator:
    """A Philox generator for this key, for example (seed, epoch, sample)."""
    return np.random.Generator(np.random.Philox(key=mix(*key)))


def seed_torch(*key: int) -> None:
    """Seed torch's global generators (initial weights, dropout) from a key."""
    import torch

    torch.manual_seed(mix(*key) >> 1)


def make_deterministic(threads: int) -> None:
    """Fix what else changes bits: torch's thread count and its choice of algorithms."""
    import torch

    torch.set_num_threads(threads)
    # Same switch as use_deterministic_algorithms, which would import the compiler (2 s).
    torch.set_deterministic_debug_mode("warn")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
