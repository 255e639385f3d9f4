"""Forum messages and their answers, from the hub's columns or from those of LasseRegin/medical-question-answer-data."""

import re

# Nearly all answers end in an advertisement: "for further information consult a dermatologist online --> <link>". A
# model would learn to write it, and as it is in every answer, writing it would score. The sentence before it sometimes
# lacks its full stop, and is kept; where the advertisement has other words, its whole sentence goes.
_END = r"[^.?!]*\bonline\b[^.?!]*\.?\s*-+>\s*\S*(?:\s*take care\.?)?\s*$"
_ADVERTISEMENTS = [
    re.compile(r"(?:regarding follow[- ]?up\s*:?\s*)?\bfor (?:any )?(?:further|more)\b" + _END, re.IGNORECASE),
    re.compile(r"(?:(?<=[.?!])|^)" + _END, re.IGNORECASE),
]


def example(row):
    if "answer_icliniq" in row:
        message, reply = row["input"], row["answer_icliniq"]
    elif "question_text" in row:
        message, reply = row["question_text"], row["answer"]
    else:
        raise ValueError(f"expected the columns input and answer_icliniq, or question_text and answer, got {list(row)}")
    # The scrape has tabs, line breaks and hard blanks around and inside the messages.
    message, reply = " ".join(message.split()), " ".join(reply.split())
    left = reply
    for advertisement in _ADVERTISEMENTS:
        left = advertisement.sub("", left).strip()
    # An answer that is nothing else stays as it is, so that no row is dropped.
    return {"message": message, "reply": left or reply}
