"""Rows of the hub, or of its client's cache on this machine."""

from __future__ import annotations

from slmbench.datasets._declared import Dataset, Row
from slmbench.datasets._nulls import without_nan
from slmbench.datasets._tables import shortened
from slmbench.errors import DataError, MissingData
from slmbench.hub import hub_is_offline, use_cache_alone


def hub_rows(dataset: Dataset, split: str) -> list[Row]:
    """The rows of one of the hub's splits; this may download. Raises DataError or MissingData."""
    spec = dataset.spec
    what = f"data set {dataset.name!r} ({spec.hub}, split {split!r})"
    try:
        import datasets
    except ImportError as error:
        raise MissingData(dataset.name, f"{what}: the `datasets` package is missing", pulled=True) from error
    offline = use_cache_alone()
    download = datasets.DownloadConfig(max_retries=1, local_files_only=offline)
    datasets.disable_progress_bars() if offline else None
    asked_offline = datasets.config.HF_HUB_OFFLINE
    # Read once, at import; set here, the cache is asked at once instead of after half a minute of retries.
    datasets.config.HF_HUB_OFFLINE = offline or asked_offline
    try:
        rows: list[Row] = []
        for config in spec.configs:
            loaded = datasets.load_dataset(
                spec.hub, config, split=split, revision=spec.revision, download_config=download
            )
            features = getattr(loaded, "features", None)
            mend = shortened(features.arrow_schema) if features is not None else lambda row: row
            rows += [mend(without_nan(dict(row))) for row in loaded]
        return rows
    except Exception as error:  # httpx, aiohttp, fsspec, pyarrow and hub errors come through; they share no base.
        said = f"{type(error).__name__}: {str(error)[:200]}"
        if isinstance(error, ValueError) and ("split" in str(error).lower() or "BuilderConfig" in str(error)):
            raise DataError(f"{what}: {error}") from error
        if hub_is_offline():
            reason = "is not in the local cache, and HF_HUB_OFFLINE is set"
        elif offline:
            reason = "is not in the local cache, and the hub can't be reached from here"
        else:
            reason = "could not be fetched from the hub"
        raise MissingData(dataset.name, f"{what} {reason}", pulled=True, said=said) from error
    finally:
        datasets.config.HF_HUB_OFFLINE = asked_offline
