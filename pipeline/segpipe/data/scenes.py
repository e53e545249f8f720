"""The embedded dataset `scenes`: street-like pictures made with integer arithmetic alone.

Every picture is rendered at twice its size and averaged down, so that boundaries mix; noise,
haze, uneven light and look-alike colours make them uncertain. Four consecutive pictures are one
sequence: the same street, seen while driving on. Three annotators label every picture, each
with habits of their own, and 4 % of the things in train carry a planted label error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.seeding import mix
from segpipe.core.void import VOID
from segpipe.data.annotators import annotate, plant
from segpipe.data.paint import Canvas, Color, Draw, Scene, hash_noise, smooth_noise

SKY, BUILDING, ROAD, SIDEWALK, VEGETATION, CAR, POLE, PERSON = range(8)
SIZES = {"train": 160, "val": 60, "test": 80}
FRAMES = 4  # pictures of one sequence
_SEED = 20261120

Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Annotated:
    """One finished sample: image, the label maps of the three annotators, planted errors."""

    id: str
    group: str
    image: NDArray[np.uint8]
    annotators: tuple[Labels, Labels, Labels]
    planted: list[dict[str, Any]]


def generate(split: str, number: int | None = None) -> Iterator[Annotated]:
    """The samples of a split, the first `number` of them (None: all)."""
    number = SIZES[split] if number is None else min(number, SIZES[split])
    scenes = [render(split, index) for index in range(number)]
    planted = plant(scenes) if split == "train" else {}
    for scene in scenes:
        yield Annotated(scene.id, scene.group, scene.image, annotate(scene.labels), planted.get(scene.id, []))


def render(split: str, index: int) -> Scene:
    """One picture with its true labels."""
    number = list(SIZES).index(split)
    sequence, frame = divmod(index, FRAMES)
    world = Draw((_SEED, number, sequence))
    width, height = 2 * world.integer(20, 26) * 8, 2 * world.integer(15, 18) * 8
    canvas = Canvas(height, width)
    street = _Street(canvas, world, frame)
    street.paint()
    image = _photograph(canvas, world, mix(_SEED, number, sequence, frame))
    labels = canvas.label[::2, 1::2].copy()
    group = f"{split}_{sequence:02d}"
    return Scene(f"{group}_{frame}", group, image, labels, canvas.instance[::2, 1::2], canvas.classes)


class _Street:
    """Paints sky, houses, trees, ground, cars, poles and people of one frame, back to front."""

    def __init__(self, canvas: Canvas, world: Draw, frame: int) -> None:
        self.canvas, self.world, self.frame = canvas, world, frame
        self.height, self.width = canvas.height, canvas.width
        self.horizon = self.height * world.integer(36, 48) // 100
        self.vanish = self.width * world.integer(40, 60) // 100 + (frame - 1) * world.integer(-3, 3)
        self.road_slope = world.integer(55, 85)  # percent of the depth on each side
        self.walk_slope = world.integer(25, 50)
        self.haze = world.integer(0, 45)

    def paint(self) -> None:
        """The whole picture."""
        self.sky()
        self.houses()
        self.trees(self.world.integer(3, 6), behind=True)
        self.ground()
        self.trees(self.world.integer(0, 2), behind=False)
        self.things()
        self.unlabelled()

    def depth(self, tenths: int) -> int:
        """Rows below the horizon of a thing that the camera approaches frame by frame."""
        rows = (self.height - self.horizon) * tenths // 100
        return max(3, rows * (10 + self.frame) // 10)

    def sky(self) -> None:
        base = self.world.color((150, 180, 215), 35)
        self.canvas.rectangle(0, 0, self.height, self.width, color=base, class_id=SKY)
        clouds = smooth_noise(self.height, self.width, 24, self.world.integer(0, 10**6))
        self.canvas.color += ((clouds - 128) * self.world.integer(5, 40) >> 7)[..., None]

    def houses(self) -> None:
        """Facades on both sides, far ones first; grass and hedges where there is no house."""
        world, canvas = self.world, self.canvas
        green = world.color((85, 105, 60), 20)
        hedge = self.horizon - world.integer(2, 14)
        canvas.rectangle(
            hedge, 0, self.height, self.width, color=green, class_id=VEGETATION, texture=60, key=world.integer(0, 999)
        )
        for side in (-1, 1):
            edge = world.integer(2, 12)
            while edge < self.width:
                across = world.integer(14, 40) * (40 + edge) // 70
                rise = (world.integer(18, 60) + edge * world.integer(20, 60) // 100) * self.height // 240
                wall = world.color((146, 130, 114), 40)
                key, built = world.integer(0, 10**6), world.chance(72)
                if built:
                    near, far = edge + across, edge
                    left, right = sorted((self.vanish + side * far, self.vanish + side * near))
                    self.house(self.horizon - rise, left, right, wall, key)
                edge += across + world.integer(0, 9)

    def house(self, top: int, left: int, right: int, wall: Color, key: int) -> None:
        """A facade down to the ground, with rows of windows (building as well)."""
        number = self.canvas.new_instance(BUILDING)
        paint: dict[str, Any] = {"class_id": BUILDING, "instance": number}
        self.canvas.rectangle(top, left, self.height, right, color=wall, texture=24, key=key, **paint)
        draw = Draw((key,))
        step, size = draw.integer(7, 12), draw.integer(3, 5)
        glass = draw.color((70, 80, 95), 30)
        for y in range(max(top, 0) + 4, self.horizon + 20, step + 2):
            for x in range(left + 3, right - size, step):
                self.canvas.rectangle(y, x, y + size + 1, x + size, color=glass, **paint)

    def trees(self, number: int, *, behind: bool) -> None:
        """Crowns of rough discs over a trunk; those `behind` stand at the houses' side."""
        world = self.world
        for _ in range(number):
            depth = self.depth(world.integer(8, 40) if behind else world.integer(30, 60))
            side = 1 if world.chance(50) else -1
            offset = depth * (self.road_slope + self.walk_slope * world.integer(40, 110) // 100) // 100
            x, base = self.vanish + side * (offset + world.integer(2, 14)), self.horizon + depth
            radius, key = 4 + depth * world.integer(22, 40) // 100, world.integer(0, 10**6)
            paint: dict[str, Any] = {"class_id": VEGETATION, "instance": self.canvas.new_instance(VEGETATION)}
            trunk = max(1, radius // 7)
            top = base - radius * world.integer(26, 36) // 10
            self.canvas.rectangle(top, x - trunk, base, x + trunk, color=world.color((82, 66, 50), 12), **paint)
            leaf = world.color((62, 92, 48), 26)
            for dy, dx, share in ((0, 0, 100), (-40, -45, 70), (-35, 50, 65), (35, -60, 60), (30, 55, 60)):
                center_y, center_x = top + dy * radius // 100, x + dx * radius // 100
                self.canvas.disc(
                    center_y, center_x, radius * share // 100, rough=30, key=key, color=leaf, texture=64, **paint
                )

    def ground(self) -> None:
        """Sidewalks and the road between them, widening towards the camera."""
        world, canvas = self.world, self.canvas
        rows = np.arange(self.height - self.horizon)
        road = 2 + rows * self.road_slope // 100
        walk = road + 2 + rows * self.walk_slope // 100
        grey = world.integer(92, 128)
        stone = world.color((grey + 22, grey + 18, grey + 12), 14)
        asphalt = world.color((grey, grey, grey + 4), 8)
        for color, half, class_id in ((stone, walk, SIDEWALK), (asphalt, road, ROAD)):
            canvas.wedge(
                self.horizon, self.height, self.vanish - half, self.vanish + half,
                color=color, class_id=class_id, texture=26, key=world.integer(0, 10**6),
            )  # fmt: skip
        phase = world.integer(0, 30) + 9 * self.frame
        dashes = ((rows * 400 // (rows + 25) + phase) // 22) % 2 == 0
        half = np.where(dashes, rows // 50 + (rows > 4), 0)
        paint = world.color((205, 205, 200), 15)
        canvas.wedge(self.horizon, self.height, self.vanish - half, self.vanish + half, color=paint, class_id=ROAD)

    def things(self) -> None:
        """Cars, poles and people, far ones first."""
        world = self.world
        kinds: list[tuple[int, int, int]] = []
        kinds += [(world.integer(6, 62), 0, world.integer(0, 10**6)) for _ in range(world.integer(1, 5))]
        kinds += [(world.integer(8, 70), 1, world.integer(0, 10**6)) for _ in range(world.integer(1, 5))]
        crowd = world.integer(1, 3) if world.chance(45) else 0
        walkers = [(world.integer(12, 45), 2, world.integer(0, 10**6)) for _ in range(crowd)]
        first = world.integer(0, 2)  # people are met in two of the four frames
        kinds += walkers if self.frame in (first, first + 1) else []
        for tenths, kind, key in sorted(kinds):
            (self.car, self.pole, self.person)[kind](self.depth(tenths), Draw((key,)))

    def car(self, depth: int, draw: Draw) -> None:
        """A car from behind or in front: body, cabin with glass, wheels, lights."""
        half = max(2, depth * draw.integer(17, 23) // 100)
        lane = self.road_slope * draw.integer(20, 105) // 100 * (1 if draw.chance(50) else -1)
        x, base = self.vanish + depth * lane // 100, self.horizon + depth
        paint: dict[str, Any] = {"class_id": CAR, "instance": self.canvas.new_instance(CAR)}
        body = draw.color(
            ((170, 40, 40), (60, 70, 120), (110, 110, 116), (205, 205, 205), (50, 52, 50))[draw.integer(0, 4)], 25
        )
        rise = half * draw.integer(85, 110) // 100
        fill = self.canvas.rectangle
        wheel = max(1, half // 3)
        for side in (-half, half - wheel):
            fill(base - wheel, x + side, base + 1, x + side + wheel, color=(28, 28, 30), **paint)
        fill(base - rise, x - half, base - wheel // 2, x + half, color=body, **paint)
        roof = base - rise - half * 3 // 4
        rows = np.arange(max(1, base - rise - max(0, roof)))
        lean = half * 3 // 5 + rows * (half * 2 // 5) // len(rows)
        self.canvas.wedge(roof, base - rise, x - lean, x + lean, color=body, **paint)
        inner = np.maximum(0, lean - max(1, half // 6))
        glass = (66, 78, 92)
        self.canvas.wedge(roof + max(1, half // 8), base - rise, x - inner, x + inner, color=glass, **paint)
        lamp = (190, 50, 45) if draw.chance(60) else (235, 230, 200)
        size = max(1, half // 4)
        for side in (-half, half - size):
            fill(
                base - rise + size // 2, x + side, base - rise + size // 2 + size, x + side + size, color=lamp, **paint
            )

    def pole(self, depth: int, draw: Draw) -> None:
        """A thin post at the kerb, sometimes with a sign or a lamp arm."""
        side = 1 if draw.chance(50) else -1
        x = self.vanish + side * (depth * (self.road_slope + draw.integer(2, 14)) // 100 + 3)
        base, tall = self.horizon + depth, 8 + depth * draw.integer(90, 150) // 100
        thick = max(1, depth // 30)
        paint: dict[str, Any] = {"class_id": POLE, "instance": self.canvas.new_instance(POLE)}
        grey = draw.color((108, 110, 112), 30)
        self.canvas.rectangle(base - tall, x - thick, base, x + thick, color=grey, **paint)
        kind = draw.integer(0, 2)
        if kind == 0:
            color = ((200, 60, 50), (60, 90, 170), (225, 190, 60))[draw.integer(0, 2)]
            self.canvas.disc(base - tall, x, max(2, depth // 11), color=color, **paint)
        elif kind == 1:
            arm = max(3, depth // 6)
            left, right = sorted((x, x - side * arm))
            self.canvas.rectangle(base - tall, left, base - tall + max(1, thick), right, color=grey, **paint)

    def person(self, depth: int, draw: Draw) -> None:
        """Legs, a coat and a head."""
        side = 1 if draw.chance(50) else -1
        x = self.vanish + side * depth * (self.road_slope + draw.integer(-15, 25)) // 100
        base, tall = self.horizon + depth, max(7, depth * draw.integer(48, 60) // 100)
        wide = max(1, tall // 8)
        paint: dict[str, Any] = {"class_id": PERSON, "instance": self.canvas.new_instance(PERSON)}
        coat = draw.color(((150, 60, 60), (70, 90, 70), (60, 60, 110), (120, 110, 100))[draw.integer(0, 3)], 25)
        trousers = draw.color((58, 56, 64), 18)
        for leg in (-wide, 1):
            self.canvas.rectangle(
                base - tall * 45 // 100, x + leg, base, x + leg + max(1, wide - 1), color=trousers, **paint
            )
        self.canvas.rectangle(base - tall * 82 // 100, x - wide, base - tall * 42 // 100, x + wide, color=coat, **paint)
        self.canvas.disc(base - tall * 90 // 100, x, max(1, tall // 11), color=(196, 154, 126), **paint)

    def unlabelled(self) -> None:
        """Void: a bin at the kerb and, in some streets, the bonnet of the own car."""
        world = self.world
        bonnet, box = world.chance(35), world.chance(45)
        depth, tone = self.depth(world.integer(25, 60)), world.color((80, 92, 80), 30)
        if box:
            x = self.vanish + depth * (self.road_slope + self.walk_slope // 2) // 100
            size = max(3, depth // 9)
            self.canvas.rectangle(
                self.horizon + depth - 3 * size, x - size, self.horizon + depth, x + size,
                color=tone, class_id=VOID, texture=20,
            )  # fmt: skip
        if bonnet:
            rise = self.height * world.integer(6, 11) // 100
            offset = np.arange(rise, 0, -1)
            half = self.width // 2 - offset * offset * (self.width // 4) // (rise * rise)
            middle = np.full(rise, self.width // 2)
            self.canvas.wedge(
                self.height - rise, self.height, middle - half, middle + half, color=(46, 48, 56), class_id=VOID
            )


def _photograph(canvas: Canvas, world: Draw, key: int) -> NDArray[np.uint8]:
    """Light, haze, lens and sensor: the colours of a canvas as an 8-bit picture of half its size."""
    light = smooth_noise(canvas.height, canvas.width, 48, key) * world.integer(13, 77) >> 7
    color = canvas.color * (world.integer(92, 138) + light - 36)[..., None] >> 7  # gains in 1/128
    haze, rows = world.integer(0, 70), np.arange(canvas.height, dtype=np.int32)
    near = np.abs(rows - canvas.height * 42 // 100) * 256 // canvas.height  # 0 at the horizon
    share = (haze * np.maximum(0, 128 - near) >> 7)[:, None, None]
    color = color * (128 - share) + 190 * share >> 7
    height, width = canvas.height // 2, canvas.width // 2
    small = (color[::2, ::2] + color[::2, 1::2] + color[1::2, ::2] + color[1::2, 1::2]) >> 2
    if world.chance(60):  # a soft lens: 1 2 1 in both directions
        for axis in (0, 1):
            small = (np.roll(small, 1, axis) + 2 * small + np.roll(small, -1, axis)) >> 2
    grain = world.integer(8, 34)
    noise = np.stack(
        [hash_noise(height, width, key + c + 1) + hash_noise(height, width, key + c + 9) for c in range(3)], 2
    )
    photo: NDArray[np.uint8] = np.clip(small + ((noise - 255) * grain >> 8), 0, 255).astype(np.uint8)
    return photo
