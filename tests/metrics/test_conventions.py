"""Other tools' numbers from our counts: by hand here, against the tools themselves in tests/peers."""

import numpy as np
import pytest

from segpipe import metrics

# Two images, three classes; class 2 stands in no label and is predicted once; class 1 is absent from image 1.
#          class 0        class 1        class 2
# image 0  2 / (2+0+1)    1 / (1+1+1)    0 / (0+1+0)
# image 1  4 / 4          -              -
TP = np.array([[2, 1, 0], [4, 0, 0]])
FP = np.array([[0, 1, 1], [0, 0, 0]])
FN = np.array([[1, 1, 0], [0, 0, 0]])
COUNTS = metrics.Counts(TP, FP, FN, (TP + FN).sum(1), np.zeros(2, np.int64))


def test_mmseg_counts_a_class_that_is_only_predicted_as_zero():
    found = metrics.CONVENTIONS["mmseg"](COUNTS)
    assert found["mIoU"] == pytest.approx((6 / 7 + 1 / 3 + 0) / 3)
    assert found["aAcc"] == pytest.approx(7 / 9)
    assert found["mAcc"] == pytest.approx((6 / 7 + 1 / 2) / 2)


def test_smp_scores_an_absent_class_one():
    found = metrics.CONVENTIONS["smp"](COUNTS)
    assert found["iou_score(micro)"] == pytest.approx(7 / (7 + 2 + 2))
    assert found["iou_score(macro-imagewise)"] == pytest.approx((2 / 3 + 1 / 3 + 0 + 1 + 1 + 1) / 6)
    share = np.array([7 / 9, 2 / 9, 0])
    by_image = (np.array([2 / 3, 1 / 3, 0]) + 1) / 2
    assert found["iou_score(weighted-imagewise by pixels)"] == pytest.approx((by_image * share).mean())


def test_torchmetrics_takes_the_mean_over_all_present_pairs():
    found = metrics.CONVENTIONS["torchmetrics"](COUNTS)
    assert found["MeanIoU"] == pytest.approx((2 / 3 + 1 / 3 + 0 + 1) / 4)
    assert found["MulticlassJaccardIndex(macro)"] == pytest.approx((6 / 7 + 1 / 3 + 0) / 3)


def test_paddle_gives_an_absent_class_iou_one_and_dice_zero():
    absent = metrics.Counts(TP[:, :2], FP[:, :2] * 0, FN[:, :2], (TP + FN)[:, :2].sum(1), np.zeros(2, np.int64))
    wide = metrics.Counts(*(np.pad(part, ((0, 0), (0, 1))) for part in (absent.tp, absent.fp, absent.fn)), absent.valid,
                          absent.rejected)  # fmt: skip
    found = metrics.CONVENTIONS["paddle"](wide)
    assert found["mIoU"] == pytest.approx((6 / 7 + 1 / 2 + 1) / 3)
    assert found["mDice"] == pytest.approx((12 / 13 + 2 / 3 + 0) / 3)


def test_monai_means_over_images_and_counts_an_absent_class_as_zero_in_batch():
    found = metrics.CONVENTIONS["monai"](COUNTS)
    assert found["MeanIoU(mean)"] == pytest.approx(((2 / 3 + 1 / 3) / 2 + 1) / 2)
    assert found["MeanIoU(mean_batch), averaged"] == pytest.approx(((2 / 3 + 1) / 2 + 1 / 3 + 0) / 3)


@pytest.mark.parametrize("name", metrics.CONVENTIONS)
def test_a_convention_of_nothing_is_no_number_or_what_the_tool_defines(name):
    nothing = np.zeros((1, 2), np.int64)
    found = metrics.CONVENTIONS[name](metrics.Counts(nothing, nothing, nothing, nothing[:, 0], nothing[:, 0]))
    assert all(value is None or 0 <= value <= 1 for value in found.values())
