"""Clinical-style notes and their one-line summaries. A patient's facts decide the split."""

from slmbench.nano.splits import row_of
from slmbench.nano.words import COMPLAINTS, DRUGS, HISTORY, NAMES


def generate(split, index, seed):
    def draw(rng):
        age, days, weeks = rng.randint(18, 95), rng.randint(2, 14), rng.randint(2, 12)
        sex = rng.choice(("man", "woman"))
        complaint, past, drug = rng.choice(COMPLAINTS), rng.choice(HISTORY), rng.choice(DRUGS)
        sentences = [
            rng.choice((f"The patient is a {age}-year-old {sex}.", f"{rng.choice(NAMES)} is a {sex} of {age}.")),
            rng.choice((f"Reports {complaint} for {days} days.", f"There has been {complaint} for {days} days.")),
            rng.choice((f"Known {past}.", f"History of {past}.")),
            f"Pulse {rng.randint(55, 110)}.",
            rng.choice((f"Started on {drug}.", f"Was given {drug}.")),
            rng.choice((f"Review in {weeks} weeks.", f"To be seen in {weeks} weeks.")),
        ]
        rng.shuffle(sentences)
        summary = f"Aged {age}, {complaint} for {days} days, {past}, {drug}, review in {weeks} weeks."
        essence = (age, complaint, days, past, drug, weeks)
        return essence, {"note": " ".join(sentences), "summary": summary}

    return row_of("nano_note", split, index, seed, draw)
