"""Several adapters on one base in memory, one of them active at a time."""

from slmbench.adapters._bank import AdapterBank

__all__ = ["AdapterBank"]
