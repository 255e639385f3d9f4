"""The embedded model: the text that it is trained on, its splits and its training, all made by code."""
