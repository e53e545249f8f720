"""Documents of annotation tools, as these write them: a card by guess, and masks that are what was drawn."""

import base64
import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from test_own import card_of, photo

from segpipe.core.errors import DataError
from segpipe.data import catalog
from segpipe.data.layouts import exports, objects

SIZE = (30, 40)  # height and width of the photos
SQUARE = [[4, 5], [14, 5], [14, 15], [4, 15]]  # x, y
HOLE = [[6, 7], [9, 7], [9, 10], [6, 10]]
OTHER = [[10, 10], [30, 10], [30, 25], [10, 25]]


def expected(*, hole=False):
    """The square of class 1, then the other of class 2 above it."""
    mask = np.zeros(SIZE, np.uint8)
    mask[5:15, 4:14] = 1
    if hole:
        mask[7:10, 6:9] = 0
    mask[10:25, 10:30] = 2
    return mask


def packed(mask):
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(stream, "PNG")
    return base64.b64encode(zlib.compress(stream.getvalue())).decode()


def cityscapes(folder, names):
    for name in names:
        photo(folder / f"img/{name}_leftImg8bit.png", 0)
        shapes = [{"label": "cargroup", "polygon": SQUARE}, {"label": "tree", "polygon": OTHER},
                  {"label": "tree", "polygon": HOLE, "deleted": 1}]  # fmt: skip
        document = {"imgHeight": 30, "imgWidth": 40, "objects": shapes}
        (folder / f"ann/{name}_gtFine_polygons.json").write_text(json.dumps(document))
    return folder / "img", folder / "ann"


def supervisely(folder, names):
    bitmap = {"data": packed(np.ones((15, 20))), "origin": [10, 10]}
    for name in names:
        photo(folder / f"img/{name}.jpg", 0)
        square = {"classTitle": "car", "geometryType": "polygon", "points": {"exterior": SQUARE, "interior": [HOLE]}}
        other = {"classTitle": "tree", "geometryType": "bitmap", "bitmap": bitmap}
        document = {"size": {"height": 30, "width": 40}, "objects": [square, other]}
        (folder / f"ann/{name}.jpg.json").write_text(json.dumps(document))
    return folder / "img", folder / "ann"


def via(folder, names):
    entries = {}
    for name in names:
        photo(folder / f"img/{name}.jpg", 0)
        x, y = zip(*SQUARE, strict=True)
        square = {"shape_attributes": {"name": "polygon", "all_points_x": x, "all_points_y": y},
                  "region_attributes": {"kind": "car"}}  # fmt: skip
        other = {"shape_attributes": {"name": "rect", "x": 10, "y": 10, "width": 20, "height": 15},
                 "region_attributes": {"kind": {"tree": True}}}  # fmt: skip
        entries[f"{name}.jpg123"] = {"filename": f"{name}.jpg", "size": 123, "regions": [square, other]}
    (folder / "ann/via.json").write_text(json.dumps({"_via_img_metadata": entries}))
    return folder / "img", folder / "ann/via.json"


def cvat(folder, names):
    text = ["<?xml version='1.0'?><annotations><version>1.1</version>"]
    for k, name in enumerate(names):
        photo(folder / f"img/{name}.jpg", 0)
        ring = ";".join(f"{x}.0,{y}.0" for x, y in SQUARE)
        runs = "0,300"  # all of the box
        text.append(
            f'<image id="{k}" name="{name}.jpg" width="40" height="30">'
            f'<mask label="tree" rle="{runs}" left="10" top="10" width="20" height="15" z_order="2"/>'
            f'<polygon label="car" points="{ring}" z_order="1"/><points label="tree" points="1,1"/></image>'
        )
    (folder / "ann/annotations.xml").write_text("".join(text) + "</annotations>")
    return folder / "img", folder / "ann/annotations.xml"


def label_studio(folder, names):
    tasks = []
    for name in names:
        photo(folder / f"img/{name}.jpg", 0)
        both = {"original_width": 40, "original_height": 30}
        ring = [[100 * x / 40, 100 * y / 30] for x, y in SQUARE]
        square = {**both, "type": "polygonlabels", "value": {"points": ring, "polygonlabels": ["car"]}}
        box = {"x": 25, "y": 100 / 3, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["tree"]}
        other = {**both, "type": "rectanglelabels", "value": box}
        data = {"image": f"/data/upload/1/0a1b2c3d-{name}.jpg"}
        tasks.append({"data": data, "annotations": [{"result": [square, other]}]})
    (folder / "ann/export.json").write_text(json.dumps(tasks))
    return folder / "img", folder / "ann/export.json"


@pytest.mark.parametrize("make", [cityscapes, supervisely, via, cvat, label_studio])
def test_masks_are_what_was_drawn_and_the_card_needs_no_option(tmp_path, make):
    (tmp_path / "ann").mkdir()
    given = make(tmp_path, [f"photo_{k:02d}" for k in range(8)])
    card, root = card_of(tmp_path, *given)
    assert card.layout == make.__name__
    assert card.classes == ["background", "car", "tree"]
    found = catalog.found_in(card, root)
    assert len(found.samples) == 8
    found.write(found.samples[0], tmp_path / "out")
    mask = np.array(Image.open(tmp_path / "out" / found.samples[0].labels[0]))
    np.testing.assert_array_equal(mask, expected(hole=make is supervisely))


def line(name):
    """A shape of VIA without an area."""
    return {"shape_attributes": {"name": name}, "region_attributes": {"kind": "car"}}


@pytest.mark.parametrize(
    ("read", "document", "words"),
    [
        (exports.via_images, {"a": {"filename": "a.jpg", "regions": [line("polyline")]}}, "a region is a polyline"),
        (exports.via_images, {"a": {"regions": []}}, "it has no 'filename'"),
        (exports.via_images, [], "no JSON of VIA"),
        (exports.label_studio_images, [{"data": {"image": "a.jpg"}}], "no JSON of Label Studio"),
        (exports.label_studio_images, {"a": 1}, "no JSON of Label Studio"),
        (objects.cityscapes_image, {"objects": [{"label": "car"}]}, "no JSON of Cityscapes"),
        (objects.supervisely_image, {"objects": []}, "no JSON of Supervisely"),
    ],
)
def test_a_document_that_does_not_fit_is_one_line(tmp_path, read, document, words):
    with pytest.raises(DataError, match=words) as error:
        found = read(tmp_path / "document.json", document)
        list(found) if not isinstance(found, objects.Described) else None
    assert "document.json" in str(error.value)


def supervised(data):
    return {"size": {"height": 3, "width": 3},
            "objects": [{"classTitle": "car", "bitmap": {"data": data, "origin": [0, 0]}}]}  # fmt: skip


def test_a_bitmap_may_lie_across_the_border_and_cannot_explode(tmp_path):
    found = objects.supervisely_image(tmp_path / "a.json", supervised(packed(np.eye(5))))
    assert found.areas[0].draw((3, 3)).tolist() == np.eye(3, dtype=bool).tolist()
    bomb = base64.b64encode(zlib.compress(b"\0" * 2**27)).decode()
    for data in (
        bomb,
        "no base64!",
        base64.b64encode(b"no zlib").decode(),
        base64.b64encode(zlib.compress(b"x")).decode(),
    ):
        with pytest.raises(DataError, match="no JSON of Supervisely"):
            objects.supervisely_image(tmp_path / "a.json", supervised(data))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotations><image name='a.jpg'/></annotations>", "it has no 'height'"),
        ("<annotations><track/></annotations>", "no XML of CVAT for images"),
        ("<a", "is not valid XML"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><a/>", "declares a type or entities"),
    ],
)
def test_an_xml_that_does_not_fit_is_one_line(tmp_path, text, words):
    path = tmp_path / "a.xml"
    with pytest.raises(DataError, match=words):
        list(exports.cvat_images(path, exports.read_xml(path, text)))


def test_boxes_of_pascal_voc_are_refused_with_what_to_give(tmp_path):
    photo(tmp_path / "img/a.jpg", 0)
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann/a.xml").write_text("<annotation><object><bndbox/></object></annotation>")
    with pytest.raises(DataError, match="boxes are no masks: give the folder of masks"):
        card_of(tmp_path, tmp_path / "img", tmp_path / "ann")


def test_turned_boxes_and_ellipses_of_cvat_are_drawn_turned(tmp_path):
    box = '<box label="car" xtl="10" ytl="14" xbr="30" ybr="18" rotation="90.0"/>'
    ellipse = '<ellipse label="e" cx="20" cy="16" rx="10" ry="2" rotation="90.0"/>'
    text = f'<annotations><image name="a.jpg" width="40" height="30">{box}{ellipse}</image></annotations>'
    [found] = exports.cvat_images(tmp_path / "a.xml", exports.read_xml(tmp_path / "a.xml", text))
    upright = np.zeros(SIZE, bool)
    upright[6:26, 18:22] = True
    np.testing.assert_array_equal(found.areas[0].draw(SIZE), upright)
    rows, columns = np.nonzero(found.areas[1].draw(SIZE))
    assert (np.ptp(rows), np.ptp(columns)) == (19, 3)


def test_what_label_studio_s_shapes_say(tmp_path):
    both = {"original_width": 40, "original_height": 30}
    oval = {
        **both,
        "type": "ellipselabels",
        "value": {"x": 50, "y": 50, "radiusX": 25, "radiusY": 20, "ellipselabels": ["car"]},
    }
    point = {**both, "type": "keypointlabels", "value": {"x": 1, "y": 1, "keypointlabels": ["car"]}}
    tasks = [
        {"data": {"image": "a.jpg"}, "annotations": [{"result": [oval, point]}]},
        {"data": {"image": "b.jpg"}, "annotations": []},
        {"data": {"image": "c.jpg"}, "annotations": [{"result": [oval], "was_cancelled": True}]},
    ]
    first, *others = exports.label_studio_images(tmp_path / "a.json", tasks)
    assert first.areas[0].draw(SIZE).sum() == pytest.approx(np.pi * 10 * 6, rel=0.03)
    assert [one.left_out for one in others] == ["it has no annotation"] * 2
    turned, apart = ("rectanglelabels", {"rotation": 30}), ("polygon", {"points": []})
    for kind, value in (("brushlabels", {"rle": []}), ("cuboidlabels", {}), turned, apart):
        tasks[0]["annotations"][0]["result"] = [{**both, "type": kind, "value": {kind: ["car"], **value}}]
        with pytest.raises(DataError, match=f"a shape of type {kind}"):
            list(exports.label_studio_images(tmp_path / "a.json", tasks))


def test_a_task_without_an_annotation_is_left_out_and_named(tmp_path):
    (tmp_path / "ann").mkdir()
    images, export = label_studio(tmp_path, [f"photo_{k:02d}" for k in range(8)])
    tasks = json.loads(export.read_text())
    tasks[3]["annotations"] = []
    export.write_text(json.dumps(tasks))
    card, root = card_of(tmp_path, images, export)
    found = catalog.found_in(card, root)
    assert len(found.samples) == 7
    assert found.left_out == {"img/photo_03.jpg": "it has no annotation"}


def test_a_picture_that_claims_to_be_enormous_is_refused(tmp_path):
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 30000, 30000, 8, 0, 0, 0, 0)
    content = header + struct.pack(">I", zlib.crc32(header[12:]))
    with pytest.raises(DataError, match="no JSON of Supervisely"):
        objects.supervisely_image(tmp_path / "a.json", supervised(base64.b64encode(zlib.compress(content)).decode()))


def test_an_ellipse_and_a_circle_are_round(tmp_path):
    round_ = (
        {"name": "circle", "cx": 10.0, "cy": 10.0, "r": 5.0},
        {"name": "ellipse", "cx": 10.0, "cy": 10.0, "rx": 8, "ry": 4},
    )
    for shape, area in zip(round_, (np.pi * 25, np.pi * 32), strict=True):
        regions = [{"shape_attributes": shape, "region_attributes": {"kind": "car"}}]
        [found] = exports.via_images(tmp_path / "a.json", {"a": {"filename": "a.jpg", "regions": regions}})
        assert found.areas[0].draw((20, 20)).sum() == pytest.approx(area, rel=0.03)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/upload/1/0a1b2c3d-a.jpg", "a.jpg"), ("/data/local-files/?d=images%2Fa.png", "a.png"),
        ("s3://bucket/x/a.png?token=a.b/c", "a.png"),
    ],
)  # fmt: skip
def test_the_file_of_a_task_is_found_in_its_address(tmp_path, address, name):
    tasks = [{"data": {"text": "A car. Red.", "image": address}, "annotations": [{"result": []}]}]
    [found] = exports.label_studio_images(tmp_path / "a.json", tasks)
    assert found.name == name


@pytest.mark.parametrize("attributes", [{"kind": ""}, {"kind": {"car": True, "tree": True}}, {"a": "car", "b": "tree"}])
def test_a_region_of_no_or_several_classes_is_refused(tmp_path, attributes):
    shape = {"name": "circle", "cx": 10.0, "cy": 10.0, "r": 5.0}
    regions = [{"shape_attributes": shape, "region_attributes": attributes}]
    with pytest.raises(DataError, match="no JSON of VIA"):
        list(exports.via_images(tmp_path / "a.json", {"a": {"filename": "a.jpg", "regions": regions}}))
