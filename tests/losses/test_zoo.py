"""What every loss promises, over the whole registry."""

import copy
import dataclasses
import pickle

import pytest
import torch

from segpipe import losses
from segpipe.core import registry
from segpipe.core.errors import ConfigError
from segpipe.losses import contract

import plain_losses

NAMES = losses.names()
SUBJECTS = {name: contract.subject_of(name) for name in NAMES}
REGION = ("dice", "jaccard", "tversky", "jml", "dml", "ctl")
W = "class_weights=[1, 0.5, 2, 0.2, 1]"
VARIANTS = [
    *NAMES,
    f"ce(label_smoothing=0.1, {W})", "ce(label_smoothing=0.1)",
    f"ce({W}, weighting=valid)", f"ce({W}, weighting=classes)",
    "ce(reduction=sum, prior=[0.5, 0.2, 0.1, 0.1, 0.1])",
    "kl(temperature=2)",
    "focal(gamma=0.5, alpha=[1, 2, 3, 4, 5])", "binary_focal(gamma=0.5, alpha=0.25)", "one_vs_rest_focal(gamma=0)",
    "one_vs_rest_focal(gamma=1.5, alpha=0.3)",
    "ohem(min_kept=4)", f"ohem(threshold=0, min_kept=7, {W})", "ohem(threshold=1.1)", "topk(k=3)",
    "lmp(p=1)", "lmp(p=1, m=2.5)", "lmp(p=inf)", "lmp(ratio=1)", "lmp(m=1, p=3)", "lmp(per_image=false, p=1.2)",
    "lmp(p=1.01)", "lmp(p=1.02, per_image=false)", "lmp(p=1.05, m=3)", "lmp(p=1, per_image=false)",
    "lmp(p=1, m=2.5, per_image=false)",
    "sampled_ce(power=2, ratio=0.5, base=0.3)", "sampled_ce(base=0)", "sampled_ce(power=0)",
    "spatial(kind=compactness)", "spatial(kind=distance)",
    "boundary(classes=all)", "boundary(classes=[0, 3])",
    "hausdorff(alpha=1)", "hausdorff(classes=all)",
    "cldice(iterations=1, smooth=0.1)", "cldice(classes=[2, 4])",
    "prob_match(direction=reverse)", "prob_match(prior=[0.5, 0.2, 0.1, 0.1, 0.1])",
    f"dropout_composite({W}, f_w=1, beta=1, lam=0.5, gamma=2)", "dropout_composite(f_r=0, f_m=0, f_s=0)",
    "lovasz(per_image=true)", "lovasz(classes=all)", "lovasz(classes=[0, 3])", "lovasz_hinge(per_image=false)",
    "lovasz_hinge(classes=all)",
    "focal_tversky(exponent=1.5, average=class, beta=2)", "generalized_dice(average=image, smooth=1)",
    "generalized_dice(average={dataset: 0.3, image: 0.7})",
    *(f"{name}({options})" for name in REGION for options in (
        "average=image", "average=class", "average=all", "average={dataset: 0.5, image: 0.2, class: 0.3}",
        "classes=all, smooth=1", "classes=[0, 3], average=class", "threshold=0.3", "log=true", "squared=true",
        f"{W}, average=image",
    )),
    "mcc(average=image, smooth=1)", f"mcc(average=class, {W})", "mcc(classes=all)",
    "mcc(average={dataset: 0.5, class: 0.5}, classes=[0, 2])",
    "jml(exponent=0.5)", "dml(exponent=2, average=class)", "tversky(alpha=0.9, beta=0.1)",
    "0.333333333*ce + 0.6666666667*focal(gamma=1.23456789)",
    "0.25*ce(label_smoothing=0.1) + 0.75*jml(average=class)",
]  # fmt: skip
C = 5


def classes_of(spec):
    return contract.subject_of(spec).classes


def takes_soft(spec):
    return contract.subject_of(spec).soft and "kind=distance" not in spec


def case(seed=0, *, n=3, size=(4, 5), classes=C, soft=False):
    """Random logits and a target with void pixels and an absent class."""
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, classes, *size, generator=random, dtype=torch.float64)
    if soft:
        target = torch.randn(n, classes, *size, generator=random, dtype=torch.float64).mul(2).softmax(1)
        if classes > 2:
            target[:, 1] = 0  # absent
        target[0, :, 0] = torch.eye(classes, dtype=torch.float64)[-1][:, None]  # and some certain pixels
        return logits, target / target.sum(1, keepdim=True)
    target = torch.randint(0, classes, (n, *size), generator=random)
    if classes > 2:
        target[target == 1] = 0
    target[torch.rand(n, *size, generator=random) < 0.2] = 255
    target[-1] = 255  # one image is void
    return logits, target


def expected(spec, logits, target):
    """The plain version of a compound."""
    total = 0.0
    for term in losses.parse(spec):
        total += term.weight * plain_losses.of(term.name)(logits, target, **dict(term.options))
    return total


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("spec", VARIANTS)
def test_equals_the_plain_version(spec, soft):
    if soft and not takes_soft(spec):
        with pytest.raises(ValueError, match="hard labels"):
            losses.create(spec)(*case(soft=True, classes=classes_of(spec)))
        return
    for seed in range(3):
        logits, target = case(seed, soft=soft, classes=classes_of(spec))
        found = float(losses.create(spec)(logits, target))
        assert found == pytest.approx(expected(spec, logits, target), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("spec", VARIANTS)
def test_one_hot_soft_labels_equal_hard_labels(spec):
    if not takes_soft(spec):
        pytest.skip("takes no soft labels")
    logits, target = case(classes=classes_of(spec))
    soft = contract.one_hot(target, classes_of(spec))
    criterion = losses.create(spec)
    assert float(criterion(logits, soft, keep=target != 255)) == pytest.approx(
        float(criterion(logits, target)), abs=1e-12
    )


@pytest.mark.parametrize("promise", contract.PROMISES)
@pytest.mark.parametrize("name", NAMES)
def test_keeps_the_promises_of_every_loss(name, promise):
    (found,) = contract.check_loss(SUBJECTS[name], {promise: contract.PROMISES[promise]})
    assert found.verdict != "fails", found.detail


CHEAP = [p for p in contract.PROMISES if not p.startswith(("Float16", "Float32"))]


@pytest.mark.parametrize("spec", [spec for spec in VARIANTS if spec not in NAMES and "[" not in spec])
def test_every_option_keeps_them_too(spec):
    subject = dataclasses.replace(contract.subject_of(spec), spatial=True)  # some cost something at p = y
    if "distance" in spec:
        subject = dataclasses.replace(subject, soft=False)
    chosen = {name: contract.PROMISES[name] for name in CHEAP if "scale" not in name}
    failed = [f for f in contract.check_loss(subject, chosen) if f.verdict == "fails"]
    if "reduction" not in spec:
        assert not failed


def sharp(classes):
    """Sure and mostly right logits of 256 x 256 pixels, void pixels, a class of ten pixels and one that is absent."""
    random = torch.Generator().manual_seed(3)
    target = torch.randint(0, classes, (2, 256, 256), generator=random)
    target[target == 1] = 0
    target[target == classes - 1] = 0
    target[0, 7, :10] = classes - 1
    logits = 4 * torch.randn(2, classes, 256, 256, generator=random) + 12 * contract.one_hot(target, classes).float()
    target[torch.rand(target.shape, generator=random) < 0.1] = 255
    return logits, target


# ohem keeps most of these pixels, and those that are as sure as float32 can say tie at its bound.
@pytest.mark.parametrize("spec", [spec for spec in VARIANTS if "distance" not in spec and spec != "ohem"])
def test_float32_agrees_with_float64_where_pixels_are_many_and_logits_sharp(spec):
    logits, target = sharp(classes_of(spec))
    criterion = losses.create(spec)
    leaves = [logits.clone().requires_grad_(), logits.double().requires_grad_()]
    values = [criterion(leaf, target) for leaf in leaves]
    assert float(values[0].detach()) == pytest.approx(float(values[1].detach()), rel=3e-5, abs=1e-7)
    for value in values:
        value.backward()
    difference = float((leaves[0].grad - leaves[1].grad).abs().sum() / leaves[1].grad.abs().sum().clamp(min=1e-30))
    assert difference < 1e-3


@pytest.mark.parametrize("classes", [2, 5, 9, 10, 19, 150])
def test_smoothing_makes_no_class_present_at_any_number_of_classes(classes):
    logits, target = contract.case(classes, images=1)
    soft = 0.9 * contract.one_hot(target, classes) + 0.1 / classes
    criterion, shown = losses.create("jml"), sorted(set(target[target != 255].tolist()))
    found = criterion(logits, soft, keep=target != 255)
    wanted = losses.create(f"jml(classes={shown})")(logits, soft, keep=target != 255)
    assert float(found) == pytest.approx(float(wanted), rel=1e-12)
    if len(shown) < classes:
        assert float(losses.create("jml(classes=all)")(logits, soft, keep=target != 255)) != pytest.approx(
            float(wanted)
        )


@pytest.mark.parametrize("spec", NAMES)
def test_a_criterion_survives_pickle_copy_and_repr(spec):
    logits, target = case(classes=classes_of(spec))
    criterion = losses.create(spec)
    for other in (pickle.loads(pickle.dumps(criterion)), copy.deepcopy(criterion)):
        assert float(other(logits, target)) == float(criterion(logits, target))
    assert spec in repr(criterion)


@pytest.mark.parametrize("spec", [name for name in NAMES if name != "spatial"])
def test_classification_shapes_work(spec):
    c = classes_of(spec)
    logits = torch.randn(6, c, dtype=torch.float64)
    target = torch.tensor([0, 1, 0, 1, c - 1, 255])
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


@pytest.mark.parametrize(
    "spec", [name for name, entry in registry.entries("segpipe.losses").items() if "class_weights" in entry.options]
)
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
