"""Several models or adapters of one base into one: methods, a file each, and what reads and writes their weights."""
