"""The command line. Each file of this folder holds the commands of one kind; heavy parts load inside a command.

Exit codes: 0 done, 1 a run failed, 2 the command or its configuration is wrong, 130 / 143 stopped by Ctrl-C / SIGTERM.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from pspnet.cli import adapt, bench, data, doctor, export, models, playground, predict, rasters, serve, train
from pspnet.cli.help import GroupedCommands
from pspnet.terminal import printable, show_any_text

PACKAGE = Path(__file__).parents[1]
_shown = warnings.showwarning

app = typer.Typer(
    name="pspnet",
    cls=GroupedCommands,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: drawing boxes would cost 0.3 s of each start
    pretty_exceptions_enable=False,
    help="Scene parsing: a class for every pixel. Train, evaluate and use PSPNet on photographs and rasters.\n\n"
    "Start with pspnet demo, or pspnet segment MODEL photo.jpg --out results. pspnet COMMAND --help explains each "
    "command, with an example.",
)


def _version(asked: bool) -> None:
    if asked:
        from pspnet import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _global(
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options that every command has."""


predict.add_to(app)
models.add_to(app)
rasters.add_to(app)
train.add_to(app)
data.add_to(app)
export.add_to(app)
adapt.add_to(app)
bench.add_to(app)
serve.add_to(app)
playground.add_to(app)
doctor.add_to(app)


def main() -> None:
    """The program `pspnet`: runs a command and ends with its exit code. A traceback is shown only with --debug."""
    debug = "--debug" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    if not debug:
        warnings.showwarning = _warn
        sys.unraisablehook = _unraisable
    sys.exit(_run(arguments, debug))


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """Our own warnings in one line, without the place in the code; the libraries' as Python shows them."""
    if category is UserWarning and PACKAGE in Path(filename).parents:
        print(printable(f"warning: {message}"), file=sys.stderr)
    else:
        _shown(message, category, filename, lineno, file, line)


def _unraisable(event: sys.UnraisableHookArgs) -> None:
    """GDAL may quote a damaged file's bytes in a message that rasterio then cannot read. What is wrong with the file is an
    error of its own; a traceback beside it would only confuse."""
    if not str(event.object).startswith("rasterio."):
        sys.__unraisablehook__(event)


def _run(arguments: list[str], debug: bool) -> int:
    from pspnet.errors import PspnetError, RunInterrupted, missing
    from pspnet.installation import EXTRA_OF

    show_any_text()
    try:
        app(arguments, prog_name="pspnet")
        return 0
    except SystemExit as stop:  # how a command ends: wrong use is 2, Ctrl-C 130
        return stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1
    except PspnetError as error:
        if debug:
            raise
        message = str(error) if isinstance(error, RunInterrupted) else f"error: {error}"
        print(printable(message), file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:  # an extra's, met where no `require` stands before the import
        if debug:
            raise
        module = (error.name or "").split(".")[0]
        if module in EXTRA_OF:
            print(f"error: {missing(module, EXTRA_OF[module], error)}", file=sys.stderr)
            return 2
        print(_fault(error), file=sys.stderr)
        return 1
    except Exception as error:  # the last resort: a user sees one line, a developer asks for more
        if debug:
            raise
        print(_fault(error), file=sys.stderr)
        return 1


def _fault(error: Exception) -> str:
    return (
        printable(f"unexpected error: {type(error).__name__}: {error}"[:2000])
        + "\nThis is a fault in pspnet; run it again with --debug and report what it prints"
    )
