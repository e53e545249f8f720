"""The checks themselves: they pass what is right, and find what other losses do wrong."""

import json
import math

import pytest
import torch
from test_zoo import VARIANTS
from torch.nn import functional

from segpipe import losses
from segpipe.losses import contract
from segpipe.losses.contract import slow

from conftest import segpipe

NAMES = losses.names()
SHARED = [
    *NAMES, "0.25*ce(label_smoothing=0.1) + 0.75*jml(average=class)", "ce(class_weights=[1, 0.5, 2, 0.2, 1])",
    "jml(average=image)", "dice(average=all)", "lmp(per_image=false)", "lovasz(per_image=true)",
    "generalized_dice(average=image)", "spatial(kind=compactness)", "prob_match(direction=reverse)",
]  # fmt: skip


OPTIONS = [spec for spec in VARIANTS if contract.subject_of(spec).shared and spec not in SHARED]
OPTIONS.remove("lovasz_hinge(per_image=false)")  # each process ranks its own pixels, as its docstring says


@pytest.fixture(scope="module")
def processes():
    return slow.compare_processes(SHARED)


@pytest.fixture(scope="module")
def options_on_two_processes():
    return slow.compare_processes(OPTIONS)


@pytest.mark.parametrize("spec", OPTIONS)
def test_two_processes_equal_one_under_every_option(spec, options_on_two_processes):
    together, _ = options_on_two_processes[spec]
    assert together < 1e-12


@pytest.mark.parametrize("spec", SHARED)
def test_two_processes_equal_one_and_would_not_without_communication(spec, processes):
    together, alone = processes[spec]
    assert alone > 1e-4, "the case would not notice a missing sum"
    if contract.subject_of(spec).shared or spec == "lovasz(per_image=true)":
        assert together < 1e-12
    else:
        said = " ".join(contract.subject_of(spec).function._functions[0].__doc__.split())
        assert "Under torch.distributed" in said or spec == "lovasz_hinge"  # which is exact by image, its default


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("spec", [*NAMES, "0.25*ce + 0.75*jml(average=class)"])
def test_is_one_graph_for_the_compiler(spec):
    subject = contract.subject_of(spec)
    (found,) = contract.check_loss(subject, {"compiled": slow.compiled})
    assert found.verdict == ("holds" if subject.traced else "-"), found.detail


def faults(function, **kinds):
    return {
        f.promise: f.detail
        for f in contract.check_loss(contract.Subject("x", function, **kinds))
        if f.verdict == "fails"
    }


def test_torch_cross_entropy_fails_where_it_is_known_to():
    found = faults(lambda z, y: functional.cross_entropy(z, y, ignore_index=255))
    assert "the value is nan" in found["No valid pixel gives 0 with zero gradient"]
    assert "change the gradient" in found["Void pixels change nothing, whatever their logits hold"]


def test_a_dice_loss_that_forgets_void_in_the_denominator_is_found():
    def dice(z, y):
        p, valid = z.softmax(1), (y != 255).unsqueeze(1)
        hot = functional.one_hot(y.clamp(max=z.shape[1] - 1).long(), z.shape[1]).movedim(3, 1) * valid
        return 1 - (2 * (p * hot).sum() + 1) / (p.sum() + hot.sum() + 1)

    found = faults(dice)
    assert "The mean runs over valid pixels alone" in found
    assert "A label that is neither a class nor void is refused" in found
    assert "Void pixels change nothing, whatever their logits hold" in found


def test_half_precision_sums_and_lost_counts_are_found():
    def dice(z, y):
        p = z.softmax(1)[:, 0]
        hot = (y == 0).to(z.dtype)
        return 1 - 2 * (p * hot).sum() / (p.sum() + hot.sum()).clamp(min=1e-3)

    assert "Float16 and bfloat16 logits are computed in float32" in faults(dice)


def test_a_loss_of_ones_own_is_checked_from_its_file(tmp_path):
    (tmp_path / "own.py").write_text(
        "from torch.nn import functional\n"
        "def plain(z, y):\n    return functional.cross_entropy(z, y, ignore_index=255)\n"
    )
    done = segpipe("losses", "check", "own.py:plain", "--json", cwd=tmp_path, check=False)
    assert done.returncode == 1
    rows = json.loads(done.stdout)["own.py:plain"]
    assert {row["verdict"] for row in rows} >= {"holds", "fails"}
    assert "promises fail; see the table above" in done.stderr


def test_a_registered_loss_is_checked_on_the_command_line(tmp_path):
    done = segpipe("losses", "check", "jml", cwd=tmp_path)
    assert done.stdout.count("holds") == len(contract.PROMISES)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("own.py:nothing", "is no file"),
        ("bad.py:f", "cannot be imported: NameError"),
        ("good.py:plian", "did you mean 'plain'"),
        ("jmll", "did you mean 'jml'"),
    ],
)
def test_what_cannot_be_checked_is_refused(tmp_path, spec, words):
    (tmp_path / "bad.py").write_text("undefined\n")
    (tmp_path / "good.py").write_text("def plain(z, y):\n    return z.sum() * 0\n")
    done = segpipe("losses", "check", spec, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert words in done.stderr


def test_every_check_can_fail():
    """Nonsense holds only what asks for consistency: types, layout, order, no writing, its own gradient."""
    held = {
        f.promise
        for f in contract.check_loss(contract.Subject("x", lambda z, y: (z.sum() + y.sum()) * math.pi))
        if f.verdict == "holds"
    }
    assert len(held) <= 11, held


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("spec", [name for name in NAMES if "lovasz" not in name])
def test_nothing_waits_for_the_gpu(spec):
    logits, target = (t.cuda() for t in contract.case(contract.subject_of(spec).classes))
    criterion = losses.create(spec).cuda()
    criterion(logits.requires_grad_(), target).backward()
    torch.cuda.set_sync_debug_mode("error")  # a step that waits raises
    try:
        loss = criterion(logits, target)
        loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(loss)
