"""Dolly's passages are from Wikipedia, with the numbers of its footnotes; its authors advise to take them off."""

import re


def example(row):
    return {"context": re.sub(r"\[\d+\]", "", row["context"]).strip()}
