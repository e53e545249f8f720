"""Options that mean the same in every command."""

from typing import Annotated

import typer

Run = Annotated[str | None, typer.Option(help="A run of params.yaml.", show_default=False)]
Loss = Annotated[
    str | None,
    typer.Option(
        help="A loss instead of a run, e.g. 'focal' or '0.25*ce + 0.75*jml'; writes to runs/adhoc.", show_default=False
    ),
]
Seed = Annotated[int, typer.Option(help="The random seed.", min=0)]
Fold = Annotated[
    int | None,
    typer.Option(
        help="Train without this fold of the train images, or predict it; see section folds.", min=0, show_default=False
    ),
]
Snapshot = Annotated[
    int | None, typer.Option(help="A snapshot of a training with restarts, from 1.", min=1, show_default=False)
]
Look = Annotated[
    int | None,
    typer.Option(
        help="One look of a prediction alone, from 1: a Monte Carlo pass, a mirror image, a size.",
        min=1,
        show_default=False,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        help="Images at once; params.threads by default. Any number gives the same bytes.", min=1, show_default=False
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help="A Dask cluster (tcp://HOST:PORT, extra segpipe[cluster]) whose workers share this folder.",
        show_default=False,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a parameter, e.g. train.epochs=3; repeatable.", show_default=False
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be read and written, then stop.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Ensemble = Annotated[str | None, typer.Option(help="An ensemble of params.yaml instead of a run.", show_default=False)]
