"""What every loss promises, as checks that run on any loss: `segpipe losses check`.

A check takes a `Subject` and returns None when the promise holds, or what it found instead. The
same checks are the tests over the registry, and show where losses of other libraries differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Subject:
    """A loss under check: `function(logits, target)` -> scalar, and what kind it is.

    soft: takes soft targets; binary: two classes only; bare: no loss of labels of its own; spatial:
    depends on where pixels are; shared: equal under torch.distributed to one process; traced: all of it is torch's.
    """

    name: str
    function: Loss
    soft: bool = True
    binary: bool = False
    bare: bool = False
    spatial: bool = False
    shared: bool = True
    traced: bool = True

    @property
    def classes(self) -> int:
        """How many classes the cases have."""
        return 2 if self.binary else 5

    def gradient(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Value and gradient."""
        leaf = logits.detach().clone().requires_grad_()
        value = self.function(leaf, target)
        value.backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        return value.detach(), leaf.grad


class NotApplicable(Exception):
    """The promise says nothing about this loss."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: verdict "holds", "fails" or "-" (not applicable)."""

    promise: str
    verdict: str
    detail: str = ""


Check = Callable[[Subject], str | None]
PROMISES: dict[str, Check] = {}


def promise(check: Check) -> Check:
    """Add a check under its first docstring line."""
    PROMISES[(check.__doc__ or "").splitlines()[0].rstrip(".")] = check
    return check


def check_loss(subject: Subject, promises: dict[str, Check] | None = None) -> Iterator[Finding]:
    """Run the checks; an exception inside one is a failure that is told, not raised."""
    for name, check in (PROMISES if promises is None else promises).items():
        try:
            detail = check(subject)
        except NotApplicable as reason:
            yield Finding(name, "-", str(reason))
        except Exception as error:
            first = re.sub(r"\s+", " ", str(error))[:120]
            yield Finding(name, "fails", f"raised {type(error).__name__}: {first}")
        else:
            yield Finding(name, "holds" if detail is None else "fails", detail or "")


def subject_of(spec: str) -> Subject:
    """A loss of the registry, a compound, or `path/to/file.py:function` (the file is run).

    Raises:
        ConfigError: no such loss, file or function.
    """
    from segpipe import losses
    from segpipe.core import registry
    from segpipe.losses.compound import PACKAGE
    from segpipe.losses.contract.loading import load_function

    if ".py:" in spec:
        function: Any = load_function(spec)
        return Subject(spec, function)
    kinds = [registry.find(PACKAGE, "loss", term.name).attributes for term in losses.parse(spec)]
    return Subject(
        spec,
        losses.create(spec),
        soft=not any(kind.get("needs") == "hard labels" for kind in kinds),
        binary=any(kind.get("binary", False) for kind in kinds),
        bare=all(kind.get("bare", False) for kind in kinds),
        spatial=any(kind.get("spatial", False) for kind in kinds),
        shared=not any(kind.get("per_process", False) for kind in kinds),
        traced=not any(kind.get("on_cpu", False) for kind in kinds) and "kind=distance" not in spec,
    )
