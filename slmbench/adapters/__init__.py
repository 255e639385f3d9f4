"""Several adapters on one base: in memory with one of them active at a time, or named with each request."""

from slmbench.adapters._bank import AdapterBank
from slmbench.adapters._by_request import AdaptersByRequest

__all__ = ["AdapterBank", "AdaptersByRequest"]
