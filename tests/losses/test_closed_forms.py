"""Closed forms, limits and properties: against brute force, not against themselves."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from test_zoo import case

from segpipe import losses
from segpipe.core.errors import ConfigError
from segpipe.losses.lovasz import lovasz_weights
from segpipe.losses.pooled import lmp_weights
from segpipe.losses.targets import boundary_label_smoothing

import plain_region_losses


def value(spec, *arguments, **options):
    return float(losses.create(spec, **options)(*arguments))


# ---------------------------------------------------------------- Lovász


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(8))
def test_lovasz_weights_are_the_differences_of_the_jaccard_loss(seed, dtype):
    random = torch.Generator().manual_seed(seed)
    errors = torch.rand(30, generator=random, dtype=dtype)
    if seed % 2:
        errors = (errors * 4).round() / 4  # many ties
    positive = torch.rand(30, generator=random) < (0.0 if seed == 7 else 0.3)
    weights = lovasz_weights(errors, positive, torch.ones(30, dtype=torch.bool))
    wanted = plain_region_losses.jaccard_loss_of_errors(errors.tolist(), positive.tolist())
    assert float(weights.double() @ errors.double()) == pytest.approx(wanted, rel=1e-6)


def test_lovasz_of_certain_predictions_is_one_minus_iou():
    _, target = case()
    predicted = torch.randint(0, 5, target.shape, generator=torch.Generator().manual_seed(3))
    logits = 1000 * torch.nn.functional.one_hot(predicted, 5).movedim(3, 1).double()
    valid, losses_of = target != 255, []
    for k in target[valid].unique().tolist():
        both = ((predicted == k) & (target == k)).sum().item()
        either = (((predicted == k) | (target == k)) & valid).sum().item()
        losses_of.append(1 - both / either)
    assert value("lovasz", logits, target) == pytest.approx(np.mean(losses_of), abs=1e-12)


def test_lovasz_weights_keep_their_digits_on_a_million_pixels():
    # The last of n negatives after all but one of G positives weighs 1 / ((G + N)(G + N - 1)), about 1e-12,
    # where neighbouring J's in float32 differ by 0 or 6e-8.
    n, g = 2**20, 1000
    errors = torch.linspace(1, 0.5, n)
    positive = torch.zeros(n, dtype=torch.bool)
    positive[: g - 1] = True
    positive[-1] = True
    weights = lovasz_weights(errors, positive, torch.ones(n, dtype=torch.bool))
    negatives = n - g
    assert float(weights[-2]) == pytest.approx(1 / ((g + negatives) * (g + negatives - 1)), rel=1e-4)


# ---------------------------------------------------------------- loss max-pooling


def brute_force(values, p, m):
    """The maximum by a general optimiser over all weights."""
    n = len(values)
    bound, cap = n ** (1 / p - 1), n ** (1 / p - 1) * m ** (-1 / p)
    found = minimize(
        lambda w: -w @ values, np.full(n, 1 / n), jac=lambda _: -values, method="SLSQP", bounds=[(0, cap)] * n,
        constraints={"type": "ineq", "fun": lambda w: bound**p - (w**p).sum(), "jac": lambda w: -p * w ** (p - 1)},
        options={"maxiter": 500, "ftol": 1e-14},
    )  # fmt: skip
    return -found.fun


@pytest.mark.parametrize("p", [1.2, 1.7, 3.0])
@pytest.mark.parametrize("m", [1, 3, 7.5, 12])
def test_lmp_weights_maximise_over_their_set(p, m):
    values = np.random.default_rng(int(10 * p + m)).exponential(size=12)
    weights = lmp_weights(torch.tensor(values)[None], torch.ones(1, 12, dtype=torch.bool), p=p, m=m)[0].numpy()
    n = len(values)
    assert (weights**p).sum() <= (n ** (1 / p - 1)) ** p * (1 + 1e-9)
    assert weights.max() <= n ** (1 / p - 1) * m ** (-1 / p) * (1 + 1e-9)
    assert weights @ values == pytest.approx(brute_force(values, p, m), rel=1e-6)


def test_lmp_without_enough_losses_caps_each():
    values = torch.tensor([[0.0, 0.0, 2.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    weights = lmp_weights(values, torch.ones(1, 6, dtype=torch.bool), p=2.0, m=3)
    cap = 6 ** (1 / 2 - 1) * 3 ** (-1 / 2)
    assert weights[0].tolist() == pytest.approx([0, 0, cap, 0, cap, 0])


def test_lmp_falls_with_m_and_p_and_is_never_below_the_mean():
    logits, target = case()
    by_m = [value("lmp", logits, target, m=m, p=1.5) for m in (1, 2, 4, 8, 1000)]
    by_p = [value("lmp", logits, target, m=3, p=p) for p in (1, 1.1, 1.5, 3, 50, math.inf)]
    for values in (by_m, by_p):
        assert all(later <= earlier + 1e-12 for earlier, later in pairwise(values))
    assert by_m[-1] == pytest.approx(by_p[-1])  # both the mean


def test_lmp_is_homogeneous_and_shares_ties():
    losses_of = torch.rand(1, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    valid = torch.ones(1, 50, dtype=torch.bool)
    assert torch.allclose(lmp_weights(losses_of, valid, p=1.7), lmp_weights(3 * losses_of, valid, p=1.7))
    assert len(lmp_weights(torch.ones(1, 50), valid, p=1.0, m=7.5).unique()) == 1


# ---------------------------------------------------------------- focal


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_gradient_has_its_closed_form(gamma):
    logits, target = case()
    logits.requires_grad_()
    losses.create("focal", gamma=gamma)(logits, target).backward()
    valid = target != 255
    probs = logits.detach().softmax(1)
    hot = torch.nn.functional.one_hot(target.masked_fill(~valid, 0), 5).movedim(3, 1)
    p = (probs * hot).sum(1)
    weight = (1 - p) ** gamma - (gamma * p * (1 - p) ** (gamma - 1) * p.log() if gamma else 0)
    wanted = weight[:, None] * (probs - hot) * valid[:, None] / valid.sum()
    torch.testing.assert_close(logits.grad, wanted)


def test_softmax_focal_of_two_classes_is_binary_focal():
    logits, target = case(classes=2)
    assert value("focal", logits, target, gamma=1.5) == pytest.approx(value("binary_focal", logits, target, gamma=1.5))


# ---------------------------------------------------------------- limits


LIMITS = [
    ("focal(gamma=0)", "ce(weighting=valid)"),
    ("topk(k=1000)", "ce"),
    ("ohem(threshold=1.1, min_kept=3)", "ce"),
    ("lmp(p=inf, per_image=false)", "ce"),
    ("lmp(ratio=1, per_image=false)", "ce"),
    ("lmp(p=1, m=3, per_image=false)", "topk(k=3)"),
    ("ohem(threshold=0, min_kept=3)", "topk(k=3)"),
    ("sampled_ce(power=4)", "ce"),
    ("sampled_ce(power=0)", "ce"),
    ("kl", "ce"),
    ("dropout_composite(f_w=0, f_r=0, f_m=0, f_s=0)", "ce"),
    (
        "dropout_composite(f_r=0, f_m=0, f_s=0, f_w=1, class_weights=[1, 2, 3, 4, 5])",
        "ce(class_weights=[1, 2, 3, 4, 5])",
    ),
    ("tversky(alpha=0.5, beta=0.5)", "dice"),
    ("tversky(alpha=1, beta=1)", "jaccard"),
    ("focal_tversky(exponent=1)", "tversky"),
    ("jml", "jaccard"),
    ("dml", "dice"),
    ("ctl", "tversky"),
    ("ce(class_weights=[1, 1, 1, 1, 1])", "ce"),
    ("ce(prior=[0.2, 0.2, 0.2, 0.2, 0.2])", "ce"),
    ("one_vs_rest_focal(gamma=0, alpha=0.5)", "0.5*one_vs_rest_focal(gamma=0)"),
]


@pytest.mark.parametrize(("spec", "limit"), LIMITS)
def test_limits_meet_on_hard_labels(spec, limit):
    for seed in range(3):
        logits, target = case(seed)
        assert value(spec, logits, target) == pytest.approx(value(limit, logits, target), rel=1e-12)


def test_sampled_ce_draws_have_the_expected_mean():
    logits, target = case(n=8, size=(12, 12))
    torch.manual_seed(0)
    criterion = losses.create("sampled_ce", mode="sampling", ratio=0.5, rounds=2)
    drawn = np.mean([float(criterion(logits, target)) for _ in range(200)])
    assert drawn == pytest.approx(value("sampled_ce", logits, target, ratio=0.5, rounds=2), rel=0.01)
    assert float(criterion.eval()(logits, target)) == pytest.approx(
        value("sampled_ce", logits, target, ratio=0.5, rounds=2)
    )


def test_dropped_terms_have_the_full_composite_as_mean():
    logits, target = case()
    torch.manual_seed(0)
    dropping = losses.create("dropout_composite", term_dropout=0.5, beta=1.0, lam=1.0, gamma=1.0)
    full = value("dropout_composite", logits, target, beta=1.0, lam=1.0, gamma=1.0)
    drawn = [float(dropping(logits, target)) for _ in range(600)]
    assert np.mean(drawn) == pytest.approx(full, abs=4 * np.std(drawn) / math.sqrt(600))
    assert float(dropping.eval()(logits, target)) == pytest.approx(full)


def test_a_soft_target_is_the_minimiser_of_kl_jml_and_dml():
    target = torch.rand(2, 4, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = target / target.sum(1, keepdim=True)
    for spec in ("kl", "jml", "dml", "ctl", "jml(smooth=0, average=image)"):
        assert value(spec, target.log(), target) == pytest.approx(0, abs=1e-12)
        assert value(spec, 2 * target.log(), target) > 1e-3


def test_the_sharpened_optimum_of_soft_jaccard_is_why_jml_exists():
    """One class alone against y = 0.7: -x y / (x + y - x y) falls until x = 1, so 0.7 is not its minimiser."""
    y = 0.7
    soft = [1 - x * y / (x + y - x * y) for x in (0.5, 0.7, 0.9, 1.0)]
    metric = [1 - min(x, y) / max(x, y) for x in (0.5, 0.7, 0.9, 1.0)]
    assert soft == sorted(soft, reverse=True)
    assert min(metric) == metric[1] == 0


# ---------------------------------------------------------------- learned weights, targets, precision


def test_learned_weights_move_to_the_scale_of_their_terms():
    # at the best s of exp(-s) l + s / 2 the derivative -exp(-s) l + 1/2 is 0: s = log(2 l)
    logits, target = case()
    criterion = losses.create("ce + jml", uncertainty=True).double()
    optimizer = torch.optim.Adam(criterion.parameters(), lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        criterion(logits, target).backward()
        optimizer.step()
    wanted = [math.log(2 * value(name, logits, target)) for name in ("ce", "jml")]
    assert criterion.log_variances.tolist() == pytest.approx(wanted, abs=1e-3)
    assert criterion(logits, torch.full_like(target, 255)).item() == 0
    assert "uncertainty=True" in repr(criterion)


def test_boundary_label_smoothing_is_what_the_loops_say():
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 4, 4), generator=random).repeat_interleave(2, 1).repeat_interleave(2, 2)
    labels[torch.rand(2, 8, 8, generator=random) < 0.1] = 255
    soft, keep = boundary_label_smoothing(labels, 3, epsilon=0.3, size=3)
    for i in range(2):
        for y in range(8):
            for x in range(8):
                window = labels[i, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].flatten().tolist()
                own = int(labels[i, y, x])
                wanted = [float(k == own) for k in range(3)]
                if len(set(window)) > 1 and 255 not in window:
                    wanted = [0.7 * w + 0.3 / 3 for w in wanted]
                assert soft[i, :, y, x].tolist() == pytest.approx(wanted)
                assert bool(keep[i, y, x]) == (own != 255)
    assert value("jml", soft.clamp(min=1e-9).log(), soft, keep) == pytest.approx(0, abs=1e-5)
    with pytest.raises(ConfigError, match="odd size"):
        boundary_label_smoothing(labels, 3, size=4)
    with pytest.raises(ValueError, match=r"wanted 0\.\.1"):
        boundary_label_smoothing(labels, 2)


@pytest.mark.parametrize("spec", losses.names())
def test_autocast_changes_nothing(spec):
    logits, target = case(classes=2 if spec == "binary_focal" else 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = value(spec, logits.float(), target)
    assert inside == value(spec, logits.float(), target)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("lmp(p=0.5)", "p must be in 1..inf"),
        ("lmp(m=0)", "m is 0"),
        ("topk(k=0)", "k must be in"),
        ("topk(k=0.5)", "whole number"),
        ("ohem(min_kept=-1)", "min_kept"),
        ("focal(gamma=-1)", "gamma must be"),
        ("binary_focal(alpha=2)", "alpha must be in 0..1"),
        ("one_vs_rest_focal(alpha=[1, 2])", "alpha is"),
        ("spatial(kind=smoothnes)", "did you mean 'smoothness'"),
        ("prob_match(prior=dataset)", "only the pipeline knows"),
        ("prob_match(direction=back)", "forward, reverse"),
        ("sampled_ce(ratio=2)", "ratio must be in 0..1"),
        ("kl(temperature=0)", "temperature"),
        ("dropout_composite(f_w=2)", "f_w"),
        ("dropout_composite(term_dropout=1)", "term_dropout"),
        ("generalized_dice(average=class)", "dataset, image"),
        ("jml(average=mean)", "dataset, image, class, all"),
        ("dice(classes=[9])", "0..4"),
        ("lovasz(classes=some)", "present"),
        ("tversky(alpha=-1)", ">= 0"),
        ("ce(label_smoothing=2)", "0..1"),
        ("binary_focal", "use one_vs_rest_focal"),
        ("ce(class_weights=[1, 2])", "5 classes"),
        ("focal(alpha=2)", "5 classes"),
    ],
)
def test_wrong_options_say_found_wanted_next(spec, words):
    with pytest.raises(ValueError) as error:
        losses.create(spec)(*case())
    assert words in str(error.value)


def test_nan_logits_and_improper_soft_targets_are_named():
    logits, target = case()
    with pytest.raises(ValueError, match=r"hold nan on \d+ valid pixels"):
        losses.create("ce")(logits.masked_fill(target.unsqueeze(1) == 0, float("nan")), target)
    with pytest.raises(ValueError, match=r"wanted probabilities in 0\.\.1"):
        losses.create("jml")(logits, logits)


@pytest.mark.parametrize("p", [1.0001, 1.001, 1.01, 1.05, 1.3, 1.7, 3, 100])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("spread", ["uniform", "lognormal"])
def test_pooled_weights_keep_the_norm_and_the_cap_however_far_apart_losses_lie(p, compiled, spread, monkeypatch):
    from segpipe.losses.pooled import lmp_weights

    if compiled:  # the path of a GPU and of torch.compile, which takes a fixed number of steps
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    random = torch.Generator().manual_seed(0)
    losses_ = torch.rand(2, 4000, generator=random, dtype=torch.float64)
    if spread == "lognormal":
        losses_ = torch.randn(2, 4000, generator=random, dtype=torch.float64).mul(3).exp()
    valid = torch.rand(2, 4000, generator=random) < 0.9
    weights = lmp_weights(losses_, valid, p=p, ratio=0.3)
    n = valid.sum(1).double()
    m = 0.3 * n
    tau = n ** (1 / p - 1) * m ** (-1 / p)
    assert not weights[~valid].any()
    assert bool((weights <= tau[:, None] * (1 + 1e-9)).all())
    # The norm is tight: sum w^p = m tau^p.
    torch.testing.assert_close((weights / tau[:, None]).pow(p).sum(1), m, rtol=1e-6, atol=0)
