"""Speed of combining members beside their plain sum, and the memory of a whole stage.

    python tests/bench/ensembles.py                 # speed, one thread, under a minute
    python tests/bench/ensembles.py --check         # exit 1 when a bound is missed in the median
    python tests/bench/ensembles.py --memory        # 500 images of 1024x512, 19 classes, 5 members: an hour on a core
    python tests/bench/ensembles.py --memory --images 60

Members are generated. Rounds go through all candidates in turn and a ratio is taken inside its round; shown are
median and range of CPU time.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

from segpipe import ensembles  # noqa: E402
from segpipe.core.parallel import Pool  # noqa: E402
from segpipe.data.dataset import Index, Row  # noqa: E402
from segpipe.data.geometry import Geometry  # noqa: E402
from segpipe.data.maps import write_maps  # noqa: E402
from segpipe.data.packed import Packed  # noqa: E402
from segpipe.ensembles import members as work  # noqa: E402
from segpipe.ensembles import methods, samples  # noqa: E402
from segpipe.ensembles.samples import Sample  # noqa: E402
from segpipe.stages import ensemble as stage  # noqa: E402

HEIGHT, WIDTH, CLASSES, MEMBERS = 512, 1024, 19, 5
BOUNDS = {"average": 3.0, "majority": 3.0, "plurality": 3.0}  # times the plain sum
PIXELS = 4.0  # Mpixel/s of logistic stacking of three members
MEMORY = 2**30


def members(count, seed=0):
    """Probabilities (M, C, H, W) that mostly agree, and the target."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, CLASSES, (HEIGHT // 32, WIDTH // 32))
    target = np.kron(coarse, np.ones((32, 32), int)).astype(np.uint8)
    scores = random.normal(0, 1, (count, CLASSES, HEIGHT, WIDTH)).astype(np.float32)
    scores += 3 * (target == np.arange(CLASSES)[:, None, None])
    np.exp(scores, out=scores)
    return scores / scores.sum(1, keepdims=True), target


def speed(rounds):
    """{name: ratios}, and Mpixel/s of each learner."""
    probs, target = members(MEMBERS)
    labels = probs.argmax(1).astype(np.uint8)
    total = probs.sum(0)
    three = np.ascontiguousarray(probs[:3])
    sample = Sample.of(three, target, *samples.stratified(target, 200, 0), 0)
    stackers = {name: ensembles.Stacker(name).fit(sample) for name in ("logistic", "linear_svm", "rbf_svm", "mlp")}
    candidates = {
        "sum": lambda: np.add.reduce(probs),
        "average": lambda: ensembles.average(probs),
        "geometric": lambda: ensembles.average(probs, kind="geometric"),
        "majority": lambda: ensembles.majority(labels),
        "plurality": lambda: ensembles.plurality(labels, probs=total),
        **{name: (lambda stacker=stacker: stacker.predict(three)) for name, stacker in stackers.items()},
    }
    ratios = {name: [] for name in candidates if name not in ("sum", *stackers)}
    rates = {name: [] for name in stackers}
    for _ in range(rounds):
        taken = {}
        for name, candidate in candidates.items():
            start = time.process_time()
            candidate()
            taken[name] = time.process_time() - start
        for name, seconds in taken.items():
            if name in ratios:
                ratios[name].append(seconds / taken["sum"])
            elif name in rates:
                rates[name].append(HEIGHT * WIDTH / 1e6 / seconds)
    return ratios, rates


def generate(folder, images):
    """Logits of MEMBERS members as stage predict leaves them; all members share the files of the first."""
    random = np.random.default_rng(0)
    shape = (CLASSES, HEIGHT // 4, WIDTH // 4)
    for number in range(MEMBERS):
        (folder / str(number)).mkdir()
    for split in ("val", "test"):
        maps = (Packed.scores(random.normal(0, 2, shape).astype(np.float32)) for _ in range(images))
        write_maps(folder / "0" / f"{split}_logits", maps)
        for name, number in itertools.product(("bin", "json"), range(1, MEMBERS)):
            own = f"{split}_logits.{name}"
            os.link(folder / "0" / own, folder / str(number) / own)


def measure(folder, images, method):
    """Peak resident bytes of this process before and in fitting and combining, and CPU seconds."""
    found = tuple(work.Member(str(m), folder / str(m), folder / str(m), {}, {}) for m in range(MEMBERS))
    rows = [Row(f"{i}", "", "", (), Geometry(*(HEIGHT, WIDTH) * 3)) for i in range(images)]
    splits = {"val": rows, "test": rows}
    index = Index("", [f"class{k}" for k in range(CLASSES)], [], "", "", HEIGHT, WIDTH, splits)
    target = np.kron(np.random.default_rng(0).integers(0, CLASSES, (HEIGHT // 32, WIDTH // 32)), np.ones((32, 32), int))
    target = target.astype(np.uint8)
    work.read_target = lambda *_: target  # labels are not what is measured
    chosen = methods.create(method)
    number = work.per_image(chosen, MEMBERS, CLASSES, images)
    val = work.Gathering(found, folder, index, "val", chosen.draws, number)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, time.process_time()
    with threadpool_limits(1):
        _, sample = stage._samples(val, Pool(), rows, [tuple(member.folder for member in found)] * images)
        chosen.fit(sample, [])
        stage._write_maps(folder, replace(val, split="test"), Pool(), chosen, tuple(range(MEMBERS)), method)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return before, peak, time.process_time() - start


def memory(images, method):
    """What `measure` says in a process of its own."""
    with (
        tempfile.TemporaryDirectory() as name,
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        generate(Path(name), images)
        return pool.submit(measure, Path(name), images, method).result()


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--method", default="stacking")
    options = parser.parse_args()
    missed = []
    if options.memory:
        before, peak, seconds = memory(options.images, options.method)
        print(f"{options.method}, {options.images} images, mapped files included:")
        print(f"{peak / 2**20:.0f} MiB resident at most, {before / 2**20:.0f} MiB before the stage;")
        print(f"{seconds / options.images:.2f} CPU s an image, fit and test")
        missed += ["memory"] if peak > MEMORY else []
    else:
        with threadpool_limits(1):
            ratios, rates = speed(options.rounds)
        print(f"| {MEMBERS} members, {CLASSES} classes, {WIDTH}x{HEIGHT} | times the sum | range |\n| :- | -: | -: |")
        for name, values in ratios.items():
            middle = statistics.median(values)
            print(f"| {name} | {middle:.2f} | {min(values):.2f}-{max(values):.2f} |")
            missed += [name] if middle > BOUNDS.get(name, np.inf) else []
        print("\n| stacking, 3 members | Mpixel/s | range |\n| :- | -: | -: |")
        for name, values in rates.items():
            print(f"| {name} | {statistics.median(values):.2f} | {min(values):.2f}-{max(values):.2f} |")
        missed += ["logistic"] if statistics.median(rates["logistic"]) < PIXELS else []
    if options.check and missed:
        sys.exit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
