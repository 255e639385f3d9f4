"""Four people, four findings, one question. Who has what decides the split."""

from slmbench.nano.splits import row_of
from slmbench.nano.words import COMPLAINTS, NAMES


def generate(split, index, seed):
    def draw(rng):
        people, findings = rng.sample(NAMES, 4), rng.sample(COMPLAINTS, 4)
        asked = rng.randrange(4)
        choices = rng.sample(people, 4)
        row = {
            "facts": "Ward round: " + ", ".join(f"{f} with {p}" for p, f in zip(people, findings, strict=True)) + ".",
            "question": f"Which patient has {findings[asked]}?",
            "choices": choices,
            "label": choices.index(people[asked]),
        }
        return (tuple(sorted(zip(people, findings, strict=True))), findings[asked]), row

    return row_of("nano_choice", split, index, seed, draw)
