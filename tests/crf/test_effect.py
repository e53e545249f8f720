"""Before and after: the same numbers as the metrics give, and one word for the difference."""

import numpy as np
import pytest

from segpipe import metrics
from segpipe.refine.effect import Measured, effect
from segpipe.report import refinement
from segpipe.report.tables import Table

WIDTHS, BINS, QUANTILES = (1, 4), 15, (5,)


def sides(better, images=12, seed=0):
    """Measured before and after; `better` is the share of wrong pixels afterwards, 0.3 before."""
    random = np.random.default_rng(seed)
    found = {"before": [], "after": []}
    kept = {"before": [], "after": []}
    for _ in range(images):
        target = np.kron(random.integers(0, 3, (3, 4)), np.ones((6, 6), int)).astype(np.uint8)
        target[0] = 255
        for side, wrong in (("before", 0.3), ("after", better)):
            labels = np.where(random.random(target.shape) < wrong, random.integers(0, 3, target.shape), target)
            labels = np.where(labels == 255, 0, labels).astype(np.uint8)
            probs = np.full((3, *labels.shape), 0.1)
            np.put_along_axis(probs, labels[None].astype(int), 0.8, 0)
            found[side].append(Measured.of(labels, probs, target, WIDTHS, BINS))
            kept[side].append((labels, probs, target))
    return found, kept


def judged(found, **options):
    groups = [str(i) for i in range(len(found["before"]))]
    settings = {"metric": "miou_dataset", "widths": WIDTHS, "quantiles": QUANTILES, **options}
    return effect(found["before"], found["after"], groups, **settings)


def test_scores_are_those_of_the_metrics():
    found, kept = sides(0.1)
    result = judged(found)
    for side, images in kept.items():
        counts = metrics.Counts.concat([metrics.count(a[None], t[None], 3) for a, _, t in images])
        wanted = metrics.summarize(counts, quantiles=QUANTILES)
        for name in ("acc", "miou_dataset", "miou_image", "miou_class", "miou_image_q5", "miou_class_q5"):
            assert result[side][name] == pytest.approx(wanted[name])
        assert result[side]["iou_dataset"] == pytest.approx(wanted["per_class"]["iou_dataset"])
        near = metrics.Counts.concat([metrics.trimap_counts(a, t, 3, [4])[4] for a, _, t in images])
        assert result[side]["trimap_miou_dataset"]["4"] == pytest.approx(metrics.summarize(near)["miou_dataset"])
        collected = metrics.Calibration(3, BINS)
        for _, probs, target in images:
            collected.add(probs, target)
        for name in ("ece_dataset", "nll_dataset", "brier_dataset"):
            assert result[side][name] == pytest.approx(collected.summarize()[name])


@pytest.mark.parametrize(("wrong", "word"), [(0.1, "helps"), (0.6, "hurts"), (0.3, "undecided")])
def test_the_verdict_says_what_happened(wrong, word):
    result = judged(sides(wrong)[0])
    assert result["verdict"] == word
    difference = result["differences"]["miou_dataset"]
    assert difference["value"] == pytest.approx(result["after"]["miou_dataset"] - result["before"]["miou_dataset"])
    assert difference["low"] <= difference["value"] <= difference["high"]


def test_few_images_show_nothing():
    assert judged(sides(0.0, images=3)[0])["verdict"] == "undecided"


def test_a_file_holds_all_of_it():
    measured = sides(0.1, images=1)[0]["before"][0]
    again = Measured.from_arrays(measured.arrays())
    for name, value in measured.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], value)


def told(result, parameters):
    """What stage crf writes."""
    common = {"metric": "miou_dataset", "tuned_on": ["a", "b"], "candidates": [{}], "score_without": 0.5, "score": 0.6}
    return {"run-0": {**common, "parameters": parameters, "effect": {"val": result, "test": result}}}


def test_the_report_tells_verdict_scores_borders_and_classes():
    found = told(judged(sides(0.1)[0]), {"pos_w": 1.0})
    pieces = refinement.parts(found, ["a", "b", "c"], 0.01)
    text = "\n".join(piece.markdown() if isinstance(piece, Table) else piece for piece in pieces)
    assert "| run-0, test | " in text
    assert "helps" in text
    assert "with pos_w 1" in text
    (of_class,) = refinement.per_class(found, ["a", "b", "c"])
    assert " → " in of_class.markdown()
    assert refinement.tables(found, ["a", "b", "c"], 0.01).count("| run-0, test") == 4


def test_the_report_says_when_no_crf_was_best_or_none_was_asked_for():
    found = told(judged(sides(0.3)[0]), None)
    assert "not applied" in refinement.verdicts(found, 0.01).markdown()
    assert "→" not in refinement.tables(found, ["a", "b", "c"], 0.01).replace("− before", "")
    assert "none is better than no CRF" in refinement.parts(found, ["a", "b", "c"], 0.01)[0]
    assert refinement.parts({}, ["a"], 0.01) == []
    assert "crf.runs" in refinement.tables({}, ["a"], 0.01)


def test_a_quantile_that_only_the_metric_names_is_computed():
    found, kept = sides(0.1)
    result = judged(found, metric="miou_image_q10")
    for side, images in kept.items():
        counts = metrics.Counts.concat([metrics.count(a[None], t[None], 3) for a, _, t in images])
        wanted = metrics.summarize(counts, quantiles=(10,))["miou_image_q10"]
        assert result[side]["miou_image_q10"] == pytest.approx(wanted)
