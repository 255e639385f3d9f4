"""Ways to merge the tensors of one name, a file each: a function that `slmbench.registry.merge_method` marks."""
