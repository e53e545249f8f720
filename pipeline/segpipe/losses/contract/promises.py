"""The promises, one check each; the first line of a docstring is what is promised."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from segpipe.losses.contract.base import NotApplicable, Subject, promise

VOID = 255


def case(
    classes: int,
    *,
    seed: int = 0,
    images: int = 3,
    size: tuple[int, int] = (4, 5),
    void: float = 0.2,
    scale: float = 3.0,
) -> tuple[Tensor, Tensor]:
    """Random float64 logits and labels with void pixels; class 1 is absent when there are three or more."""
    random = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(images, classes, *size, generator=random, dtype=torch.float64)
    target = torch.randint(0, classes, (images, *size), generator=random)
    if classes > 2:
        target[target == 1] = 0
    target[torch.rand(images, *size, generator=random) < void] = VOID
    return logits, target


def one_hot(target: Tensor, classes: int) -> Tensor:
    """The soft form (N, C, H, W) of labels; void becomes class 0."""
    return torch.nn.functional.one_hot(target.masked_fill(target == VOID, 0), classes).movedim(3, 1).double()


def _differ(found: Tensor | float, wanted: Tensor | float, what: str, rel: float = 1e-12) -> str | None:
    a, b = float(found), float(wanted)
    return None if math.isclose(a, b, rel_tol=rel, abs_tol=1e-13) else f"{what}: {a:.6g}, wanted {b:.6g}"


def _not_finite(value: Tensor, gradient: Tensor) -> str | None:
    if not bool(value.isfinite()):
        return f"the value is {float(value)}"
    return None if bool(gradient.isfinite().all()) else "the gradient is not finite"


@promise
def empty(subject: Subject) -> str | None:
    """No valid pixel gives 0 with zero gradient."""
    logits, target = case(subject.classes)
    value, gradient = subject.gradient(logits, torch.full_like(target, VOID))
    if value.ndim or float(value) != 0:
        return f"the value is {value.tolist()}"
    return "the gradient is not zero" if bool(gradient.any()) else None


@promise
def void(subject: Subject) -> str | None:
    """Void pixels change nothing, whatever their logits hold."""
    logits, target = case(subject.classes)
    hidden = (target == VOID).unsqueeze(1)
    value, gradient = subject.gradient(logits, target)
    if bool(gradient.masked_select(hidden).any()):
        return "the gradient reaches void pixels"
    for poison in (-7.0, float("inf"), float("nan")):
        other, also = subject.gradient(logits.masked_fill(hidden, poison), target)
        if not torch.equal(other, value):
            return f"logits of {poison} under void give {float(other):.6g}, wanted {float(value):.6g}"
        if not torch.equal(also, gradient):
            return f"logits of {poison} under void change the gradient"
    return None


@promise
def void_is_left_out(subject: Subject) -> str | None:
    """The mean runs over valid pixels alone."""
    if subject.bare or subject.spatial:
        raise NotApplicable("its terms are no means over labelled pixels")
    logits = torch.zeros(1, subject.classes, 4, 4, dtype=torch.float64)
    target = torch.arange(16).reshape(1, 4, 4) % subject.classes
    half = target.repeat(1, 2, 1)
    half[:, 4:] = VOID
    return _differ(
        subject.function(logits.repeat(1, 1, 2, 1), half), subject.function(logits, target), "half of the image void"
    )


@promise
def out_of_range(subject: Subject) -> str | None:
    """A label that is neither a class nor void is refused."""
    logits, target = case(subject.classes)
    for wrong in (subject.classes, 77, -1):
        try:
            value = subject.function(logits, target.index_fill(2, torch.tensor([0]), wrong))
        except Exception:
            continue
        return f"label {wrong} gives {float(value):.4g}"
    return None


@promise
def float_labels(subject: Subject) -> str | None:
    """Hard labels of a floating type are refused."""
    logits, target = case(subject.classes)
    try:
        value = subject.function(logits, target.double())
    except Exception:
        return None
    return f"gives {float(value):.4g}"


@promise
def integers(subject: Subject) -> str | None:
    """Labels of any integer type agree."""
    logits, target = case(subject.classes)
    wanted = subject.function(logits, target)
    for kind in (torch.uint8, torch.int16, torch.int32):
        found = _differ(subject.function(logits, target.to(kind)), wanted, str(kind))
        if found:
            return found
    return None


@promise
def nan_logits(subject: Subject) -> str | None:
    """Nan logits on valid pixels are refused, or make the value nan."""
    logits, target = case(subject.classes, void=0)
    logits[0, :, 0, 0] = float("nan")
    try:
        value = subject.function(logits, target)
    except (ValueError, RuntimeError):
        return None
    return f"the value is {float(value):.4g}" if bool(value.isfinite()) else None


@promise
def soft_labels(subject: Subject) -> str | None:
    """One-hot soft targets equal hard labels, or are refused with a ValueError."""
    logits, target = case(subject.classes, void=0)
    soft = one_hot(target, subject.classes)
    if not subject.soft:
        try:
            subject.function(logits, soft)
        except ValueError:
            return None
        return "soft targets are taken without a word"
    return _differ(subject.function(logits, soft), subject.function(logits, target), "soft one-hot")


@promise
def one_channel(subject: Subject) -> str | None:
    """Binary logits of one channel equal two channels 0 and z."""
    if subject.name.startswith("one_vs_rest"):
        raise NotApplicable("two sigmoids are not one")
    logits, target = case(2)
    one = logits[:, 1:]
    two = torch.cat([torch.zeros_like(one), one], 1)
    return _differ(subject.function(one, target), subject.function(two, target), "one channel")


@promise
def layout(subject: Subject) -> str | None:
    """Channels last, crops and strides agree with contiguous logits."""
    logits, target = case(subject.classes, size=(6, 7))
    wanted = subject.function(logits[:, :, 1:5, 2:6].contiguous(), target[:, 1:5, 2:6].contiguous())
    last = logits.contiguous(memory_format=torch.channels_last)[:, :, 1:5, 2:6]
    found = _differ(subject.function(logits[:, :, 1:5, 2:6], target[:, 1:5, 2:6]), wanted, "a crop")
    return found or _differ(subject.function(last, target[:, 1:5, 2:6]), wanted, "channels last")


@promise
def saturated(subject: Subject) -> str | None:
    """Value and gradient are finite at logits of 40 and 1000, right or wrong."""
    _, target = case(subject.classes, void=0)
    for size in (40.0, 1000.0):
        for sign in (1, -1):
            found = _not_finite(
                *subject.gradient(sign * size * (2 * one_hot(target, subject.classes) - 1).float(), target)
            )
            if found:
                return f"{found} at logits of {sign * size:g}"
    return None


@promise
def perfect(subject: Subject) -> str | None:
    """A perfect prediction costs 0 in a batch of present and absent classes."""
    if subject.bare:
        raise NotApplicable("not a loss of labels")
    if subject.spatial:
        raise NotApplicable("its spatial terms cost something at any prediction")
    _, target = case(subject.classes, void=0)
    value, gradient = subject.gradient(1000 * (2 * one_hot(target, subject.classes) - 1), target)
    return _not_finite(value, gradient) or _differ(value, 0.0, "the value") if abs(float(value)) > 1e-6 else None


@promise
def half_precision(subject: Subject) -> str | None:
    """Float16 and bfloat16 logits are computed in float32."""
    logits, target = case(subject.classes, images=1, size=(512, 512))
    for kind in (torch.float16, torch.bfloat16):
        half = logits.to(kind)
        found = _differ(subject.function(half, target), subject.function(half.double(), target), str(kind), rel=1e-4)
        if found:
            return found
    return None


@promise
def many_pixels(subject: Subject) -> str | None:
    """Float32 agrees with float64 on a million pixels and a class of twenty."""
    logits, target = case(subject.classes, images=1, size=(1024, 1024), void=0.03)
    target[target == subject.classes - 1] = 0
    target[:, 500, 500:520] = subject.classes - 1
    single, found, threads = logits.float(), None, torch.get_num_threads()
    wanted = subject.function(single.double(), target)
    try:
        for number in (1, 2):  # one thread adds longer rows than two
            torch.set_num_threads(number)
            found = found or _differ(subject.function(single, target), wanted, f"float32, threads {number}", rel=2e-5)
    finally:
        torch.set_num_threads(threads)
    return found


@promise
def one_pixel(subject: Subject) -> str | None:
    """An image of one pixel works, alone and beside void."""
    logits = torch.arange(float(subject.classes), dtype=torch.float64).reshape(1, -1, 1, 1)
    found = _not_finite(*subject.gradient(logits, torch.zeros(1, 1, 1, dtype=torch.long)))
    target = torch.full((1, 2, 2), VOID)
    target[0, 0, 0] = 0
    return found or _not_finite(*subject.gradient(logits.repeat(1, 1, 2, 2), target))


@promise
def one_class(subject: Subject) -> str | None:
    """Its scale does not depend on how many classes a batch shows."""
    if subject.bare:
        raise NotApplicable("not a loss of labels")
    logits = torch.zeros(2, subject.classes, 10, 10, dtype=torch.float64)
    every = torch.arange(200).reshape(2, 10, 10) % subject.classes
    one, many = float(subject.function(logits, every * 0)), float(subject.function(logits, every))
    if not (math.isfinite(one) and many / 3 <= one <= many * 3):
        return f"uniform prediction: {one:.4g} with one class present, {many:.4g} with all"
    return None


@promise
def order(subject: Subject) -> str | None:
    """The order of images and pixels does not matter."""
    logits, target = case(subject.classes)
    wanted = subject.function(logits, target)
    found = _differ(subject.function(logits.flip(0), target.flip(0)), wanted, "images reversed", rel=1e-11)
    if found or subject.spatial:
        return found
    at = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    mixed = logits.flatten(2)[:, :, at].view_as(logits), target.flatten(1)[:, at].view_as(target)
    return _differ(subject.function(*mixed), wanted, "pixels permuted", rel=1e-11)


@promise
def repeatable(subject: Subject) -> str | None:
    """Value and gradient are the same bits again, ties included."""
    _, target = case(subject.classes)
    logits = torch.zeros(3, subject.classes, 4, 5)
    first, again = subject.gradient(logits, target), subject.gradient(logits, target)
    return None if torch.equal(first[0], again[0]) and torch.equal(first[1], again[1]) else "two calls differ"


@promise
def inputs_kept(subject: Subject) -> str | None:
    """Logits and target are not changed."""
    logits, target = case(subject.classes)
    before = logits.clone(), target.clone()
    subject.gradient(logits, target)
    subject.function(logits, target)
    return None if torch.equal(logits, before[0]) and torch.equal(target, before[1]) else "an input was written to"


@promise
def gradient(subject: Subject) -> str | None:
    """The gradient equals finite differences (gradcheck, float64)."""
    logits, target = case(subject.classes, images=2, size=(2, 3), scale=1.0)
    leaf = logits.requires_grad_()
    torch.autograd.gradcheck(lambda z: subject.function(z, target), (leaf,))
    return None
