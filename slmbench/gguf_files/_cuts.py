"""How llama.cpp cuts text into words before it looks for pieces: its names of ways, and the one that a tokenizer has.

Source: llama.cpp, src/llama-vocab.cpp, as it was in 2026.
"""

from __future__ import annotations

from attrs import frozen

from slmbench.values import Backend

_SHORT_FORMS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_AFTER_NUMBERS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_LLAMA3 = _SHORT_FORMS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _AFTER_NUMBERS
_QWEN2 = _SHORT_FORMS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _AFTER_NUMBERS
_QWEN35 = (
    _SHORT_FORMS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s"
_TEKKEN = _CASED % ("", "") + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT4O = (
    _CASED % (_SHORT_FORMS + "?", _SHORT_FORMS + "?")
    + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_FALCON = (r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]")


@frozen
class Cuts:
    """A way to cut. name: `tokenizer.ggml.pre`. patterns: each splits what the ones before it left.

    whole_words: whether a word that is itself a piece is taken as it is, whatever the merges make of it.
    """

    name: str
    patterns: tuple[str, ...]
    whole_words: bool = False


# Of names for one behaviour the one that llama.cpp's converter gives the small models of that kind comes first.
CUTS = (
    Cuts("smollm", (r"\p{N}", _GPT2)),
    Cuts("gpt-2", (_GPT2,)),
    Cuts("qwen2", (_QWEN2,)),
    Cuts("qwen35", (_QWEN35,)),
    Cuts("llama-bpe", (_LLAMA3,), whole_words=True),
    Cuts("smaug-bpe", (_LLAMA3,)),
    Cuts("tekken", (_TEKKEN,), whole_words=True),
    Cuts("gpt-4o", (_GPT4O,)),
    Cuts("falcon", _FALCON),
)

# Where the ways differ: digits alone and in rows, blanks before and after, line ends, apostrophes in both cases,
# letters with marks, scripts without blanks, runs of signs.
HARD_TEXTS = (
    "Hello, world!  It's 12 + 345 = 357, isn't IT'S?\n",
    "\t\tdef f(x):\n        return x ** 2  # two\n\n\n",
    "1234567890 3.14159 1,000,000 0x1F \u0661\u0662\u0663 \u00bd\u00b2 \u2163",
    " leading and trailing  ",
    "I'LL we've THEY'RE y'all 'tis rock'n'roll don\u2019t",
    "\u00dcber na\u00efve fa\u00e7ade \u0141\u00f3d\u017a \u03b1\u03b2\u03b3 \u0416\u0437\u043d\u044c\u0451",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3002\u4e2d\u6587\uff0c\ud55c\uad6d\uc5b4 \u0e44\u0e17\u0e22",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2615\ufe0f $5.00 \u20ac9 100% a&b @me #tag",
    "a\r\nb\rc\n \n  \n\t\n x\u00a0y\u2003z",
    "snake_case camelCase HTTPServer XMLHttpRequest2 v1.2.3-rc4",
    "====---->>>> <<< ... ?!?! ((())) [[]] {{}} \\\\ // ``` ~~~",
    "{\"key\": [1, 22, 333], 'x': null}",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u092d\u093e\u0937\u093e \u0627\u0644\u0639\u0631\u0628\u064a\u0629 "
    "\u05e2\u05d1\u05e8\u05d9\u05ea",
    "e\u0301 n\u0303 caf\u00e9 \ufb01ne \u212b",
)


def known_cuts(backend: Backend) -> list[Cuts]:
    """The ways of llama.cpp by which a byte-level tokenizer cuts HARD_TEXTS as it does itself, the best name first.

    Where one of them takes whole words and the tokenizer doesn't, or the other way round, it counts only if that makes
    no difference to any piece.
    """
    own = [backend.pre_tokenizer.pre_tokenize_str(text) for text in HARD_TEXTS]
    found = [cuts for cuts in CUTS if [_splitter(cuts).pre_tokenize_str(text) for text in HARD_TEXTS] == own]
    takes_whole = bool(getattr(backend.model, "ignore_merges", False))
    if all(cuts.whole_words == takes_whole for cuts in found) or _merges_reach_all(backend):
        return found
    return [cuts for cuts in found if cuts.whole_words == takes_whole]


def with_cuts(backend: Backend, cuts: Cuts) -> Backend:
    """A copy of a byte-level tokenizer that cuts as llama.cpp does by this name: no text is normalised first."""
    import copy

    made = copy.deepcopy(backend)
    made.normalizer = None
    made.pre_tokenizer = _splitter(cuts)
    made.model.ignore_merges = cuts.whole_words
    return made


def _splitter(cuts: Cuts) -> Backend:
    from tokenizers import Regex, pre_tokenizers

    steps = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in cuts.patterns]
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _merges_reach_all(backend: Backend) -> bool:
    """Whether merges alone make each piece of a vocabulary of itself."""
    import copy

    model = copy.deepcopy(backend).model
    model.ignore_merges = False
    added = set(backend.get_added_tokens_decoder())
    pieces = backend.get_vocab(with_added_tokens=False)
    return all(len(model.tokenize(piece)) == 1 for piece, number in pieces.items() if number not in added)
