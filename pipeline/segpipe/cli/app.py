"""The command line: one Typer command a stage, one line an error, one meaning an exit code."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from segpipe import __version__
from segpipe.cli import (
    audit,
    check,
    code,
    compare,
    crf,
    dag,
    datasets,
    decide,
    doctor,
    download,
    ensemble,
    evaluate,
    export,
    import_,
    infer,
    init,
    losses,
    plan,
    predict,
    prepare,
    recommend,
    report,
    repro,
    show,
    stats,
    table,
    train,
    verify,
)
from segpipe.core import instructions
from segpipe.core.errors import SegpipeError

EPILOG = (
    "Exit codes: 0 ok, 1 internal error, 2 usage or parameters, 3 data, 4 training went non-finite, "
    "5 busy, 130 or 143 interrupted."
)


class Grouped(TyperGroup):
    """Lists the commands under the headings that they were added with."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """One section a heading, in the order of the program."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            panels.setdefault(command.rich_help_panel, []).append((name, command.get_short_help_str(90)))
        for heading, rows in panels.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


app = typer.Typer(
    name="segpipe",
    help="Which loss, which post-processing, which ensemble is best on your images and masks?",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would double the time of --help
    cls=Grouped,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_STAGES: tuple[Callable[..., None], ...] = (
    download.download, prepare.prepare, stats.stats, train.train, predict.predict,
    crf.crf, ensemble.ensemble, decide.decide, evaluate.evaluate, report.report,
)  # fmt: skip
for _command in _STAGES:
    app.command(rich_help_panel="Stages, in the order of the pipeline")(_command)
for _command in (compare.compare, recommend.recommend, plan.plan, table.table, audit.audit):
    app.command(rich_help_panel="Answers from the results")(_command)
for _command in (infer.infer, export.export):
    app.command(rich_help_panel="A trained run on new images")(_command)
app.command("import", rich_help_panel="Predictions of other tools")(import_.import_)
_WORKSPACE: tuple[Callable[..., None], ...] = (
    init.init, check.check, show.show, dag.dag, code.code, repro.repro, verify.verify, doctor.doctor,
)  # fmt: skip
for _command in _WORKSPACE:
    app.command(rich_help_panel="Workspace")(_command)
app.add_typer(losses.app, name="losses", rich_help_panel="Library")
app.add_typer(datasets.app, name="datasets", rich_help_panel="Library")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"segpipe {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; works after any command.")
    ] = False,
) -> None:
    del version, debug


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with the code that the error's kind asks for."""
    instructions.pin()
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    signal.signal(signal.SIGTERM, _terminate)
    code = _run([word for word in given if word != "--debug"], debug)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stderr.close()
    sys.exit(code)


def _run(arguments: list[str], debug: bool) -> int:
    try:
        result: Any = app(arguments, prog_name="segpipe", standalone_mode=False)
        if result == 130:  # Typer has turned Ctrl-C into this
            return _explain("interrupted; run the same command to go on", 130, False)
        return result if isinstance(result, int) else 0
    except SegpipeError as error:
        return _explain(str(error), error.exit_code, debug)
    except BrokenPipeError:
        return 0
    except PermissionError as error:
        return _explain(f"no permission for {error.filename}; change its owner or mode", 3, debug)
    except OSError as error:
        return _explain(
            f"{error.filename or 'the system'}: {error.strerror or error}; free space or mend the path", 3, debug
        )
    except KeyboardInterrupt:
        return _explain("interrupted; run the same command to go on", 130, False)
    except typer.Exit as error:
        return error.exit_code
    except typer.Abort:
        return _explain("interrupted", 130, False)
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            return _explain("the GPU has too little memory; lower train.batch_size or predict.batch_size", 2, debug)
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.ctx.get_help())  # type: ignore[attr-defined]
            return 2
        if hasattr(error, "format_message"):  # a usage error of the command line itself
            return _explain(f"{error.format_message()} See segpipe --help.", 2, debug)
        return _explain(
            f"internal error: {type(error).__name__}: {error}; run again with --debug and report it", 1, debug
        )


def _explain(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"segpipe: {' '.join(message.split())}", file=sys.stderr)
    return code


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    print("segpipe: terminated; run the same command to go on", file=sys.stderr)
    sys.exit(128 + number)
