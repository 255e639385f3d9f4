"""The text that twins' tokenizers learn from: common words by how common they are, and some of nano's documents."""

from __future__ import annotations

import os
from collections.abc import Iterator

# The first documents of nano's corpus that come late, kept, as making what comes before them takes a second.
DOCUMENTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "documents.txt")

COMMON = """
the of and to a in is that it was for on with as are be this by at from or an have not he his they which you had but
she her their were one all we there been has when who will more no if out so what up said about into than them can
only other new some could time these two may then do first any my now such like our over man me even most made after
also did many before must through back years where much your way well down should because each just those people how
too little state good very make world still own see men work long get here between both life being under never day
same another know while last might us great old year off come since against go came right used take three
question answer which following correct true false yes sentence passage paragraph story text read write summary
summarize context background document article title explain describe option choice best choose reason step number
total how many each half twice cost price dollars hours minutes week month days money sold bought left per
patient doctor treatment disease history pain blood medical clinical study results effect increased years symptoms
diagnosis hospital discharge medication daily normal left right chest heart care test health risk group compared
method conclusion cells associated therapy surgery infection condition please help advice hello
function return string list def self print import for in range len if else while value index result input output
code python array sum count append class int str none
act section federal government secretary law bill amends requires service program united states
water light energy plant animal air food body earth temperature place person someone something
""".split()

OPENINGS = "Question Answer Context Summary The What How Passage Article Title Note In If".split()

STOPS = ". , ? ! : ; ( ) ' \" - / * = + # % < > [ ] { } _ ` | & $ @ ~ ^".split()

CODE = "def f(x):\n    return x\n\nfor i in range(n):\n    if a[i] == 0:\n        s += 1\nprint(len(s))\n"


def training_lines() -> Iterator[str]:
    """Lines of text, the same every time."""
    for rank, word in enumerate(COMMON):
        line = f" {word}" * (1 + 1200 // (rank + 10))
        yield line
        yield f"{word.capitalize()}{STOPS[rank % len(STOPS)]} {word}ing {word}s, {word}ed."
    # All of ASCII, so that every character of it is a piece of its own.
    yield from (" ".join(map(chr, range(33, 127))) for _ in range(4))
    yield from [CODE] * 20
    yield from (f"{word}: " * 60 for word in OPENINGS)
    with open(DOCUMENTS, encoding="utf-8") as file:
        yield from file.read().rstrip("\n").split("\n\n")
