"""Several adapters on one base in memory, one of them active at a time."""
