"""The text that nano is trained on, made by code: statements, stories, notes and lookups.

The text teaches skills (to add, to follow a story, to copy a value out of a note, to look a name up). It never shows
a nano task's own format: no `Question:`, no `Answer:`, no `####`, no `Summary:`, no multiple choice. That is what an
adapter learns in a minute, and what a base model lacks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import count

from slmbench.nano.words import COLORS, COMPLAINTS, DRUGS, HISTORY, HOLDERS, NAMES, PLACES, THINGS

CHARACTERS = "".join(map(chr, range(33, 127))) + "äéèñöüßçµ°€–“”’"


def _fact(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.45:
        a, b = rng.randint(0, 99), rng.randint(0, 99)
        return f"{a}+{b}={a + b}."
    if kind < 0.85:
        a, b = sorted((rng.randint(0, 120), rng.randint(0, 99)), reverse=True)
        return f"{a}-{b}={a - b}."
    a, b = rng.randint(2, 9), rng.randint(2, 12)
    return f"{a}*{b}={a * b}."


def facts(rng: random.Random) -> str:
    """Arithmetic statements: `12+7=19. 40-3=37.`"""
    return " ".join(_fact(rng) for _ in range(rng.randint(4, 10)))


def story(rng: random.Random) -> str:
    """A story in numbers, its work and its result: two or three steps of adding, taking and multiplying."""
    name, other = rng.sample(NAMES, 2)
    thing = rng.choice(THINGS)
    work: list[str] = []
    if rng.random() < 0.3:
        a, b = rng.randint(2, 9), rng.randint(2, 9)
        total = a * b
        work.append(f"{a}*{b}={total}")
        opening = rng.choice(
            (
                f"{name} keeps {a} {rng.choice(HOLDERS)} of {b} {thing}.",
                f"{a} {rng.choice(HOLDERS)} hold {b} {thing} each.",
            )
        )
    else:
        total = rng.randint(5, 60)
        opening = rng.choice(
            (
                f"{name} starts with {total} {thing}.",
                f"{total} {thing} belong to {name}.",
                f"{name} has {total} {thing}.",
            )
        )
    sentences = [opening]
    for _ in range(rng.randint(1, 2) if work else rng.randint(2, 3)):
        step = rng.choice("+-c")
        if step == "-" and total >= 4:
            n = rng.randint(1, total - 1)
            work.append(f"{total}-{n}={total - n}")
            total -= n
            sentences.append(
                rng.choice(
                    (f"Then {n} are lost.", f"{name} gives {n} to {other}.", f"{other} takes {n}.", f"{n} get sold.")
                )
            )
        elif step == "c" and total <= 45:
            n = rng.randint(1, 30)
            work.append(f"{total}+{n}={total + n}")
            sentences.append(f"{other} owns {n} more than {name}.")
            work.append(f"{total}+{total + n}={2 * total + n}")
            total = 2 * total + n
            sentences.append("They put all in one heap.")
            break
        else:
            n = rng.randint(1, 40)
            work.append(f"{total}+{n}={total + n}")
            total += n
            sentences.append(
                rng.choice(
                    (f"Then {n} are found.", f"{name} buys {n}.", f"{other} brings {n} more.", f"{name} gets {n} more.")
                )
            )
    return f"{' '.join(sentences)}\nWork: {', '.join(work)}.\nResult: {total} {thing}."


def note(rng: random.Random) -> str:
    """A clinical-style note in any order of sentences, and what a few headed lines take from it."""
    age, days, weeks = rng.randint(18, 95), rng.randint(2, 14), rng.randint(1, 12)
    sex = rng.choice(("man", "woman"))
    complaint, past, drug = rng.choice(COMPLAINTS), rng.choice(HISTORY), rng.choice(DRUGS)
    pulse, name = rng.randint(55, 110), rng.choice(NAMES)
    sentences = [
        rng.choice((f"The patient is a {age}-year-old {sex}.", f"{name} is a {sex} of {age}.")),
        rng.choice((f"Reports {complaint} for {days} days.", f"There has been {complaint} for {days} days.")),
        rng.choice((f"Known {past}.", f"History of {past}.")),
        rng.choice((f"Pulse {pulse}.", f"The pulse is {pulse}.")),
        rng.choice((f"Started on {drug}.", f"Was given {drug}.")),
        rng.choice((f"Review in {weeks} weeks.", f"To be seen in {weeks} weeks.")),
    ]
    rng.shuffle(sentences)
    lines = [
        f"Brief: {complaint}, {days} days",
        f"Who: {sex} of {age}",
        f"Past: {past}",
        f"Drug: {drug}",
        f"Next: {weeks} weeks",
        f"Pulse: {pulse}",
    ]
    rng.shuffle(lines)
    return " ".join(sentences) + "\n" + "\n".join(lines[: rng.randint(3, 6)])


def lookup(rng: random.Random) -> str:
    """What is whose, then some of it again in other words: the skill of finding one entry of a list."""
    n = rng.randint(3, 6)
    people = rng.sample(NAMES, n)
    values = rng.sample(rng.choice((COMPLAINTS, COMPLAINTS, PLACES, COLORS, THINGS)), n)
    said, again = rng.choice(
        (
            ("{v} with {p}", "{v} with {p}"),
            ("{v} with {p}", "the {v} belongs to {p}"),
            ("{v} with {p}", "who has {v}: {p}"),
            ("{v} is for {p}", "who gets {v} is {p}"),
            ("{v} for {p}", "to whom goes the {v}, it goes to {p}"),
        )
    )
    order = list(zip(people, values, strict=True))
    first = ", ".join(said.format(p=p, v=v) for p, v in order)
    rng.shuffle(order)
    second = ", ".join(again.format(p=p, v=v) for p, v in order[: rng.randint(2, n)])
    return f"{rng.choice(('Today', 'Here', 'Look', 'Then'))} {first}.\nSo {second}."


def chant(rng: random.Random) -> str:
    """A few words said over and over: the skill of copying what stood there, in its easiest form."""
    words = rng.sample((*NAMES, *THINGS, *COMPLAINTS, *HISTORY, *DRUGS, *COLORS, *PLACES), rng.randint(2, 10))
    return f"Sing: {' '.join((words * 20)[: rng.randint(10, 36)])}"


def spell(rng: random.Random) -> str:
    """Any characters, said over and over: without it most bytes would be one and the same stranger to the model."""
    words = ["".join(rng.choices(CHARACTERS, k=rng.randint(1, 4))) for _ in range(rng.randint(1, 4))]
    return f"Spell: {' '.join((words * 20)[: rng.randint(4, 12)])}"


def turn(rng: random.Random) -> str:
    """A short exchange in nano's chat markup, so that its special tokens are not strangers."""
    a, b = rng.randint(0, 60), rng.randint(0, 39)
    say, reply = rng.choice(
        ((f"{a}+{b}=", f"{a + b}"), ("Repeat: " + rng.choice(THINGS), ""), (f"{a + b}-{b}=", f"{a}"))
    )
    reply = reply or say.removeprefix("Repeat: ")
    return f"<|user|>\n{say}<|end|>\n<|assistant|>\n{reply}"


# Each kind with its share of the documents early on and later. Copying is the slowest skill to start and the one that
# notes and lookups stand on, so its easiest form comes first and often.
KINDS: tuple[tuple[Callable[[random.Random], str], float, float], ...] = (
    (facts, 0.10, 0.14),
    (story, 0.12, 0.24),
    (note, 0.10, 0.25),
    (lookup, 0.16, 0.25),
    (chant, 0.46, 0.05),
    (spell, 0.04, 0.04),
    (turn, 0.02, 0.03),
)
EARLY_DOCUMENTS = 40_000


def documents(seed: int) -> Iterator[str]:
    """An endless, reproducible stream of documents, each of one kind, drawn by the shares in `KINDS`."""
    rng = random.Random(f"nano-corpus/{seed}")
    makers, early, late = zip(*KINDS, strict=True)
    for number in count():
        yield rng.choices(makers, early if number < EARLY_DOCUMENTS else late)[0](rng)
