"""What commands do, as functions over plain data; `slmbench.evaluate` is one of them. Modules are imported by name."""
