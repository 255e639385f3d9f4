"""A note with four numbers and a question about one of them. The numbers and the question decide the split."""

from slmbench.nano.splits import row_of
from slmbench.nano.words import COMPLAINTS, DRUGS

_QUESTIONS = {
    "age": "How old is the patient?",
    "pulse": "How fast is the pulse?",
    "days": "For how many days has it lasted?",
    "weeks": "In how many weeks is the review?",
}


def generate(split, index, seed):
    def draw(rng):
        days, weeks = rng.sample(range(2, 15), 2)
        age, pulse = rng.sample(range(18, 110), 2)
        numbers = {"age": str(age), "pulse": str(pulse), "days": str(days), "weeks": str(weeks)}
        numbers = {key: f"{number}." for key, number in numbers.items()}
        sentences = [
            f"The patient is a {age}-year-old {rng.choice(('man', 'woman'))}.",
            f"Reports {rng.choice(COMPLAINTS)} for {days} days.",
            f"Pulse {pulse}.",
            f"Started on {rng.choice(DRUGS)}.",
            f"Review in {weeks} weeks.",
        ]
        rng.shuffle(sentences)
        asked = rng.choice(list(_QUESTIONS))
        choices = rng.sample(list(numbers.values()), 4)
        row = {
            "note": " ".join(sentences),
            "question": _QUESTIONS[asked],
            "choices": choices,
            "label": choices.index(numbers[asked]),
        }
        return (tuple(numbers.values()), asked), row

    return row_of("nano_choice", split, index, seed, draw)
