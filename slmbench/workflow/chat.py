"""A conversation with a model and its adapters, as values: what is typed changes it, and asks a question or does not.

Nothing here reads or writes a terminal. `opened` loads what a plan names; `read_line` says what a line is; `obey`
carries out a command; `asked` makes the token ids of a message; `StreamingWriter` answers them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import evolve, field, frozen

from slmbench.adapters import AdapterBank
from slmbench.catalog import Catalog
from slmbench.console import phase
from slmbench.engines.streaming import Wish, window_of
from slmbench.errors import UsageError, did_you_mean
from slmbench.evaluation import format_remarks, format_trained_in
from slmbench.formats import Format, dated, load_format, prompt_ids
from slmbench.models import LoadedModel, held_as, load_model, read_adapter, refuse_unknown, resolve_model
from slmbench.paths import shown
from slmbench.routing import Route, Router, read_router
from slmbench.task import Blank, Task, blanks_of, formats_of, load_task, typed_example
from slmbench.values import Prompt, Shot, Target
from slmbench.workflow.evaluate import bank_bytes

AUTO = "auto"
COMMANDS = {
    "adapter": ("NAME", "this adapter answers from now on; without a name: which there are"),
    "auto": ("", "a router sends each message to an adapter or to the base, and its task's format is used"),
    "base": ("", "the base alone answers"),
    "task": (
        "NAME [FORMAT]",
        "each message is a question of this task, asked as evaluation asks it; without a name: no",
    ),
    "reset": ("", "a new conversation; who answers and in which task stays"),
    "history": ("", "what was said so far"),
    "help": ("", "these commands"),
    "quit": ("", "leave, as Ctrl-D does"),
}
"""Name -> (what follows it, what it does)."""


@frozen(kw_only=True)
class ChatPlan:
    """What is asked for. adapters: folders, or `auto` for the router's choice. router: its folder."""

    model: str
    adapters: tuple[str, ...] = ()
    router: str | None = None
    system: str = ""
    max_tokens: int = 512
    temperature: float = 0.0
    seed: int = 0
    force_base: bool = False


@frozen
class ChatCommand:
    """A line that begins with a slash."""

    name: str
    rest: tuple[str, ...] = ()


@frozen
class AskedTask:
    """A task that messages are questions of. style: what they are written down in; named: a person chose it."""

    task: Task
    style: Format
    blanks: tuple[Blank, ...]
    named: bool = False


@frozen
class Exchange:
    """A message and its answer. adapter: whose, None for the base. task: as which task's question it was asked."""

    message: str
    answer: str
    adapter: str | None = None
    task: str | None = None


@frozen
class Conversation:
    """What was said, and how the next message is answered.

    auto: a router chooses who answers; else `adapter` does, None for the base. task: what messages are questions of.
    typed: the texts of a task's question so far, where it has several. count: of messages that were asked.
    """

    system: str = ""
    exchanges: tuple[Exchange, ...] = ()
    adapter: str | None = None
    auto: bool = False
    task: AskedTask | None = None
    typed: tuple[str, ...] = ()
    count: int = 0

    @property
    def wanted(self) -> Blank | None:
        """Which part of a task's question is typed next; None where a message is the whole of it."""
        blanks = () if self.task is None else self.task.blanks
        return blanks[len(self.typed)] if len(blanks) > 1 else None


@frozen(eq=False)
class ChatRoom:
    """What a conversation goes on in. tasks: a name -> the task, with no shots."""

    plan: ChatPlan
    bank: AdapterBank
    router: Router | None
    tasks: Callable[[str], Task]
    known_tasks: tuple[str, ...]


@frozen
class Asked:
    """A message as it is sent. message: as the history has it. ids: of the whole prompt. loaded: who answers.

    style, task: how it is written down. route: the router's choice, where one was made. dropped: how many exchanges no
    longer fit before it.
    """

    message: str
    ids: tuple[int, ...]
    wish: Wish
    loaded: LoadedModel
    style: Format
    task: str | None = None
    route: Route | None = None
    dropped: int = 0
    notices: tuple[str, ...] = field(default=())

    @property
    def adapter(self) -> str | None:
        """The name of the adapter that answers."""
        return None if self.loaded.adapter is None else self.loaded.adapter.name


def opened(plan: ChatPlan, catalog: Catalog) -> tuple[ChatRoom, Conversation]:
    """What a plan names, loaded, and a conversation that has not begun. Raises UsageError, FileError, OfflineError.

    The first adapter that is given answers; where there is a router, it chooses.
    """
    folders = [one for one in plan.adapters if one != AUTO]
    if plan.router is None and AUTO in plan.adapters:
        raise UsageError(
            "--adapter auto needs a router that chooses: give --router DIR (`slmbench route fit` makes one)"
        )
    refuse_unknown(plan.model, catalog)
    router = None if plan.router is None else read_router(plan.router)
    infos = [read_adapter(folder) for folder in folders]
    if router is not None:  # Its own adapters needn't be listed once more.
        there = {info.name for info in infos}
        infos += [read_adapter(one.folder) for one in router.adapters if one.name not in there]
        router.check_adapters({info.name: info for info in infos})
    for i, info in enumerate(infos):
        if other := next((one for one in infos[:i] if one.name == info.name), None):
            both = f"{shown(other.folder)} and {shown(info.folder)}"
            raise UsageError(f"two adapters of one name: {both}; rename one of the folders")
    dtype, quantization = held_as([info.folder for info in infos])
    source = resolve_model(plan.model, catalog)
    with phase(f"loading {source.name}"):
        loaded = load_model(source, dtype=dtype, quantization=quantization)
    router = None if router is None else router.of_base(loaded)
    bank = AdapterBank(loaded, bank_bytes(loaded))
    for info in infos:
        bank.add(info.name, info.folder, force_base=plan.force_base)
    known = tuple(sorted(catalog.files("tasks")))
    room = ChatRoom(plan, bank, router, lambda name: load_task(name, catalog, data="samples").with_shots(0), known)
    first = next(iter(bank.names), None)
    return room, Conversation(plan.system, adapter=None if router else first, auto=router is not None)


def read_line(line: str) -> ChatCommand | str:
    """A command, or the message that a line is; `//` begins a message with a slash. Raises UsageError."""
    text = line.strip()
    if text.startswith("//"):
        return text[1:]
    if not text.startswith("/"):
        return text
    name, *rest = text[1:].split() or [""]
    if name not in COMMANDS:
        raise UsageError(f"unknown command /{name}{did_you_mean(name, COMMANDS)} (/help lists them)")
    most = len(COMMANDS[name][0].split())
    if len(rest) > most:
        takes = COMMANDS[name][0] or "nothing behind it"
        raise UsageError(f"/{name} takes {takes}, and got {' '.join(rest)!r}; begin a message with // if it is one")
    return ChatCommand(name, tuple(rest))


def obey(room: ChatRoom, conversation: Conversation, command: ChatCommand) -> tuple[Conversation, list[str]]:
    """(the conversation from now on, lines that tell the person of it). /quit is the caller's. Raises UsageError."""
    name, rest = command.name, command.rest
    if name == "help":
        return conversation, help_lines()
    if name == "history":
        return conversation, _history(conversation)
    if name == "reset":
        return evolve(conversation, exchanges=(), typed=(), count=0), ["a new conversation"]
    if name == "task":
        return _with_task(room, conversation, rest)
    if name == "adapter" and not rest:
        return conversation, _adapters(room, conversation)
    if name == "auto":
        if room.router is None:
            raise UsageError("/auto needs a router: start the chat with --router DIR (`slmbench route fit` makes one)")
        changed = evolve(conversation, auto=True, typed=())
    else:
        adapter = rest[0] if name == "adapter" else None
        if adapter is not None and adapter not in room.bank.names:
            hint = did_you_mean(adapter, room.bank.names) if room.bank.names else "; start the chat with --adapter DIR"
            raise UsageError(f"unknown adapter {adapter!r}{hint}")
        room.bank.swap(adapter)
        changed = evolve(conversation, adapter=adapter, auto=False, typed=())
    if changed.task is not None and not changed.task.named:  # Its format was that of whoever answered.
        changed = evolve(changed, task=_asked_task(room, changed, changed.task.task, None))
    return changed, [answering(room, changed), *remarks(room, changed)]


def help_lines() -> list[str]:
    """The commands, a line each, and what is no command."""
    heads = {name: f"/{name} {takes}".rstrip() for name, (takes, _) in COMMANDS.items()}
    width = max(map(len, heads.values()))
    lines = [f"{heads[name].ljust(width)}  {does}" for name, (_, does) in COMMANDS.items()]
    return [*lines, "All else is a message (// begins one with a slash). Ctrl-C stops an answer."]


def answering(room: ChatRoom, conversation: Conversation) -> str:
    """Who answers the next message, and how it is asked."""
    who = "the router chooses who answers" if conversation.auto else f"{_who(room, conversation.adapter)} answers"
    asked = conversation.task
    if asked is None:
        return who
    lines = ", ".join(blank.name for blank in asked.blanks)
    several = f"; it asks for {lines}, a message each" if len(asked.blanks) > 1 else ""
    whose = "the format of whoever answers" if conversation.auto and not asked.named else f"format {asked.style.name}"
    return f"{who}; each message is a question of {asked.task.name}, in {whose}{several}"


def greeting(room: ChatRoom, conversation: Conversation) -> list[str]:
    """What a person is told before the first message."""
    notices = [f"note: {said}" for said in room.bank.base.notices]
    return [*notices, answering(room, conversation), *remarks(room, conversation)]


def remarks(room: ChatRoom, conversation: Conversation) -> list[str]:
    """What a person should know of whoever answers and of how messages are written down."""
    if conversation.auto:
        return []
    loaded = room.bank.swap(conversation.adapter)
    style = conversation.task.style if conversation.task else _style_of(loaded)
    own = [said for said in loaded.notices if said not in room.bank.base.notices]
    told = [f"note: {said}" for said in (*own, *dated(style, loaded.tokenizer))]
    if conversation.task is None and not style.turns:
        told.append(
            "note: this model has no chat template, so messages are sent as plain text, those before them in front; "
            "/task NAME asks in a task's format"
        )
    elif conversation.task is None and loaded.source.family == "nano" and format_trained_in(loaded) is None:
        told.append("note: nano was made for its own tasks and can't converse; /task nano_arithmetic asks in one")
    trained = format_trained_in(loaded)
    if conversation.task is None and trained not in (None, style.name):
        told.append(
            f"note: it was trained in format {trained}, and a conversation is in {style.name}; /task asks as it was"
        )
    elif conversation.task is not None:
        told += [f"note: {said}" for said in format_remarks(loaded, style)]
    return told


def asked(room: ChatRoom, conversation: Conversation, message: str) -> tuple[Conversation, Asked | None]:
    """(the conversation with the message taken in, what is sent); None where a task's question has further parts.

    Raises UsageError for a message that is too long, and for what the model's template refuses.
    """
    conversation, task = evolve(conversation, typed=(*conversation.typed, message)), conversation.task
    if task is not None and len(conversation.typed) < len(task.blanks):
        return conversation, None
    texts, conversation = conversation.typed, evolve(conversation, typed=(), count=conversation.count + 1)
    loaded, route = _chosen(room, conversation, "\n".join(texts))
    if route is not None:
        task = _routed_task(room, loaded, route, task)
    if task is None:
        style = _style_of(loaded)
        sent = _in_conversation(room.plan, conversation, message, loaded, style)
    else:
        style = task.style
        sent = _as_question(room.plan, conversation, task, texts, loaded)
    return conversation, evolve(sent, style=style, route=route)


def answered(conversation: Conversation, sent: Asked, text: str) -> Conversation:
    """The conversation with an answer, or with what was said of it; without the exchange if nothing was."""
    kept = conversation.exchanges[sent.dropped :]
    if not text.strip():
        return evolve(conversation, exchanges=kept)
    return evolve(conversation, exchanges=(*kept, Exchange(sent.message, text, sent.adapter, sent.task)))


def _chosen(room: ChatRoom, conversation: Conversation, text: str) -> tuple[LoadedModel, Route | None]:
    if not conversation.auto or room.router is None:
        return room.bank.swap(conversation.adapter), None
    with room.bank.using(None):
        route = room.router.route(text)
    return room.bank.swap(route.adapter), route


def _routed_task(room: ChatRoom, loaded: LoadedModel, route: Route, task: AskedTask | None) -> AskedTask | None:
    """The task that a person has chosen; else the route's, if a message is the whole of its question."""
    if task is not None:
        return task if task.named else evolve(task, style=_task_style(loaded, task.task, None))
    if route.task not in room.known_tasks:  # Of None too.
        return None
    its = room.tasks(str(route.task))
    style = _task_style(loaded, its, None)
    blanks = blanks_of(its, style)
    return AskedTask(its, style, blanks) if len(blanks) == 1 else None


def _in_conversation(
    plan: ChatPlan, conversation: Conversation, message: str, loaded: LoadedModel, style: Format
) -> Asked:
    """A message behind what was said before, the oldest of it left out until there is room for an answer."""
    window, exchanges = window_of(loaded), conversation.exchanges
    seq2seq = loaded.architecture == "seq2seq"
    room = 0 if seq2seq else min(plan.max_tokens, window // 4)
    for dropped in range(len(exchanges) + 1):
        shots = tuple(Shot(one.message, Target(one.answer)) for one in exchanges[dropped:])
        prompt = Prompt(message, conversation.system, shots)
        ids = prompt_ids(style, loaded.tokenizer, style.render(prompt, loaded.tokenizer).text)
        if len(ids) + room <= window:
            break
    wish = _wish(plan, conversation, len(ids), loaded, plan.max_tokens)
    return Asked(message, tuple(ids), wish, loaded, style, dropped=dropped)


def _as_question(
    plan: ChatPlan, conversation: Conversation, asked: AskedTask, texts: Sequence[str], loaded: LoadedModel
) -> Asked:
    """A task's question as evaluation sends it: by itself, with nothing that was said before."""
    task = asked.task.in_format(asked.style)
    example = typed_example(task, asked.blanks, texts)
    ids = prompt_ids(asked.style, loaded.tokenizer, task.render(asked.style, loaded.tokenizer, example).text)
    most = plan.max_tokens if task.kind == "choice" else min(task.max_tokens, plan.max_tokens)
    wish = _wish(plan, conversation, len(ids), loaded, most)
    wish = evolve(wish, stops=tuple(stop for stop in asked.style.stop(task.stop) if stop))
    return Asked("\n".join(texts), tuple(ids), wish, loaded, asked.style, task.name)


def _wish(plan: ChatPlan, conversation: Conversation, tokens: int, loaded: LoadedModel, most: int) -> Wish:
    window = window_of(loaded)
    seq2seq = loaded.architecture == "seq2seq"
    if tokens > window - (not seq2seq):
        raise UsageError(
            f"the message is {tokens:,} tokens long with its template, and {loaded.source.name!r} reads {window:,}; "
            "shorten it"
        )
    most = most if seq2seq else min(most, window - tokens)
    return Wish(most, (), plan.temperature, plan.seed, conversation.count)


def _style_of(loaded: LoadedModel) -> Format:
    """What a conversation is written down in: turns by the model's own template, or as its adapter was trained."""
    turns = loaded.tokenizer.chat_template or format_trained_in(loaded) == "chat"
    return load_format("chat" if turns else "plain")


def _task_style(loaded: LoadedModel, task: Task, named: str | None) -> Format:
    """What evaluation asks a task in, unless a person names another: the adapter's own format, else plain."""
    return load_format(named or format_trained_in(loaded) or "plain", formats_of([task]))


def _with_task(room: ChatRoom, conversation: Conversation, rest: Sequence[str]) -> tuple[Conversation, list[str]]:
    if not rest:
        changed = evolve(conversation, task=None, typed=())
        return changed, [f"{answering(room, changed)}; messages are asked as a conversation", *remarks(room, changed)]
    if rest[0] not in room.known_tasks:
        raise UsageError(f"unknown task {rest[0]!r}{did_you_mean(rest[0], room.known_tasks)}")
    named = rest[1] if len(rest) > 1 else None
    task = _asked_task(room, conversation, room.tasks(rest[0]), named)
    changed = evolve(conversation, task=task, typed=())
    return changed, [answering(room, changed), *remarks(room, changed)]


def _asked_task(room: ChatRoom, conversation: Conversation, task: Task, named: str | None) -> AskedTask:
    loaded = room.bank.base if conversation.auto else room.bank.swap(conversation.adapter)
    style = _task_style(loaded, task, named)
    return AskedTask(task, style, blanks_of(task, style), named is not None)


def _who(room: ChatRoom, adapter: str | None) -> str:
    return adapter or f"{room.bank.base.source.name} alone"


def _adapters(room: ChatRoom, conversation: Conversation) -> list[str]:
    if not room.bank.names:
        return ["no adapter is given; start the chat with --adapter DIR"]
    on = None if conversation.auto else conversation.adapter
    return [f"{'*' if name == on else ' '} {name}" for name in room.bank.names]


def _history(conversation: Conversation) -> list[str]:
    lines = [f"system: {conversation.system}"] if conversation.system else []
    for one in conversation.exchanges:
        lines += [*f"you: {one.message}".split("\n"), *f"{one.adapter or 'base'}: {one.answer}".split("\n")]
    return lines or ["nothing was said yet"]
