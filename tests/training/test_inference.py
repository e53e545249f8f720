"""Inference: windows, flips, sizes and passes against plain sums; what must not change a constant network's answer."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from segpipe import models
from segpipe.core import outputs
from segpipe.core.errors import ConfigError, DataError, TrainingError
from segpipe.core.files import write_json
from segpipe.data.geometry import softmax
from segpipe.data.normalize import curve
from segpipe.data.packed import Packed
from segpipe.training import inference, trained, weights
from segpipe.training.inference import Options, Predictor, entropy, spans, starts

from conftest import reseal

MINMAX = curve({"scheme": "minmax"})


class Pixels(nn.Module):
    """Logits that depend on each pixel alone."""

    stride = 1

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, 5.0, -3.0]))

    def forward(self, image):
        return image * self.scale[:, None, None]


def images(n=2, height=20, width=30):
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3)).astype(np.uint8)


def probs(model, given, **options):
    return Predictor(model, MINMAX, Options(**options)).logits(given)[0].softmax(1)


@pytest.mark.parametrize("side", range(1, 60, 7))
@pytest.mark.parametrize("window", [1, 8, 25])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.9])
def test_windows_cover_a_side_and_overlap_as_asked(side, window, overlap):
    found = starts(side, window, overlap)
    assert found[0] == 0
    if side > window:
        assert found[-1] == side - window
        shared = [window - (b - a) for a, b in pairwise(found)]
        assert min(shared) >= int(window * overlap) - 1
        assert min(shared) >= 0


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_windows_on_a_stride_cover_every_cell(stride):
    random = np.random.default_rng(stride)
    for _ in range(300):
        side, window = int(random.integers(1, 200)), int(random.integers(stride, 90))
        found = spans(side, min(window, side), float(random.uniform(0, 0.9)), stride)
        covered = set()
        for begin, end in found:
            assert begin % stride == 0
            assert end - begin < window + stride
            covered |= set(range(begin // stride, begin // stride - (begin - end) // stride))  # a part counts
        assert covered == set(range(-(-side // stride)))
        assert found[-1][1] == side


@pytest.mark.parametrize("window", [(16, 16), (12, 22)])
def test_windows_at_a_stride_give_what_the_whole_image_gives(window):
    class Cells(nn.Module):
        """Says of each cell of 4 x 4 pixels how bright its first pixel is."""

        stride = 4

        def __init__(self):
            super().__init__()
            self.p = nn.Parameter(torch.zeros(()))

        def forward(self, image):
            p = image[:, 0, ::4, ::4].sigmoid()
            return torch.stack([1 - p, p], 1).log() + 0 * self.p

    cells, pictures = Cells(), images(2, 30, 41)
    whole = Predictor(cells, MINMAX, Options(flips=False, scales=(1.0,), passes=0))
    cut = Predictor(cells, MINMAX, Options(window=window, overlap=0.25))
    wanted = whole.logits(pictures)[0].softmax(1)
    assert wanted.shape[-2:] == (8, 11)
    torch.testing.assert_close(cut.logits(pictures)[0].exp(), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("window", [(8, 8), (7, 30), (50, 50), (20, 11)])
@pytest.mark.parametrize("flips", [False, True])
def test_looks_at_single_pixels_agree_however_one_looks(window, flips):
    whole = probs(Pixels(), images())
    assert torch.allclose(probs(Pixels(), images(), window=window, flips=flips), whole, atol=1e-6)


def test_windows_are_blended_by_their_weights():
    class Counting(nn.Module):
        """The second class is as probable as the number of the call says."""

        stride, calls = 1, 0

        def __init__(self):
            super().__init__()
            self.p = nn.Parameter(torch.zeros(()))

        def forward(self, image):
            self.calls += 1
            p = torch.full_like(image[:, :2], 0.2 * self.calls)
            return torch.stack([1 - p[:, 0], p[:, 0]], 1).log() + 0 * self.p

    found = probs(Counting(), images(1, 8, 6), window=(8, 4), overlap=0.5)[0, 1, 0]
    # Windows at 0 and 2; weights 1/4, 3/4, 3/4, 1/4 across each: the first says 0.2, the second 0.4.
    a, b = 0.75 * 0.2 + 0.25 * 0.4, 0.25 * 0.2 + 0.75 * 0.4
    assert found.tolist() == pytest.approx([0.2, 0.2, a, b, 0.4, 0.4])


def test_sizes_are_averaged_as_probabilities():
    class Size(nn.Module):
        """Class 1 is as probable as the image is wide, in hundreds of pixels."""

        stride = 1

        def __init__(self):
            super().__init__()
            self.p = nn.Parameter(torch.zeros(()))

        def forward(self, image):
            p = torch.full_like(image[:, 0], image.shape[3] / 100)
            return torch.stack([1 - p, p], 1).log() + 0 * self.p

    found = probs(Size(), images(1, 20, 30), scales=[0.5, 1.0, 2.0])
    assert found[0, 1, 0, 0].item() == pytest.approx((0.15 + 0.30 + 0.60) / 3)


@pytest.mark.parametrize("name", models.names())
def test_a_mirrored_image_has_a_mirrored_answer_when_flips_are_averaged(name):
    torch.manual_seed(0)
    model = models.create(name, 3, width=4)
    if name == "unet_crf":
        pytest.skip("the lattice of the CRF has an origin, so a mirror image is not the same to it")
    given = images(1, 64, 64)
    plain, mirrored = (probs(model, x, flips=True) for x in (given, given[:, :, ::-1]))
    assert torch.allclose(plain, mirrored.flip(3), atol=1e-4)


def test_monte_carlo_passes_give_mean_entropy_and_mutual_information():
    torch.manual_seed(0)
    model = models.create("bayesian_segnet", 3, width=4, depth=2)
    predictor = Predictor(model, MINMAX, Options(passes=4), seed=3)
    given = images(2, 16, 16)
    logits, uncertainty = predictor.logits(given, 8)
    again = Predictor(model, MINMAX, Options(passes=4), seed=3).logits(given, 8)
    assert torch.equal(logits, again[0])
    assert torch.equal(uncertainty, again[1])
    assert not torch.equal(logits, predictor.logits(given, 9)[0])
    # The same passes one by one.
    from segpipe.core.seeding import seed_torch
    from segpipe.data.normalize import to_input

    drawn = []
    for number in range(4):
        seed_torch(3, 6, 8, number)
        with torch.no_grad():
            drawn.append(model(to_input(given, MINMAX)).softmax(1))
    mean = torch.stack(drawn).mean(0)
    assert torch.allclose(logits.softmax(1), mean, atol=1e-5)
    plain = -(mean * mean.log()).sum(1)
    single = torch.stack([-(p * p.log()).sum(1) for p in drawn]).mean(0)
    assert torch.allclose(uncertainty[:, 0], plain, atol=1e-5)
    assert torch.allclose(uncertainty[:, 1], plain - single, atol=1e-5)
    assert float(uncertainty[:, 1].max()) > 0


def test_entropy_is_0_for_certainty_and_log_c_for_none():
    p = torch.tensor([[1.0, 0, 0], [1 / 3] * 3])[:, :, None, None]
    assert entropy(p)[:, 0, 0].tolist() == pytest.approx([0, np.log(3)])


def test_passes_need_dropout_and_answers_must_be_finite():
    with pytest.raises(ConfigError, match=r"model\.dropout above 0"):
        Predictor(models.create("unet", 2, width=4), MINMAX, Options(passes=3))
    model = Pixels()
    with torch.no_grad():
        model.scale.fill_(float("nan"))
    with pytest.raises(TrainingError, match="not finite"):
        Predictor(model, MINMAX, Options()).logits(images())


def test_a_trained_network_is_read_back_or_refused(tmp_path):
    model = models.create("unet", 2, width=4)
    config = {"model": {"name": "unet", "weights": None, "width": 4}, "classes": ["a", "b"], "size": [8, 8]}
    run = tmp_path / "run"
    with outputs.folder(run) as folder:
        write_json(folder / "config.json", {**config, "normalization": {"scheme": "minmax"}, "reading": {}})
        weights.save(folder / "model.pt", model.state_dict())
        weights.save(folder / "snapshot1.pt", models.create("unet", 3, width=4).state_dict())
    found, read = trained.load(run)
    assert read["classes"] == ["a", "b"]
    assert all(torch.equal(v, found.state_dict()[k]) for k, v in model.state_dict().items())
    with pytest.raises(DataError, match="another network"):
        trained.load(run, 1)
    with pytest.raises(DataError, match="missing"):
        trained.load(run, 2)
    write_json(run / "config.json", config)
    reseal(run)
    with pytest.raises(DataError, match="no configuration of stage train"):
        trained.load(run)
    (run / outputs.MARKER).unlink()
    with pytest.raises(DataError, match="is not a complete run"):
        trained.load(run)


def test_a_wider_stride_keeps_the_means_of_its_cells():
    model, given = Pixels(), images(2, 8, 12)
    fine = Predictor(model, MINMAX, Options(stride=1)).logits(given)[0]
    coarse = Predictor(model, MINMAX, Options(stride=4)).logits(given)[0]
    assert coarse.shape == (2, fine.shape[1], 2, 3)
    for n, c, y, x in np.ndindex(*coarse.shape):
        cell = [float(fine[n, c, 4 * y + i, 4 * x + j]) for i in range(4) for j in range(4)]
        assert float(coarse[n, c, y, x]) == pytest.approx(sum(cell) / 16, abs=1e-5)


@pytest.mark.parametrize(("most", "cells"), [(240, (8, 10)), (239, (4, 5)), (60, (4, 5)), (59, (2, 3)), (1, (2, 3))])
def test_unasked_logits_are_averaged_up_to_a_stride_of_four_where_they_are_too_many(monkeypatch, most, cells):
    monkeypatch.setattr(inference, "MOST", most)
    assert Predictor(Pixels(), MINMAX, Options()).logits(images(1, 8, 10))[0].shape == (1, 3, *cells)


def test_a_network_that_is_coarser_than_asked_stays_as_it_is():
    model = models.create("unet", 2, width=4, depth=2, stem_stride=4).eval()
    shapes = {s: Predictor(model, MINMAX, Options(stride=s)).logits(images(1, 16, 16))[0].shape for s in (None, 1, 4)}
    assert set(shapes.values()) == {(1, 2, 4, 4)}


def test_the_uncertainty_of_passes_is_averaged_over_the_same_cells_as_the_logits():
    torch.manual_seed(0)
    model, given = models.create("bayesian_segnet", 3, width=4, depth=2), images(1, 16, 16)
    fine = Predictor(model, MINMAX, Options(passes=3), seed=3).logits(given)[1]
    logits, coarse = Predictor(model, MINMAX, Options(passes=3, stride=4), seed=3).logits(given)
    assert logits.shape[-2:] == coarse.shape[-2:] == (4, 4)
    assert torch.allclose(coarse, fine.reshape(1, 2, 4, 2, 4, 2).mean((3, 5)), atol=1e-5)


def test_one_image_is_predicted_from_rounded_logits_as_the_stage_keeps_them():
    given = images(1, 8, 12)[0]
    predictor = Predictor(Pixels(), MINMAX, Options())
    logits = predictor.logits(given[None])[0][0].numpy()
    found = inference.image_probs(predictor, given, (8, 12))[0]
    kept = softmax(Packed.scores(logits).unpack())
    assert np.array_equal(found, kept)
    assert not np.array_equal(found, softmax(logits.copy()))
