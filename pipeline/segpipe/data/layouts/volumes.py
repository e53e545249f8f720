"""Layout of volumes: NIfTI files whose slices are the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import ConfigError, DataError
from segpipe.core.files import write_bytes
from segpipe.core.registry import register
from segpipe.data.card import Card
from segpipe.data.files import png_bytes
from segpipe.data.layouts.found import Found, finished
from segpipe.data.layouts.templates import root_of
from segpipe.data.layouts.trees import matched
from segpipe.data.sample import Sample

_MOST = 2**31  # voxels; a header that claims more is refused before anything is read


@register("volumes", source="NIfTI-1 (Cox et al. 2004), as LiTS, KiTS and QUBIQ use it")
def volumes(
    card: Card, source: Path, *, axis: int = 2, channels: bool = False, holds: int = 0, window: Sequence[float] = ()
) -> Found:
    """The slices of NIfTI volumes as grey images, with a volume of labels for each annotator.

    Args:
        card: `image` and `masks` are paths of volumes; an id is the card's id and the slice's number.
        source: the folder.
        axis: along which the slices lie; 2 is NIfTI's own, in which a slice is transposed to rows and columns.
        channels: the volumes are single images, and the third axis are channels, of which three are taken.
        holds: only slices in which the first annotator gives this label or a higher one.
        window: intensities that become 0 and 255; by default the .5th and 99.5th percentile of each volume.
    """
    if window and (len(window) != 2 or not window[0] < window[1]):
        raise ConfigError(f"card {card.name}: window is {list(window)}, wanted two intensities, the lower first")
    if axis not in (0, 1, 2):
        raise ConfigError(f"card {card.name}: axis is {axis}, wanted 0, 1 or 2")
    root = root_of(source, Path(card.image).parts[0], card)
    left_out: dict[str, str] = {}
    cases = list(matched(card, root, left_out, (".nii", ".gz")))
    used = {mask for case in cases for mask in case.labels}
    if not cases:
        raise DataError(f"{source} holds no {card.image}; {card.instructions or 'complete the dataset'}")
    Found(cases).refuse_missing(root)
    of = {case.id: case for case in cases}
    samples = []
    for case in cases:
        for number in [None] if channels else _slices(root / case.labels[0], axis, holds):
            ident = case.id if number is None else f"{case.id}_{number:04d}"
            masks = tuple(f"masks_{k}/{ident}.png" for k in range(1, 1 + len(case.labels)))
            samples.append(replace(case, id=ident, group=case.id, image=f"images/{ident}.png", labels=masks))
        if not channels and not any(s.group == case.id for s in samples):
            left_out[case.image] = f"no slice holds label {holds} or a higher one"

    def write(sample: Sample, folder: Path) -> None:
        case = of[sample.group]
        at = None if channels else int(sample.id.rpartition("_")[2])
        volume = _volume(root / case.image)
        low, high = window or _range(root / case.image)
        values = (_plane(volume, axis, at).astype(np.float64) - low) / max(high - low, 1e-12) * 255
        write_bytes(folder / sample.image, png_bytes(np.clip(values, 0, 255).round().astype(np.uint8)))
        for mask, target in zip(case.labels, sample.labels, strict=True):
            labels = _matching(root / mask, root / case.image, volume.shape, channels=channels)
            plane = _plane(labels, axis, at)
            write_bytes(folder / target, png_bytes(plane if plane.ndim == 2 else plane[..., 0]))

    left_out = {path: why for path, why in left_out.items() if path not in used}
    return Found(finished(samples, card, source), write, left_out)


def _matching(mask: Path, image: Path, shape: tuple[int, ...], *, channels: bool) -> NDArray[np.uint8]:
    """The labels of a mask; DataError unless they lie as the image does."""
    labels, ours, theirs = _labels(mask), _axes(image), _axes(mask)
    if ours != theirs:
        raise DataError(f"{mask} runs {theirs}, its image {ours}, so labels would be turned; save both alike")
    if labels.shape[:2] != shape[:2] or (not channels and labels.shape != shape):
        raise DataError(f"{mask} is {labels.shape}, its image {shape}; they must match")
    return labels


def _slices(mask: Path, axis: int, holds: int) -> Iterator[int]:
    """Numbers of the slices that hold a label of at least `holds`."""
    labels = _labels(mask)
    if labels.ndim != 3:
        raise DataError(f"{mask} has {labels.ndim} axes, wanted a volume of 3")
    most = labels.max(axis=tuple(k for k in range(3) if k != axis))
    yield from np.flatnonzero(most >= holds).tolist()


def _plane(volume: NDArray[Any], axis: int, at: int | None) -> NDArray[Any]:
    """One slice in rows and columns, or an image of up to three channels."""
    if at is not None:
        plane = np.take(volume, at, axis)
        return np.ascontiguousarray(plane.T if axis == 2 else plane)
    rows = volume.swapaxes(0, 1) if volume.ndim > 1 else volume
    if rows.ndim == 3:
        rows = rows[..., 0] if rows.shape[2] < 3 else rows[..., :3]
    return np.ascontiguousarray(rows)


@lru_cache(maxsize=8)
def _axes(path: Path) -> str:
    """Where the axes point, such as LPS."""
    import nibabel

    tools: Any = nibabel
    return "".join(str(code) for code in tools.aff2axcodes(tools.load(path).affine))


@lru_cache(maxsize=2)
def _volume(path: Path) -> NDArray[np.float32]:
    return np.asarray(np.nan_to_num(_read(path, np.float32)))


@lru_cache(maxsize=2)
def _range(path: Path) -> tuple[float, float]:
    low, high = np.percentile(_volume(path), (0.5, 99.5))
    return float(low), float(high)


@lru_cache(maxsize=8)
def _labels(path: Path) -> NDArray[np.uint8]:
    """Labels 0..255."""
    found = _read(path, np.float32)
    labels: NDArray[np.uint8] = np.clip(np.nan_to_num(found), 0, 255).astype(np.uint8)
    wrong = labels != found  # NaN too
    if wrong.any():
        raise DataError(f"{path} holds {found[wrong][0]:g}, wanted labels from 0 to 255; replace it")
    return labels


def _read(path: Path, dtype: Any) -> NDArray[Any]:
    """The scaled values of a NIfTI file, axes of length 1 at the end left out."""
    try:
        import nibabel
    except ImportError:
        raise ConfigError(f"{path} is a volume, which needs the extra: pip install 'segpipe[volumes]'") from None
    try:
        image: Any = nibabel.load(path)
        if np.prod(image.shape, dtype=np.float64) > _MOST:
            raise DataError(f"{path} claims {' x '.join(map(str, image.shape))} voxels, more than {_MOST}; crop it")
        found = image.get_fdata(caching="unchanged", dtype=dtype)
    except DataError:
        raise
    except Exception as error:  # the reader raises many types on corrupt input
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is not a readable NIfTI volume ({reason}); replace or remove it") from None
    while found.ndim > 2 and found.shape[-1] == 1:
        found = found[..., 0]
    if found.ndim not in (2, 3) or not found.size:
        raise DataError(f"{path} is {found.shape}, wanted an image or a volume")
    return np.asarray(found)
