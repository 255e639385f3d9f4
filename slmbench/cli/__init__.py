"""The command line: data on stdout, everything else on stderr, and one place that decides the exit code."""

from __future__ import annotations

import os
import sys

from slmbench.console import Console, phase, say, using
from slmbench.interrupts import interruptible
from slmbench.workflow.quiet import share_cores

COMMANDS = {
    "quickstart": "The whole story on the embedded model, offline, in about two minutes.",
    "list": "What there is: tasks, models, datasets, recipes, suites, metrics, formats.",
    "show": "A declaration, and real prompts as tokens see them.",
    "check": "Test declarations: schema, hooks, rendering, gold answers, leaks.",
    "new": "Start something of your own: a task that passes check.",
    "data": "Mirrors for machines without a network, exports, and what each format costs in tokens.",
    "train": "Train a recipe's adapters.",
    "merge": "Merge adapters or models into one, as a recipe says.",
    "eval": "Score a model, with or without adapters, on tasks or a suite.",
    "score": "Score saved answers again, by today's metrics or others; no model is loaded.",
    "runs": "The store of runs: list them, look into one, verify, tidy up, import and export.",
    "chat": "Talk with a model and its adapters in the terminal.",
    "route": "The right adapter for each request: fit a router, try it, ask it.",
    "run": "A whole recipe: train, evaluate base and adapters, leaderboard.",
    "sweep": "Train and evaluate a recipe over several settings: quality against cost.",
    "matrix": "Models, adapters and recipes crossed with tasks, formats and seeds: one leaderboard.",
    "export": "An adapter for where people run small models: merged weights, Ollama, ready for GGUF.",
    "card": "A model card of an adapter, model or run: scores with intervals, recipe, contamination, licence.",
    "cite": "BibTeX of what a recipe, task or model rests on, and of slmbench.",
    "completion": "The lines that make bash, zsh or fish complete commands, flags and names.",
    "doctor": "What works on this machine, what doesn't, and how to mend it.",
    "schema": "The JSON schema of a kind of declaration, for editors.",
    "leaderboard": "Runs into leaderboard.json, .csv, .md and index.html.",
    "compare": "Is B better than A? Paired test, flipped items, outputs beside each other; a gate for CI.",
    "plan": "Items and seconds until a difference shows, and what a task's items can show at all.",
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code: 0 ok, 1 failed, 2 usage, 3 trust, 4 offline, 130 interrupted."""
    argv = sys.argv[1:] if arguments is None else arguments
    if asked := os.environ.get("_SLMBENCH_COMPLETE"):  # The tab key of a shell.
        from slmbench.cli._completion import answer

        return answer(asked)
    share_cores()
    with using(Console(live=True)), interruptible() as interrupt:
        try:
            what = f"slmbench {argv[0]}" if argv and argv[0] in COMMANDS else "slmbench"
            with phase(f"{what}: starting", told=False):
                return _run(argv)
        except BrokenPipeError:  # `slmbench list | head`: nobody reads any more.
            sys.stdout = None
            return 0
        except BaseException as error:
            if interrupt or isinstance(error, KeyboardInterrupt):
                # A library may have made another error of it, as one whose import was cut short.
                say("interrupted")
                return 130
            if not isinstance(error, Exception):
                raise
            return _tell(error)


def _run(argv: list[str]) -> int:
    # Listing is what shells and editors call most: it goes past click, whose import costs more than the answer.
    if argv and argv[0] == "list":
        from slmbench.cli.list import print_list, quick_options

        options = quick_options(argv[1:])
        if options is not None:
            print_list(*options)
            return 0
    return _run_click(argv)


def _tell(error: Exception) -> int:
    """Says what went wrong; returns the exit code."""
    from slmbench.errors import SlmbenchError

    if isinstance(error, SlmbenchError):
        for line in str(error).split("\n"):
            say(f"error: {line}" if not line.startswith(" ") else line)
        return error.exit_code
    import traceback

    for line in "".join(traceback.format_exception(error)).splitlines():
        say(line)
    return 1


def _run_click(argv: list[str]) -> int:
    import click

    from slmbench.cli._group import Interrupted, build_group

    try:
        result = build_group()(argv, prog_name="slmbench", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        for line in error.format_message().split("\n"):
            say(line)
        return 2
    except click.ClickException as error:
        # As click says it, but through the one writer: names in it may be anybody's.
        if isinstance(error, click.UsageError) and error.ctx is not None:
            for line in error.ctx.get_usage().split("\n"):
                say(line)
            say(f"Try '{error.ctx.command_path} --help' for help.")
            say("")
        say(f"Error: {error.format_message()}")
        return 2 if isinstance(error, click.UsageError) else error.exit_code
    except (click.Abort, Interrupted):
        raise KeyboardInterrupt from None
    except SystemExit:
        # Click's way with a closed pipe, which is not a failure: whoever read has read enough.
        if type(sys.stdout) is click.utils.PacifyFlushWrapper:
            return 0
        raise
    return result if isinstance(result, int) else 0
