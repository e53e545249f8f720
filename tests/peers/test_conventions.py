"""Our conventions against the tools themselves; run by `make peers`, skipped where they are not installed."""

import numpy as np
import pytest
import torch

from segpipe import metrics
from segpipe.models.external import let_torchvision_pass

import exhibit

let_torchvision_pass()  # of another build of torch
pytestmark = pytest.mark.filterwarnings("ignore")  # of the tools
C = exhibit.CLASSES


def cases():
    found = [pytest.param(*exhibit.predictions(), id="exhibit")]
    for seed in range(3):
        random = np.random.default_rng(seed)
        target = random.integers(0, C - 2, (5, 20, 24)).astype(np.uint8)
        labels = np.where(random.random(target.shape) < 0.6, target, random.integers(0, C - 1, target.shape))
        target[random.random(target.shape) < 0.1] = 255
        found.append(pytest.param(labels.astype(np.uint8), target, id=f"random {seed}"))
    return found


@pytest.mark.parametrize("labels, target", cases())
def test_smp_prints_what_its_convention_says(labels, target):
    tool = pytest.importorskip("segmentation_models_pytorch", reason="smp is not installed; `make peers`").metrics
    stats = tool.get_stats(
        torch.from_numpy(labels.astype(np.int64)), torch.from_numpy(target.astype(np.int64)),
        mode="multiclass", num_classes=C, ignore_index=255,
    )  # fmt: skip
    counts = metrics.count(labels, target, C)
    share = ((counts.tp + counts.fn).sum(0) / (counts.tp + counts.fn).sum()).tolist()
    for name, value in metrics.CONVENTIONS["smp"](counts).items():
        reduction = name.removeprefix("iou_score(").removesuffix(")")
        weights = share if reduction.startswith("weighted") else None
        theirs = tool.iou_score(*stats, reduction=reduction.removesuffix(" by pixels"), class_weights=weights)
        assert value == pytest.approx(float(theirs), abs=1e-6), name


@pytest.mark.parametrize("labels, target", cases())
def test_torchmetrics_prints_what_its_convention_says(labels, target):
    tool = pytest.importorskip("torchmetrics", reason="torchmetrics is not installed; `make peers`")
    from torchmetrics.segmentation import MeanIoU

    found = metrics.CONVENTIONS["torchmetrics"](metrics.count(labels, target, C))
    ids = torch.from_numpy(labels.astype(np.int64)), torch.from_numpy(target.astype(np.int64))
    for average in ("macro", "micro"):
        jaccard = tool.JaccardIndex("multiclass", num_classes=C, ignore_index=255, average=average)
        assert found[f"MulticlassJaccardIndex({average})"] == pytest.approx(float(jaccard(*ids)), abs=1e-6)
    full = np.where(target == 255, 0, target)  # MeanIoU knows no void
    found = metrics.CONVENTIONS["torchmetrics"](metrics.count(labels, full, C))
    mean_iou = MeanIoU(num_classes=C, input_format="index")
    assert found["MeanIoU"] == pytest.approx(float(mean_iou(ids[0], torch.from_numpy(full.astype(np.int64)))), abs=1e-6)


@pytest.mark.parametrize("labels, target", cases())
def test_monai_prints_what_its_convention_says(labels, target):
    tool = pytest.importorskip("monai.metrics", reason="MONAI is not installed; `make peers`")
    one_hot = [(ids[:, None] == np.arange(C)[:, None, None]) & (target[:, None] != 255) for ids in (labels, target)]
    tensors = [torch.from_numpy(part.astype(np.float32)) for part in one_hot]
    found = metrics.CONVENTIONS["monai"](metrics.count(labels, target, C))
    for reduction, name in (("mean", "MeanIoU(mean)"), ("mean_batch", "MeanIoU(mean_batch), averaged")):
        metric = tool.MeanIoU(include_background=True, reduction=reduction, ignore_empty=True)
        metric(*tensors)
        assert found[name] == pytest.approx(float(metric.aggregate().mean()), abs=1e-6), name


def test_monai_measures_surfaces_as_we_do():
    tool = pytest.importorskip("monai.metrics", reason="MONAI is not installed; `make peers`")
    random = np.random.default_rng(0)
    for _ in range(5):
        masks = [np.kron(random.random((5, 5)) < 0.5, np.ones((4, 4), bool)) for _ in range(2)]
        ours = metrics.surface_distances(*masks)
        tensors = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in masks]
        hd95 = tool.compute_hausdorff_distance(*tensors, include_background=True, percentile=95)
        assd = tool.compute_average_surface_distance(*tensors, include_background=True, symmetric=True)
        assert ours["hd95"] == pytest.approx(float(hd95), abs=1e-4)
        assert ours["assd"] == pytest.approx(float(assd), abs=1e-4)


def test_torchmetrics_finds_our_calibration_error():
    tool = pytest.importorskip("torchmetrics", reason="torchmetrics is not installed; `make peers`")
    random = np.random.default_rng(0)
    probs = random.dirichlet(np.ones(4), (3, 10, 12)).transpose(0, 3, 1, 2)
    target = random.integers(0, 4, (3, 10, 12))
    metric = tool.CalibrationError("multiclass", num_classes=4, n_bins=15, norm="l1")
    theirs = float(metric(torch.from_numpy(probs), torch.from_numpy(target)))
    assert metrics.calibration(probs, target)["ece_dataset"] == pytest.approx(theirs, abs=1e-5)
