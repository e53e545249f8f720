"""Command init: a workspace in which `dvc repro` runs, anywhere, without a clone and without git."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from segpipe.core.errors import ConfigError, DataError, SegpipeError, suggestion

if TYPE_CHECKING:
    from segpipe.config.schema import Params
    from segpipe.data.card import Card
    from segpipe.data.reading import Reading

IGNORED = "/data/\n/runs/\n/.segpipe/\n.*.partial\n"
# Hard links, so that the cache takes no second copy; DVC makes such files read-only, and stages replace them whole.
DVC_CONFIG = '    analytics = false\n[cache]\n    type = "hardlink,copy"\n'
DVC_IGNORED = (
    "__pycache__/\n*.pyc\n*.egg-info/\n.ipynb_checkpoints/\n/.segpipe/checkpoints/\n/.segpipe/locks/\n/runs/\n"
)


SourceOption = Annotated[Path | None, typer.Option(help="The folder that holds the dataset.", show_default=False)]
IntoOption = Annotated[
    Path | None, typer.Option(help="The new folder; default: named as the dataset.", show_default=False)
]
ImagesOption = Annotated[
    Path | None, typer.Option(help="Your images, for a dataset that segpipe does not know.", show_default=False)
]
MasksOption = Annotated[Path | None, typer.Option(help="Your masks; with --images.", show_default=False)]
ClassesOption = Annotated[
    str | None, typer.Option(help="Names of your classes: a,b,... in the order of ids.", show_default=False)
]
VoidOption = Annotated[
    str | None, typer.Option(help="Ids of your masks that count nowhere: 0,255.", show_default=False)
]
GroupOption = Annotated[
    str | None, typer.Option(help="Expression whose brackets name what stays in one split.", show_default=False)
]
DepthOption = Annotated[
    str,
    typer.Option(
        help="How to convert 16-bit images to 8 bits: full, percentile or 'window LOW HIGH'.", show_default=False
    ),
]
PageOption = Annotated[
    int, typer.Option(help="Page to read from multi-page files, starting at 1.", min=0, show_default=False)
]
MasksAreOption = Annotated[
    Literal["classes", "annotators"] | None,
    typer.Option(
        help="What several masks per image are; default: inferred from their names and overlap.", show_default=False
    ),
]
UnlabelledOption = Annotated[
    Literal["leave-out"] | None,
    typer.Option(
        help="Skip images without a mask, however many; by default at most 10 % are skipped.", show_default=False
    ),
]
ProfileOption = Annotated[str | None, typer.Option(help="A set of parameters, e.g. tiny.", show_default=False)]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        help="Time for the whole benchmark, e.g. 30m or 2h: propose settings that fit the data and this machine.",
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Write a parameter; repeatable.", show_default=False),
]


def init(
    dataset: Annotated[str, typer.Argument(help="A dataset, e.g. scenes or camvid, or the .toml card of your own.")],
    source: SourceOption = None,
    into: IntoOption = None,
    images: ImagesOption = None,
    masks: MasksOption = None,
    classes: ClassesOption = None,
    void: VoidOption = None,
    group: GroupOption = None,
    val: Annotated[float, typer.Option(help="Share of your images for val.", min=0.01, max=0.5)] = 0.15,
    test: Annotated[float, typer.Option(help="Share of your images for test.", min=0.01, max=0.5)] = 0.15,
    masks_are: MasksAreOption = None,
    unlabelled: UnlabelledOption = None,
    depth: DepthOption = "",
    page: PageOption = 0,
    profile: ProfileOption = None,
    budget: BudgetOption = None,
    settings: SetOption = None,
) -> None:
    """Make a workspace for a dataset: params.yaml, dvc.yaml and a DVC repository."""
    from segpipe.data import catalog

    own: str | None = None
    if images is not None or masks is not None:
        if images is None or masks is None or source is not None:
            raise ConfigError("your own data are --images DIR and --masks DIR together, without --source")
        said = {
            "group": group,
            "shares": (val, test),
            "masks_are": masks_are or "",
            "leave_out": unlabelled is not None,
        }
        source, own = _guessed(dataset, images, masks, classes, void, _reading(depth, page), **said)
        card = _read_own(dataset, own)
    elif depth or page or masks_are or unlabelled:
        raise ConfigError(
            "--depth, --page, --masks-are and --unlabelled go with --images and --masks; a card has keys for them"
        )
    elif dataset.endswith(".toml"):
        card = catalog.read_card(Path(dataset))
        own = Path(dataset).read_text(encoding="utf-8")
    else:
        card = catalog.card(dataset)
    folder = _free(into, card.name)
    text = _parameters(card, source, profile, budget, settings or ())
    _make(folder, text, card.name, own)
    print(f"{folder}: workspace for {card.title}; licence of the data: {card.licence}")
    print(f"next: cd {folder} && dvc repro")


def _free(into: Path | None, name: str) -> Path:
    """The folder of the new workspace; ConfigError where it holds something, or for a name that is none."""
    from segpipe.config import params

    if not params.NAME.match(name):
        raise ConfigError(f"the name of a card must match {params.NAME_RULE}; found '{name}'")
    folder = into or Path(name)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty; choose another folder with --into")
    return folder


def _parameters(
    card: Card, source: Path | None, profile: str | None, budget: str | None, settings: Sequence[str]
) -> str:  # fmt: skip
    """params.yaml for a dataset: the shipped one, then what card, profile, budget and options say, in this order."""
    from segpipe.config import yaml

    changes: dict[str, Any] = {"download.dataset": card.name, **card.params}
    if source is not None:
        changes["download.source"] = str(source.expanduser().resolve())
        _check_source(card, source.expanduser())
    elif card.layout != "generated" and not card.downloads:
        raise ConfigError(f"dataset '{card.name}' needs --source DIR; get it from {card.source}; {card.instructions}")
    if card.tests_alone:
        raise ConfigError(f"dataset '{card.name}' cannot be trained on; {card.notes}")
    if profile is not None:
        changes |= _profile(profile)
    own: dict[str, Any] = {}
    for item in settings:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"--set {item}: wanted KEY=VALUE, for example train.epochs=3")
        try:
            own[key] = yaml.load(value)
        except Exception:
            raise ConfigError(f"--set {item}: '{value}' is not valid YAML") from None
    if budget is not None:
        from segpipe.cli.propose import proposed

        changes |= proposed(card, source, _edited({**changes, **own})[1], budget)
    return _edited({**changes, **own})[0]


def _edited(changes: dict[str, Any]) -> tuple[str, Params]:
    """The shipped params.yaml with changes by dotted path, as text and parsed."""
    from segpipe.config import params as parameters
    from segpipe.config import yaml

    try:
        text = yaml.edit(default_params(), changes)
    except KeyError as error:
        raise ConfigError(f"--set: no parameter '{'.'.join(error.args[0])}' in params.yaml") from None
    return text, parameters.parse(text)


def _reading(depth: str, page: int) -> Reading:
    """How files are read, as the options say."""
    from segpipe.data import reading

    problem = reading.problem(depth)
    if problem:
        raise ConfigError(f"--{problem}")
    return reading.Reading(depth, page)


def _guessed(
    name: str, images: Path, masks: Path, classes: str | None, void: str | None, reading: Reading, **said: Any
) -> tuple[Path, str]:
    """The folder of the user's data and the card that was guessed; each guess is printed with its reason."""
    from segpipe.data import catalog
    from segpipe.data.guess.card import toml
    from segpipe.data.guess.pairs import guess

    if name in catalog.cards():
        raise ConfigError(f"segpipe knows a dataset '{name}'; give yours another name")
    try:
        ids = [int(value) for value in void.split(",")] if void is not None else None
    except ValueError:
        raise ConfigError(f"--void {void}: wanted ids, for example 0,255") from None
    names = [word.strip() for word in classes.split(",")] if classes is not None else None
    root, found = guess(images, masks, classes=names, void=ids, reading=reading, **said)
    for what, why, otherwise in found.reasons:
        print(f"guessed: {what}\n         because {why}; otherwise: {otherwise}")
    return root, toml(found, name, root)


def _read_own(name: str, text: str) -> Card:
    """The card in a text."""
    from tempfile import TemporaryDirectory

    from segpipe.data import catalog

    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.toml"
        path.write_text(text, encoding="utf-8")
        return catalog.read_card(path)


def _make(folder: Path, params: str, name: str, card: str | None) -> None:
    """The workspace, built aside and renamed, so that a failure leaves nothing."""
    import shutil

    from segpipe.core import files, outputs

    partial = folder.parent / outputs.PARTIAL.format(folder.name)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for file, content in (("params.yaml", params), (".gitignore", IGNORED), (".dvcignore", DVC_IGNORED)):
            files.write_text(partial / file, content)
        if card is not None:
            files.write_text(partial / "cards" / f"{name}.toml", card)
        _dvc(partial, "init", "--no-scm", "--quiet")
        with open(partial / ".dvc" / "config", "a", encoding="utf-8") as config:
            config.write(DVC_CONFIG)
        _write_dag(partial)
        if folder.exists():
            folder.rmdir()
        os.replace(partial, folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def default_params() -> str:
    """params.yaml as segpipe ships it: inside the wheel, or at the root of a clone."""
    from importlib import resources

    packaged = resources.files("segpipe") / "params.yaml"
    clone = Path(__file__).parents[3] / "params.yaml"
    return packaged.read_text(encoding="utf-8") if packaged.is_file() else clone.read_text(encoding="utf-8")


def _profile(name: str) -> dict[str, Any]:
    """The changes of a profile by dotted path."""
    from importlib import resources

    from segpipe.config import yaml

    known = {f.name[: -len(".yaml")]: f for f in (resources.files("segpipe") / "profiles").iterdir()}
    if name not in known:
        raise ConfigError(f"unknown profile '{name}'{suggestion(name, known)}")
    found: dict[str, Any] = yaml.load(known[name].read_text(encoding="utf-8"))
    return found


def _check_source(card: Card, source: Path) -> None:
    """Read the lists now: a wrong folder should not wait for the first stage."""
    from segpipe.data import catalog

    if card.layout != "generated" and not any((source / remote.name).is_file() for remote in card.remotes):
        catalog.samples_of(card, source)
    elif not source.is_dir():
        raise DataError(f"{source} is not a folder")


def _dvc(folder: Path, *arguments: str) -> None:
    import subprocess

    call = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if call.returncode:
        raise SegpipeError(f"dvc {arguments[0]} failed in {folder}: {call.stderr.strip().splitlines()[-1]}")


def _write_dag(folder: Path) -> None:
    """dvc.yaml and code.json of the new workspace."""
    from segpipe.cli.dag import dag

    here = Path.cwd()
    os.chdir(folder)
    try:
        dag(write=True, check=False)
    finally:
        os.chdir(here)
