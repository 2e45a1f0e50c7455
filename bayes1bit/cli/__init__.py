"""The command line: ``bayes1bit demo | measure | recover | report | ...``.

One module for each command, of its name but for ``report``, which is ``html_report``; what they
share is in ``options``, ``specs``, ``report`` (what is printed), ``sensing``, ``recovery`` and
``command_line``. Everything heavy is imported when a command runs, so that help answers at once.

Exit codes: 0 when all is done; 2, and one sentence on the standard error, for input that cannot be
used; 130 after Ctrl-C; 1, and a traceback, for a defect.
"""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bayes1bit.cli import (
    bench,
    command_line,
    demo,
    html_report,
    measure,
    methods,
    priors,
    recover,
    train,
)
from bayes1bit.errors import InputError

_UsageError: Any = typer.BadParameter.__mro__[1]
"""Base class of what typer raises for options that it cannot understand."""


class _Commands(TyperGroup):
    """The group of all commands, which turns exceptions into exit codes."""

    def main(self, args: Sequence[str] | None = None, *others: Any, **kwargs: Any) -> Any:
        """Run a command and leave the process; see the exit codes of this module."""
        words = sys.argv[1:] if args is None else list(args)
        command_line.remember(words)
        try:
            code = super().main(words, *others, **{**kwargs, "standalone_mode": False})
        except (InputError, FloatingPointError) as error:
            code = _complain(str(error))
        except _UsageError as error:
            context = error.ctx
            hint = f' (see "{context.command_path} --help")' if context else ""
            code = _complain(error.format_message().rstrip(".") + hint)
        except (KeyboardInterrupt, typer.Abort):
            code = 130
        if code == 130:
            print("Interrupted.", file=sys.stderr)
        sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str) -> int:
    print(f"Error: {' '.join(message.split())}", file=sys.stderr)
    return 2


app = typer.Typer(
    name="bayes1bit",
    cls=_Commands,
    help="Bayesian inference from one-bit data with diffusion priors.",
    epilog="bayes1bit COMMAND --help   options and examples of a command",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        import bayes1bit

        print(f"bayes1bit {getattr(bayes1bit, '__version__', 'unknown')}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


for module in (demo, measure, recover, html_report, methods, priors, train):
    name = module.__name__.rpartition(".")[2]
    command = name.removeprefix("html_")
    app.command(command, epilog=module.EXAMPLES)(getattr(module, name))
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="bayes1bit")
