"""Who made what: a declaration's `source:` and a metric's `citation=`, read as references and written as BibTeX.

A text is `AUTHORS YEAR[, TITLE][, arXiv:N | doi:D | https://...][, PLACE]`, several with `; ` between them. What
doesn't read so is kept whole, as a note. Nothing is looked up, so authors are those that the text names.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

from attrs import evolve, field, frozen

_AUTHORED = re.compile(r"(?P<authors>[^;\d/]+?),? (?P<year>(?:19|20)\d\d)(?:,\s*(?P<rest>.+))?", re.DOTALL)
_IDENTIFIER = re.compile(r"arXiv:(?P<arxiv>\d{4}\.\d{4,5})|doi:(?P<doi>10\.\S+)|(?P<url>(?:https?://|github\.com/)\S+)")
_SIGNS = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
_RAW = ("doi", "eprint", "archiveprefix", "url")
"""Fields that BibTeX styles print as they are, or make an address of."""
_PARTICLES = {"al", "da", "de", "den", "der", "di", "el", "la", "le", "van", "von"}
# Measuring: two works of one year and author begin so.
_SMALL = {"a", "an", "are", "can", "do", "does", "is", "measuring", "of", "on", "the", "to"}

TITLES = {
    "arXiv:1510.03055": "A Diversity-Promoting Objective Function for Neural Conversation Models",
    "arXiv:1606.05250": "SQuAD: 100,000+ Questions for Machine Comprehension of Text",
    "arXiv:1704.04368": "Get To The Point: Summarization with Pointer-Generator Networks",
    "arXiv:1803.05457": "Think you have Solved Question Answering? Try ARC, the AI2 Reasoning Challenge",
    "arXiv:1804.05685": "A Discourse-Aware Attention Model for Abstractive Summarization of Long Documents",
    "arXiv:1808.08745": "Don't Give Me the Details, Just the Summary! Topic-Aware Convolutional Neural Networks for "
    "Extreme Summarization",
    "arXiv:1809.02789": "Can a Suit of Armor Conduct Electricity? A New Dataset for Open Book Question Answering",
    "arXiv:1811.00937": "CommonsenseQA: A Question Answering Challenge Targeting Commonsense Knowledge",
    "arXiv:1905.07830": "HellaSwag: Can a Machine Really Finish Your Sentence?",
    "arXiv:1905.10044": "BoolQ: Exploring the Surprising Difficulty of Natural Yes/No Questions",
    "arXiv:1906.00300": "Latent Retrieval for Weakly Supervised Open Domain Question Answering",
    "arXiv:1907.10641": "WinoGrande: An Adversarial Winograd Schema Challenge at Scale",
    "arXiv:1908.04319": "Neural Text Generation With Unlikelihood Training",
    "arXiv:1908.05852": "Reasoning Over Paragraph Effects in Situations",
    "arXiv:1909.00277": "Cosmos QA: Machine Reading Comprehension with Contextual Commonsense Reasoning",
    "arXiv:1909.06146": "PubMedQA: A Dataset for Biomedical Research Question Answering",
    "arXiv:1910.00523": "BillSum: A Corpus for Automatic Summarization of US Legislation",
    "arXiv:1911.11641": "PIQA: Reasoning about Physical Commonsense in Natural Language",
    "arXiv:2009.03300": "Measuring Massive Multitask Language Understanding",
    "arXiv:2101.00027": "The Pile: An 800GB Dataset of Diverse Text for Language Modeling",
    "arXiv:2103.03874": "Measuring Mathematical Problem Solving With the MATH Dataset",
    "arXiv:2106.09685": "LoRA: Low-Rank Adaptation of Large Language Models",
    "arXiv:2107.03374": "Evaluating Large Language Models Trained on Code",
    "arXiv:2108.07732": "Program Synthesis with Large Language Models",
    "arXiv:2110.14168": "Training Verifiers to Solve Math Word Problems",
    "arXiv:2111.09832": "Merging Models with Fisher-Weighted Averaging",
    "arXiv:2203.05482": "Model soups: averaging weights of multiple fine-tuned models improves accuracy without "
    "increasing inference time",
    "arXiv:2205.11916": "Large Language Models are Zero-Shot Reasoners",
    "arXiv:2210.11416": "Scaling Instruction-Finetuned Language Models",
    "arXiv:2212.04089": "Editing Models with Task Arithmetic",
    "arXiv:2303.14070": "ChatDoctor: A Medical Chat Model Fine-Tuned on a Large Language Model Meta-AI (LLaMA) Using "
    "Medical Domain Knowledge",
    "arXiv:2305.14314": "QLoRA: Efficient Finetuning of Quantized LLMs",
    "arXiv:2306.01708": "TIES-Merging: Resolving Interference When Merging Models",
    "arXiv:2306.02022": "ACI-BENCH: a Novel Ambient Clinical Intelligence Dataset for Benchmarking Automatic Visit "
    "Note Generation",
    "arXiv:2306.07906": "WebGLM: Towards An Efficient Web-Enhanced Question Answering System with Human Preferences",
    "arXiv:2309.00237": "Publicly Shareable Clinical Large Language Model Built on Synthetic Clinical Notes",
    "arXiv:2311.03099": "Language Models are Super Mario: Absorbing Abilities from Homologous Models as a Free Lunch",
    "arXiv:2401.02385": "TinyLlama: An Open-Source Small Language Model",
    "arXiv:2404.14219": "Phi-3 Technical Report: A Highly Capable Language Model Locally on Your Phone",
    "arXiv:2502.02737": "SmolLM2: When Smol Goes Big -- Data-Centric Training of a Small Language Model",
    "doi:10.1038/sdata.2016.35": "MIMIC-III, a freely accessible critical care database",
    "doi:10.1162/tacl_a_00276": "Natural Questions: A Benchmark for Question Answering Research",
    "doi:10.1186/s12859-019-3119-4": "A question-entailment approach to question answering",
    "doi:10.18653/v1/2021.acl-srw.30": "SumPubMed: Summarization Dataset of PubMed Scientific Articles",
    "doi:10.18653/v1/2023.eacl-main.168": "An Empirical Study of Clinical Note Generation from Doctor-Patient "
    "Encounters",
}
"""Of papers that declarations name by their number alone: the text of a declaration is in its digest, and stays."""


@frozen
class Reference:
    """One entry. fields: by their BibTeX names, as plain text, authors with ` and ` between them. about: what cites it.

    key: unique once `gathered` has been through it.
    """

    key: str
    fields: Mapping[str, str] = field(factory=dict)
    about: tuple[str, ...] = ()

    @property
    def bibtex(self) -> str:
        """The entry, with what it is cited for as a comment before it."""
        width = max(map(len, self.fields), default=0)
        lines = [f"  {name:<{width}} = {{{_written(name, text)}}}," for name, text in self.fields.items()]
        said = re.sub(r"[@{}\\]", " ", ", ".join(self.about))  # A comment ends where BibTeX sees an @.
        return "\n".join([*([f"% {said}"] if said else []), f"@misc{{{self.key},", *lines, "}"])


def references(text: str, about: str, name: str) -> list[Reference]:
    """What a source or citation names. about: what it is said of, as `task gsm8k`; name: for what has no author."""
    found, rest = [], []
    for part in (" ".join(one.split()) for one in text.split(";")):
        authored = _AUTHORED.fullmatch(part)
        names = _names(authored["authors"]) if authored is not None else []
        if authored is not None and names:
            found.append(_reference(names, authored, about))
        elif part:
            rest.append(part)
    if rest:
        said = "; ".join(rest)
        found.append(Reference(_slug(about.replace(" ", "-"), keep="-_."), {"title": name, "note": said}, (about,)))
    return found


def _names(authors: str) -> list[str]:
    """`Doe, van Poe & Roe et al.` one by one; [] for words that are no names, as in `made by hand in 2024`."""
    names = re.split(r",? and |, | & ", re.sub(r"[\s,]*\bet al\.?$", "", authors))
    words = [name.split() or [""] for name in names]
    named = all(word[:1].isupper() or word in _PARTICLES for name in words for word in name)
    return [*names, *(["others"] if "et al" in authors else [])] if named and max(map(len, words)) <= 4 else []


def _reference(names: list[str], authored: re.Match[str], about: str) -> Reference:
    year, rest = authored["year"], authored["rest"] or ""
    found = _IDENTIFIER.search(rest)
    title, place = (rest[: found.start()], rest[found.end() :]) if found else (rest, "")
    title = title.strip(" ,.") if found else title
    fields = {"author": " and ".join(names)}
    if found is not None:
        title = TITLES.get(found[0], title) or (found["url"] or "")
    if title:
        fields["title"] = title
    fields["year"] = year
    if found is not None and found["arxiv"]:
        fields |= {"eprint": found["arxiv"], "archiveprefix": "arXiv"}
    elif found is not None and found["doi"]:
        fields["doi"] = found["doi"]
    elif found is not None:
        fields["url"] = found["url"] if "://" in found["url"] else f"https://{found['url']}"
    first = next((word for word in re.findall(r"[^\W_]+", title.lower()) if word not in _SMALL), "")
    place = place.strip(" ,.")
    return Reference(_slug(names[0]) + year + _slug(first), fields, (f"{about} ({place})" if place else about,))


def gathered(found: Iterable[Reference]) -> list[Reference]:
    """Each reference once, in the order of their first place, with all that it is cited for; keys are unique."""
    merged: dict[object, Reference] = {}
    # `Yadav et al. 2023` alone is whatever else of them and that year is cited, where something is.
    for one in sorted(found, key=lambda one: one.fields.keys() == {"author", "year"}):
        same: object = one.fields.get("eprint") or one.fields.get("doi") or tuple(sorted(one.fields.items()))
        if one.fields.keys() == {"author", "year"}:
            fuller = (key for key, other in merged.items() if one.fields.items() <= other.fields.items())
            same = next(fuller, same)
        before = merged.get(same)
        merged[same] = (
            one if before is None else evolve(before, about=tuple(dict.fromkeys((*before.about, *one.about))))
        )
    taken: set[str] = set()
    keyed = []
    for one in merged.values():
        key, number = one.key, 1
        while key in taken:
            number += 1
            key = f"{one.key}-{number}"
        taken.add(key)
        keyed.append(evolve(one, key=key))
    return keyed


def _written(name: str, text: str) -> str:
    text = " ".join(text.split())
    if name in _RAW:
        return re.sub(r"[{}\\]", "", text)
    escaped = "".join(_SIGNS.get(sign, sign) for sign in text)
    if name == "author":  # A name of several words would be taken apart.
        escaped = " and ".join(f"{{{one}}}" if " " in one else one for one in escaped.split(" and "))
    return f"{{{escaped}}}" if name == "title" else escaped  # Or a style writes it in small letters.


def _slug(text: str, keep: str = "") -> str:
    """text as a key can have it: letters and digits of ASCII."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(rf"[^A-Za-z0-9{re.escape(keep)}]", "", plain).lower()
