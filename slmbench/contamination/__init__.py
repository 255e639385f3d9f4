"""Who has seen what: texts of one split that another has too."""

from slmbench.contamination.ngrams import normalised
from slmbench.contamination.overlaps import Report, RowText, apply, contamination_of, find_contamination, text_of

__all__ = ["Report", "RowText", "apply", "contamination_of", "find_contamination", "normalised", "text_of"]
