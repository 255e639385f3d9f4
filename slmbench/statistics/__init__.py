"""Numbers about numbers, on plain lists: estimates with intervals, clusters, pooled counts, paired tests, Pareto."""
