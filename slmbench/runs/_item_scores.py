"""Item scores as columns: what a run's samples come to, beside them in a file that is read in a moment."""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import frozen

from slmbench.errors import FileError, Problem
from slmbench.foreign import faults, read_bytes
from slmbench.paths import shown
from slmbench.runs._record import MetricPart
from slmbench.runs._versions import ITEM_SCORES, RECORD
from slmbench.values import JsonObject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Scores: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
    Sharing: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]

MEAN_TOLERANCE = 1e-9
"""How far a mean may be from the same mean made another way: by rounding alone."""
ALONE = -1
"""The cluster of an item that is on its own."""
# A few bytes of a column file may claim any number of equal values.
_MOST_ITEMS = 10_000_000
_MOST_BYTES = 4_000_000_000
_ITEM, _CLUSTER, _SAMPLES = "item", "cluster", b"n_samples"


@frozen(eq=False)
class ItemScores:
    """The scores of a run's items, in the order of the run.

    items: (n,) uint64, the first 8 bytes of the sha256 of each item's id. scores: value name -> (n,) float32, or
    float64 if that loses digits: the mean over the item's epochs, of a pooled metric its jackknife pseudo-value; NaN
    if the item has none. clusters: (n,) int64, equal for items of one cluster, `ALONE` for an item on its own; None if
    every item is. n_samples: lines of samples.jsonl that all of it is made of.
    Runs of one comparability key have the same items in the same order.
    """

    items: NDArray[np.uint64]
    scores: Mapping[str, Scores]
    clusters: NDArray[np.int64] | None = None
    n_samples: int = 0

    def __len__(self) -> int:
        return len(self.items)

    def taken(self, positions: NDArray[np.intp]) -> ItemScores:
        """The items at some positions, in their order."""
        clusters = None if self.clusters is None else self.clusters[positions]
        scores = {key: one[positions] for key, one in self.scores.items()}
        return ItemScores(self.items[positions], scores, clusters, self.n_samples)


def item_hash(item_id: str) -> int:
    """The first 8 bytes of the sha256 of an item's id."""
    return int.from_bytes(hashlib.sha256(item_id.encode(errors="surrogatepass")).digest()[:8], "big")


def cluster_hash(label: str | None) -> int:
    """63 bits of the sha256 of a cluster's label; `ALONE` for None."""
    return ALONE if label is None else item_hash(label) >> 1


def _own(one: NDArray[Any]) -> NDArray[Any]:
    return one


def aligned(a: ItemScores, b: ItemScores) -> tuple[ItemScores, ItemScores]:
    """Both cut down to the items that they share, in the order of a. As they are if both have the same items."""
    import numpy as np

    if a.items is b.items or np.array_equal(a.items, b.items):
        return a, b
    _, of_a, of_b = np.intersect1d(a.items, b.items, assume_unique=True, return_indices=True)
    order = np.argsort(of_a)
    return a.taken(of_a[order]), b.taken(of_b[order])


def differing_score(one: ItemScores, other: ItemScores, tolerance: float) -> tuple[int, str] | None:
    """(place, value name) of the first score of one that the other, which has the same items, has otherwise."""
    import numpy as np

    for name, column in one.scores.items():
        close = np.isclose(other.scores[name], column, rtol=tolerance, atol=tolerance, equal_nan=True)
        if (odd := np.flatnonzero(~close)).size:
            return int(odd[0]), name
    return None


def make_item_scores(
    names: Iterable[str],
    scores: Mapping[str, Mapping[str, float]],
    clusters: Mapping[str, str | None],
    shared: Sharing = _own,
    n_samples: int = 0,
) -> ItemScores:
    """From dicts by item id. names: the values, in order. clusters: of every item, in the order of the run.

    shared: makes one array of equal ones.
    """
    import numpy as np

    labels = np.fromiter(map(cluster_hash, clusters.values()), np.int64, len(clusters))
    columns = {}
    for name in names:
        of = scores.get(name, {})
        columns[name] = _compact(np.fromiter((of.get(item, math.nan) for item in clusters), np.float64, len(clusters)))
    items = np.fromiter(map(item_hash, clusters), np.uint64, len(clusters))
    return ItemScores(shared(items), columns, shared(labels) if (labels != ALONE).any() else None, n_samples)


def _compact(column: NDArray[np.float64]) -> Scores:
    """As float32 if that is the same numbers."""
    import numpy as np

    with np.errstate(over="ignore"):
        small = column.astype(np.float32)
    return small if np.array_equal(small.astype(np.float64), column, equal_nan=True) else column


def metric_faults(metric: MetricPart, column: Scores) -> list[str]:
    """What a record says of a metric and its items' scores don't: n, the range of scores, the value that is their mean.

    Of a pooled metric, whose scores are pseudo-values, n alone.
    """
    import numpy as np

    values = column[~np.isnan(column)].astype(np.float64)
    scored, missing = len(values), len(column) - len(values)
    found = []
    # n counts items; with several epochs a runner may as well count samples.
    if metric.n != scored and (not scored or metric.n % scored):
        found.append(f"metric {metric.name!r} says n = {metric.n}, {ITEM_SCORES} has {scored} scores")
    elif missing > (n_error := metric.n_error or 0):
        found.append(f"metric {metric.name!r}: {missing} items have no score, but n_error is {n_error}")
    if metric.pooled:
        return found
    low, high = metric.bounds or (-math.inf, math.inf)
    if scored and not (low <= values.min() and values.max() <= high):
        outside = values.min() if values.min() < low else values.max()
        found.append(f"score {metric.name!r} is {float(outside)!r}, outside the metric's range {[low, high]}")
    mean = float(values.mean()) if scored else math.nan
    if not abs(mean - metric.value) <= MEAN_TOLERANCE * max(1.0, abs(mean)):
        found.append(f"metric {metric.name!r} says {metric.value!r}, the mean of its items' scores is {mean!r}")
    return found


def interval_faults(record: JsonObject, path: str | os.PathLike[str]) -> list[Problem]:
    """Metrics whose value is not within their own interval. path: of the record."""
    odd = [
        (f"metrics.{position}.ci_lo", metric["ci_lo"], "one end of an interval around the value")
        for position, metric in enumerate(record["metrics"])
        if not metric["ci_lo"] - MEAN_TOLERANCE <= metric["value"] <= metric["ci_hi"] + MEAN_TOLERANCE
    ]
    return faults(path, odd).problems


def item_scores_bytes(made: ItemScores) -> bytes:
    """The file's content: Parquet, a column of items, one of clusters, then one a value in the record's order."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    clusters = np.full(len(made), ALONE, np.int64) if made.clusters is None else made.clusters
    # A name may hold half a character, which UTF-8 can't; columns are read by their place.
    names = [_ITEM, _CLUSTER, *(name.encode(errors="backslashreplace").decode() for name in made.scores)]
    columns = [pa.array(one) for one in (made.items, clusters, *made.scores.values())]
    table = pa.Table.from_arrays(columns, names, metadata={_SAMPLES: str(made.n_samples)})
    out = io.BytesIO()
    # Hashes repeat in no file; of scores most have two values.
    parquet.write_table(table, out, compression="zstd", use_dictionary=[*names[1:]], write_statistics=False)
    return out.getvalue()


def read_item_scores(
    folder: str | os.PathLike[str],
    record: JsonObject,
    shared: Sharing = _own,
) -> ItemScores | None:
    """A finished run's item scores, held to what its record says of them; None without such a file.

    record: as `read_record` gives it. shared: makes one array of equal ones, for runs that have the same items.
    Raises FileError with every fault: it was changed, or the record's metrics are not its columns' means.
    """
    claimed = record.get("item_scores_sha256")
    if claimed is None:
        return None
    path = os.path.join(folder, ITEM_SCORES)
    try:
        data = read_bytes(path, _MOST_BYTES)
    except FileNotFoundError:  # The samples are all there is to know.
        return None
    if (found := hashlib.sha256(data).hexdigest()) != claimed:
        said = f"sha256 is {found[:16]}..., {RECORD} says {str(claimed)[:16]}...: changed after the run ended"
        raise FileError([Problem(shown(path), 0, 0, said)])
    metrics = [MetricPart.model_validate(metric, extra="ignore") for metric in record["metrics"]]
    try:
        made = _decoded(data, [metric.name for metric in metrics], shared)
    except ValueError as error:
        raise FileError([Problem(shown(path), 0, 0, f"is not the item scores of a run: {error}")]) from error
    of_record = shown(os.path.join(folder, RECORD))
    problems = [Problem(of_record, 0, 0, s) for one in metrics for s in metric_faults(one, made.scores[one.name])]
    if problems := problems + interval_faults(record, of_record):
        raise FileError(problems)
    return made


def _decoded(data: bytes, names: Sequence[str], shared: Sharing) -> ItemScores:
    """Raises ValueError."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    kinds = [(pa.uint64(),), (pa.int64(),), *[(pa.float32(), pa.float64())] * len(names)]
    try:
        file = parquet.ParquetFile(pa.BufferReader(data))
        types = file.schema_arrow.types
        if len(types) != len(kinds) or not all(one in kind for one, kind in zip(types, kinds, strict=True)):
            raise ValueError(f"its columns are {', '.join(map(str, types))}, for {len(names)} metrics")
        if file.metadata.num_rows > _MOST_ITEMS:
            raise ValueError(f"it says that it has {file.metadata.num_rows:,} items")
        table = file.read(use_threads=False)
        if any(column.null_count for column in table.columns):
            raise ValueError("a value is null")
        # Not by to_numpy, which imports pandas.
        columns = [np.from_dlpack(column.combine_chunks()) for column in table.columns]
        n_samples = int((table.schema.metadata or {}).get(_SAMPLES, b"0"))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from error
    items, clusters, *scores = columns
    if any(np.isinf(column).any() for column in scores):
        raise ValueError("a score is infinite")
    grouped = None if (clusters == ALONE).all() else shared(clusters)
    return ItemScores(shared(items), dict(zip(names, scores, strict=True)), grouped, n_samples)
