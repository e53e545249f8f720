"""What every loss promises, over the whole registry."""

import copy
import pickle

import pytest
import torch

from segpipe import losses
from segpipe.core.errors import ConfigError

import plain

NAMES = losses.names()
REGION = ("dice", "jaccard", "tversky", "jml", "dml", "ctl")
VARIANTS = [
    *NAMES,
    "ce(label_smoothing=0.1, class_weights=[1, 0.5, 2, 0.2, 1])",
    "ce(class_weights=[1, 0.5, 2, 0.2, 1], weighting=valid)",
    "ce(class_weights=[1, 0.5, 2, 0.2, 1], weighting=classes)",
    "ce(reduction=sum, prior=[0.5, 0.2, 0.1, 0.1, 0.1])",
    "focal(gamma=0.5, alpha=[1, 2, 3, 4, 5])",
    *(f"{name}({options})" for name in REGION for options in (
        "average=image", "average=class", "average=all", "average={dataset: 0.5, image: 0.2, class: 0.3}",
        "classes=all, smooth=1", "classes=[0, 3], average=class", "log=true", "squared=true",
        "class_weights=[1, 0.5, 2, 0.2, 1], average=image",
    )),
    "jml(exponent=0.5)",
    "0.333333333*ce + 0.6666666667*focal(gamma=1.23456789)",
    "dml(exponent=2, average=class)", "tversky(alpha=0.9, beta=0.1)",
]  # fmt: skip
C = 5


def case(seed=0, *, n=3, size=(4, 5), classes=C, soft=False):
    """Random logits and a target with void pixels and an absent class."""
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, classes, *size, generator=random, dtype=torch.float64)
    if soft:
        target = torch.randn(n, classes, *size, generator=random, dtype=torch.float64).mul(2).softmax(1)
        target[:, 1] = 0  # absent
        target[0, :, 0] = torch.eye(classes, dtype=torch.float64)[2][:, None]  # and some certain pixels
        return logits, target / target.sum(1, keepdim=True)
    target = torch.randint(0, classes, (n, *size), generator=random)
    target[target == 1] = 0
    target[torch.rand(n, *size, generator=random) < 0.2] = 255
    target[-1] = 255  # one image is void
    return logits, target


def expected(spec, logits, target):
    """The plain version of a compound."""
    total = 0.0
    for term in losses.parse(spec):
        total += term.weight * getattr(plain, term.name)(logits, target, **dict(term.options))
    return total


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("spec", VARIANTS)
def test_equals_the_plain_version(spec, soft):
    for seed in range(3):
        logits, target = case(seed, soft=soft)
        found = float(losses.create(spec)(logits, target))
        assert found == pytest.approx(expected(spec, logits, target), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("spec", VARIANTS)
def test_one_hot_soft_labels_equal_hard_labels(spec):
    logits, target = case()
    soft = torch.nn.functional.one_hot(target.masked_fill(target == 255, 0), C).movedim(3, 1).double()
    criterion = losses.create(spec)
    assert float(criterion(logits, soft, keep=target != 255)) == pytest.approx(
        float(criterion(logits, target)), abs=1e-12
    )


@pytest.mark.parametrize("spec", VARIANTS)
def test_void_pixels_change_nothing_even_when_not_finite(spec):
    logits, target = case()
    void = (target == 255).unsqueeze(1)
    criterion = losses.create(spec)
    base = logits.clone().requires_grad_()
    criterion(base, target).backward()
    for poison in (float("nan"), float("inf"), -7.0):
        other = logits.masked_fill(void, poison).requires_grad_()
        value = criterion(other, target)
        value.backward()
        assert value == criterion(logits, target)
        assert torch.equal(other.grad, base.grad)
    assert not base.grad[void.expand_as(base)].any()


@pytest.mark.parametrize("spec", VARIANTS)
def test_all_void_is_zero_with_zero_gradient(spec):
    logits, target = case()
    logits.requires_grad_()
    value = losses.create(spec)(logits, torch.full_like(target, 255))
    value.backward()
    assert value.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("spec", VARIANTS)
def test_gradient_is_right(spec):
    logits, target = case(size=(2, 3))
    criterion = losses.create(spec)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: criterion(z, target), (logits,))


@pytest.mark.parametrize("spec", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_is_computed_in_float32(spec, dtype):
    logits, target = case(n=1, size=(300, 300))
    target[:] = target.remainder(4)  # the void image of this case would leave nothing
    half = logits.to(dtype)
    value = losses.create(spec)(half, target)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(float(losses.create(spec)(half.double(), target)), rel=1e-5)


@pytest.mark.parametrize("spec", NAMES)
def test_any_integer_type_labels_alike(spec):
    logits, target = case()
    values = {
        float(losses.create(spec)(logits, target.to(t))) for t in (torch.uint8, torch.int16, torch.int32, torch.int64)
    }
    assert len(values) == 1


@pytest.mark.parametrize("spec", NAMES)
def test_inputs_are_not_changed(spec):
    logits, target = case()
    before = logits.clone(), target.clone()
    losses.create(spec)(logits, target)
    assert torch.equal(logits, before[0])
    assert torch.equal(target, before[1])


@pytest.mark.parametrize("spec", VARIANTS)
def test_order_of_images_does_not_matter(spec):
    logits, target = case()
    criterion = losses.create(spec)
    assert float(criterion(logits.flip(0), target.flip(0))) == pytest.approx(
        float(criterion(logits, target)), rel=1e-12
    )


@pytest.mark.parametrize("spec", NAMES)
def test_memory_layout_does_not_matter(spec):
    logits, target = case()
    criterion = losses.create(spec)
    strided = logits.contiguous(memory_format=torch.channels_last)
    assert float(criterion(strided, target)) == pytest.approx(float(criterion(logits, target)), rel=1e-12)


@pytest.mark.parametrize("spec", NAMES)
def test_a_criterion_survives_pickle_copy_and_repr(spec):
    logits, target = case()
    criterion = losses.create(spec)
    for other in (pickle.loads(pickle.dumps(criterion)), copy.deepcopy(criterion)):
        assert float(other(logits, target)) == float(criterion(logits, target))
    assert spec in repr(criterion)


@pytest.mark.parametrize("spec", NAMES)
def test_one_pixel_and_classification_shapes_work(spec):
    logits = torch.randn(6, C, dtype=torch.float64)
    target = torch.tensor([0, 1, 2, 3, 4, 255])
    flat = float(losses.create(spec)(logits, target))
    assert flat == pytest.approx(float(losses.create(spec)(logits[:, :, None, None], target[:, None, None])))


def test_a_compound_is_the_sum_of_its_terms_in_any_order():
    logits, target = case()
    criterion = losses.create("0.25*ce + 0.75*jml(average=class)")
    terms = criterion.terms(logits, target)
    assert set(terms) == {"ce", "jml"}
    assert float(terms["ce"]) == pytest.approx(0.25 * float(losses.create("ce")(logits, target)))
    swapped = losses.create("0.75*jml(average=class) + 0.25*ce")
    assert float(swapped(logits, target)) == pytest.approx(float(criterion(logits, target)), rel=1e-12)


def test_perfect_predictions_cost_nothing():
    _, target = case()
    one_hot = torch.nn.functional.one_hot(target.masked_fill(target == 255, 0), C).movedim(3, 1).double()
    for name in NAMES:
        value = float(losses.create(name)(1000 * one_hot, target))
        assert value == pytest.approx(0, abs=1e-9), name


def test_focal_without_focus_is_cross_entropy():
    logits, target = case()
    assert float(losses.create("focal", gamma=0)(logits, target)) == pytest.approx(
        float(losses.create("ce")(logits, target))
    )


def test_focal_gradient_is_finite_on_saturated_pixels():
    logits = torch.tensor([[[[40.0]], [[-40.0]]]], requires_grad=True)
    losses.create("focal", gamma=0.5)(logits, torch.zeros(1, 1, 1, dtype=torch.long)).backward()
    assert torch.isfinite(logits.grad).all()


def test_cross_entropy_equals_torch():
    logits, target = case()
    weights = [1, 0.5, 2, 0.2, 1]
    ours = losses.create("ce", class_weights=weights, label_smoothing=0.1)(logits, target)
    theirs = torch.nn.functional.cross_entropy(
        logits, target, torch.tensor(weights, dtype=torch.float64), ignore_index=255, label_smoothing=0.1
    )
    torch.testing.assert_close(ours, theirs)


def test_jml_is_zero_exactly_at_the_soft_target_and_soft_jaccard_is_not():
    target = torch.tensor([0.3, 0.7], dtype=torch.float64).reshape(1, 2, 1, 1)
    logits = target.log()
    assert float(losses.create("jml", smooth=0)(logits, target)) == pytest.approx(0, abs=1e-15)
    # one pixel, class 1 alone: x y / (x + y - x y) = .49 / .91 for Jaccard at x = y = 0.7
    assert float(losses.create("jaccard", smooth=0, classes=[1])(logits, target)) == pytest.approx(1 - 0.49 / 0.91)


def test_jml_obeys_the_triangle_inequality_and_dml_is_symmetric():
    random = torch.Generator().manual_seed(1)
    for _ in range(200):
        x, y, z = torch.rand(3, 6, generator=random, dtype=torch.float64)
        assert losses.functional.jml(x, z) <= losses.functional.jml(x, y) + losses.functional.jml(y, z) + 1e-12
        assert float(losses.functional.dml(x, y)) == pytest.approx(float(losses.functional.dml(y, x)))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("focl", "did you mean 'focal'"),
        ("focal(gama=2)", "no option 'gama'; did you mean 'gamma'"),
        ("0.25*ce + ", "ends where"),
        ("ce + + jml", "expected"),
        ("-1*ce", "negative"),
        ("ce(class_weights=inverse)", "only the pipeline knows"),
        ("ce(class_weights=[1, -1])", ">= 0"),
        ("ce)", "found ')'"),
        ("ce ä?", "cannot read"),
    ],
)
def test_a_wrong_loss_is_refused_with_the_reason(spec, words):
    with pytest.raises(ConfigError) as error:
        losses.create(spec)
    assert words in str(error.value)


@pytest.mark.parametrize("spec", [name for name in NAMES if name != "focal"])
def test_class_weights_of_wrong_length_are_refused(spec):
    with pytest.raises(ValueError, match="5 classes"):
        losses.create(spec, class_weights=[1, 2])(*case())


def test_wrong_input_is_refused_with_found_and_wanted():
    logits, target = case()
    criterion = losses.create("ce")
    with pytest.raises(ValueError, match=r"\(3, 4, 5\) class ids"):
        criterion(logits, target[:, :2])
    with pytest.raises(ValueError, match="holds 77"):
        criterion(logits, target.masked_fill(target == 0, 77))
    with pytest.raises(ValueError, match="as integers"):
        criterion(logits, target.double())
    with pytest.raises(ValueError, match="floating"):
        criterion(target, target)
    with pytest.raises(ValueError, match="keep is"):
        criterion(logits, target, keep=torch.ones(1, dtype=torch.bool))


def test_compounds_read_back_what_they_write():
    for spec in VARIANTS:
        text = " + ".join(map(str, losses.parse(spec)))
        assert losses.parse(text) == losses.parse(spec)
