"""Forum questions and answers as they come, in any of three shapes of columns; icliniq's own plugin cleans them."""

_SHAPES = (("Question", "Answer"), ("input", "answer_icliniq"), ("question_text", "answer"))


def example(row):
    for asked, answered in _SHAPES:
        if asked in row and answered in row:
            return {"message": row[asked].strip(), "reply": row[answered].strip()}
    shapes = ", or ".join(" and ".join(shape) for shape in _SHAPES)
    raise ValueError(f"expected the columns {shapes}, got {list(row)}")
