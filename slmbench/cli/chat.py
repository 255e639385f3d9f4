"""`slmbench chat`: a conversation in the terminal, or one message a line from a pipe."""

from __future__ import annotations

import json
import math
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click
from attrs import define

from slmbench.catalog import default_catalog
from slmbench.cli._options import gathered
from slmbench.console import TakenBack, current, is_typed, say, show
from slmbench.errors import SlmbenchError
from slmbench.interrupts import Interrupt, stoppable
from slmbench.workflow.quiet import quiet_libraries

if TYPE_CHECKING:
    from slmbench.engines.streaming import StreamingWriter, TextSoFar
    from slmbench.routing import Route
    from slmbench.workflow.chat import Asked, ChatPlan, ChatRoom, Conversation

KEPT = "\n\t"
ENDINGS = {"length": ", cut there", "": ", stopped"}


def _temperature(_: click.Context, param: click.Parameter, value: float) -> float:
    if not 0 <= value < math.inf:
        raise click.BadParameter(f"{value} is not a finite number from 0 on", param=param)
    return value


@click.command("chat", help="Talk with MODEL (a registry name, a folder, a .gguf file, or a hub id). /help inside.")
@click.argument("model")
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    metavar="DIR|auto",
    help="An adapter's folder; repeat it for more. The first one answers; auto: the router chooses.",
)
@click.option("--router", metavar="DIR", help="What `slmbench route fit` made: it sends each message to an adapter.")
@click.option("--system", default="", metavar="TEXT", help="What the model is told before the conversation.")
@click.option("--max-tokens", type=click.IntRange(1), default=512, show_default=True, help="Of an answer at most.")
@click.option(
    "--temperature",
    type=float,
    default=0.0,
    show_default=True,
    callback=_temperature,
    help="0: always the likeliest token; above: drawn.",
)
@click.option("--seed", default=0, show_default=True, help="Of what is drawn.")
@click.option("--force-base", is_flag=True, help="Put adapters on this model, whatever they were trained on.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each answer on stdout, and nothing else.")
@gathered(plan="slmbench.workflow.chat:ChatPlan")
def command(plan: ChatPlan, as_json: bool) -> int:
    from slmbench.engines.streaming import StreamingWriter
    from slmbench.workflow.chat import greeting, opened

    quiet_libraries()
    room, conversation = opened(plan, default_catalog())
    typed = is_typed()
    for line in greeting(room, conversation):
        say(line)
    if typed:
        say("/help shows the commands; Ctrl-C stops an answer, Ctrl-D leaves")
    talk = _Talk(room, conversation, StreamingWriter(), as_json, typed)
    with current().still(), stoppable() if typed else nullcontext(Interrupt()) as stop:
        while True:
            try:
                if not talk.step():
                    return 1 if talk.failed and not typed else 0
            except KeyboardInterrupt as pressed:
                if not stop.taken():
                    raise
                talk.stopped = not isinstance(pressed, TakenBack)


@define
class _Talk:
    """What is shown and typed. under_way: an answer that is being written. presses: of Ctrl-C with nothing between."""

    room: ChatRoom
    conversation: Conversation
    writer: StreamingWriter
    as_json: bool
    typed: bool
    under_way: tuple[Asked, TextSoFar, float] | None = None
    stopped: bool = False
    presses: int = 0
    failed: bool = False

    def step(self) -> bool:
        """One line, and what it asks for; False where there is no more. Whatever was stopped before is told first."""
        if self.stopped and not self._tell_stopped():
            return False
        line = current().ask(f"{self._prompt()}> ")
        self.presses = 0
        if line is None:
            return False
        if not line.strip():
            return True
        try:
            return self._take(line)
        except SlmbenchError as error:
            self._tell_error(line, error)
            return True

    def _take(self, line: str) -> bool:
        from slmbench.workflow.chat import ChatCommand, asked, obey, read_line

        found = read_line(line)
        if isinstance(found, ChatCommand):
            if found.name == "quit":
                return False
            self.conversation, lines = obey(self.room, self.conversation, found)
            for told in lines:
                say(told)
            return True
        self.conversation, sent = asked(self.room, self.conversation, found)
        if sent is not None:
            self._answer(sent)
        elif not self.typed and not self.as_json:
            current().aside(f"{self._prompt()}: the next line")
        return True

    def _answer(self, sent: Asked) -> None:
        from slmbench.engines.streaming import TextSoFar

        if sent.dropped:
            say(f"the context is full: the first {sent.dropped} messages and their answers are left out from now on")
        if sent.route is not None:
            current().aside(_routed(sent, sent.route))
        written = TextSoFar()
        self.under_way = sent, written, time.perf_counter()
        for piece in self.writer.write(sent.loaded, sent.ids, sent.wish, written):
            if not self.as_json:
                current().stream(piece, KEPT)
        self._finish()

    def _finish(self) -> None:
        """What was said of an answer is shown to its end, and kept."""
        from slmbench.workflow.chat import answered

        assert self.under_way is not None
        (sent, written, began), self.under_way = self.under_way, None
        seconds = time.perf_counter() - began
        self.conversation = answered(self.conversation, sent, written.text)
        if self.as_json:
            show(json.dumps(_as_json(sent, written, seconds), allow_nan=False))
        else:
            show()
        nothing = "" if written.text else "; nothing was said, and the message is not kept"
        current().aside(f"{written.tokens_out} tokens in {seconds:.1f} s{ENDINGS.get(written.reason, '')}{nothing}")

    def _tell_stopped(self) -> bool:
        """What a Ctrl-C stopped; False where it is to end the conversation."""
        self.stopped = False
        if self.under_way is not None:
            self._finish()
            return True
        self.presses += 1
        if self.presses > 1:
            return False
        say("Ctrl-C once more, or Ctrl-D, leaves")
        return True

    def _tell_error(self, line: str, error: SlmbenchError) -> None:
        self.failed = True
        if self.under_way is not None:
            self.under_way = None
            show() if not self.as_json else None
        for told in str(error).split("\n"):
            say(f"error: {told}" if not told.startswith(" ") else told)
        if self.as_json:
            show(json.dumps({"message": line, "error": str(error)}))

    def _prompt(self) -> str:
        if (wanted := self.conversation.wanted) is not None:
            return wanted.name
        return "auto" if self.conversation.auto else self.conversation.adapter or "base"


def _routed(sent: Asked, route: Route) -> str:
    asked = f", as a question of {sent.task}" if sent.task else ""
    if route.adapter is not None:
        return f"{route.adapter} answers ({route.scores[route.adapter]:.2f}){asked}"
    nearest = max(route.scores, key=lambda name: route.scores[name], default=None)
    near = "" if nearest is None else f" (nearest: {nearest} {route.scores[nearest]:.2f})"
    return f"the base answers{near}{asked}"


def _as_json(sent: Asked, written: TextSoFar, seconds: float) -> dict[str, object]:
    return {
        "message": sent.message,
        "answer": written.text,
        "adapter": sent.adapter,
        "task": sent.task,
        "format": sent.style.name,
        "scores": None if sent.route is None else dict(sent.route.scores),
        "finish_reason": written.reason or "stopped",
        "tokens_in": written.tokens_in,
        "tokens_out": written.tokens_out,
        "seconds": round(seconds, 3),
    }
