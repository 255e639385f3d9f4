"""HellaSwag's WikiHow part carries marks such as [header] and [title]; lm-eval takes them off, and so does this."""

import re


def _clean(text):
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def example(row):
    context = f"{row['ctx_a']} {row['ctx_b'].capitalize()}"
    return {
        "query": _clean(f"{row['activity_label']}: {context}"),
        "options": [_clean(ending) for ending in row["endings"]],
    }
