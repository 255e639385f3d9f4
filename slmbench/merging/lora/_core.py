"""The core of low-rank changes: what is left of them in the small spaces that their factors span.

With B (m, R) and A (R, n), thin QR gives B = Qb Rb and A^T = Qa Ra, so that B A = Qb M Qa^T with the core M = Rb Ra^T
of at most (R, R). Its singular values are those of B A, and no (m, n) matrix is made. Source: Panariello et al. 2025,
Core Space, arXiv:2509.17786; Golub and Van Loan, Matrix Computations, section 5.4.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from attrs import frozen

from slmbench.merging.lora._factors import Factors

if TYPE_CHECKING:
    from torch import Tensor

Rank = int | Literal["full"]
_BATCH_NUMBERS = 2_000_000  # Of float64 that are worked on at once.


@frozen
class Truncation:
    """What is left out of a change where its rank is cut. error: its norm over that of the whole, Frobenius.

    rank: that was kept, of `full`, which is that of the whole change.
    """

    rank: int
    full: int
    error: float


def core_of(factors: Sequence[Factors]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """(Qb (m, p), Qa (n, q), cores (p, q) of each): change i is Qb @ core_i @ Qa^T without loss, float64.

    The bases are the singular vectors of all factors side by side, as Core Space has them: another order of the
    adapters turns none of them.
    """
    import torch

    with one_thread():
        b = torch.cat([one.b for one in factors], 1).double()  # (m, R)
        a = torch.cat([one.a for one in factors]).double()  # (R, n)
        parts = [one.rank for one in factors]
        left, right = _span(b), _span(a.mT)
        cores = [
            (left.mT @ bi) @ (ai @ right) * one.scaling
            for bi, ai, one in zip(b.split(parts, 1), a.split(parts), factors, strict=True)
        ]
    return left, right, cores


def _span(columns: Tensor) -> Tensor:
    """Orthonormal columns that span the same space, by falling singular value."""
    import torch

    u, s, _ = torch.linalg.svd(columns, full_matrices=False)
    floor = s[:1] * max(columns.shape) * torch.finfo(s.dtype).eps
    return u[:, : max(1, int((s > floor).sum()))]


def truncate(changes: Mapping[str, Factors], rank: Rank) -> dict[str, tuple[Factors, Truncation]]:
    """The nearest changes of at most this rank, and what each leaves out; "full" leaves nothing out.

    Nearest by the Frobenius norm (Eckart and Young 1936). Each result has orthogonal columns and rows of falling length
    and a scaling of 1, and as many as it needs: its rank may be below the one that was asked for. Changes of one
    shape are worked on together. No change may be DoRA's.
    """
    alike: dict[tuple[int, int, int], list[str]] = {}
    for name, one in changes.items():
        alike.setdefault((*one.shape, one.rank), []).append(name)
    batches = []
    for (m, n, width), names in alike.items():
        step = max(1, _BATCH_NUMBERS // ((m + n) * width))
        batches += [names[start : start + step] for start in range(0, len(names), step)]
    done: dict[str, tuple[Factors, Truncation]] = {}
    with contextlib.ExitStack() as stack:
        threads = stack.enter_context(one_thread())
        workers = min(threads, len(batches))
        pool = stack.enter_context(ThreadPoolExecutor(workers, initializer=_alone)) if workers > 1 else None
        each = map if pool is None else pool.map
        cuts = each(lambda names: _truncated([changes[name] for name in names], rank), batches)
        for names, cut in zip(batches, cuts, strict=True):
            done |= zip(names, cut, strict=True)
    return {name: done[name] for name in changes}


@contextlib.contextmanager
def one_thread() -> Iterator[int]:
    """torch computes with one thread for the length of the block, which gets the number that it had.

    Matrices of a hundred rows are slower by two threads than by one, as these wait for each other; batches of them are
    what can be done at the same time.
    """
    import torch

    threads = torch.get_num_threads()
    if threads == 1:
        yield 1
        return
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def _alone() -> None:
    import torch

    torch.set_num_threads(1)  # Each thread of Python's has a number of its own.


def _truncated(changes: Sequence[Factors], rank: Rank) -> list[tuple[Factors, Truncation]]:
    import torch

    # In float64: the factors of the result are divided by roots of singular values, which fall fast.
    b = torch.stack([one.b for one in changes]).double()  # (k, m, R)
    a = torch.stack([one.a for one in changes]).double()  # (k, R, n)
    b *= torch.tensor([one.scaling for one in changes], dtype=b.dtype)[:, None, None]
    rb = torch.linalg.qr(b, mode="r").R  # (k, p, R)
    ra = torch.linalg.qr(a.mT, mode="r").R  # (k, q, R)
    u, s, vh = torch.linalg.svd(rb @ ra.mT, full_matrices=False)
    # Below this, rounding made them: of changes that cancel each other nothing may be left.
    size = torch.linalg.matrix_norm(rb) * torch.linalg.matrix_norm(ra)
    true = s > size[:, None] * (b.shape[-1] * torch.finfo(s.dtype).eps)
    full = true.sum(1)
    kept = full if rank == "full" else full.clamp(max=rank)
    most = int(kept.max().clamp(min=1))
    root = torch.where(true, s, 1.0)[:, :most].rsqrt()
    root = torch.where(torch.arange(most) < kept[:, None], root, 0.0)
    # Qb u = B Ra^T v / s and the same for a, so that neither Q is ever made.
    left = b @ (ra.mT @ (vh.mT[:, :, :most] * root[:, None, :]))
    right = (u.mT[:, :most] * root[:, :, None] @ rb) @ a
    energy = s.square()
    lost = torch.where(torch.arange(s.shape[1]) < kept[:, None], 0.0, torch.where(true, energy, 0.0)).sum(1)
    error = (lost / energy.sum(1).clamp(min=torch.finfo(s.dtype).tiny)).sqrt()
    found = []
    for i, one in enumerate(changes):
        r = max(1, int(kept[i]))
        factors = Factors(right[i, :r].float(), left[i, :, :r].float(), 1.0, one.kind)
        found.append((factors, Truncation(int(kept[i]), int(full[i]), float(error[i]))))
    return found


def truncate_whole(change: Tensor, rank: Rank) -> tuple[Factors, Truncation]:
    """The nearest change of at most this rank to a whole (m, n) one, by the shorter side's Gram matrix in float64."""
    import torch

    wide = change.shape[0] <= change.shape[1]
    whole = change.double() if wide else change.double().mT  # (short, long)
    energies, vectors = torch.linalg.eigh(whole @ whole.mT)
    energies, vectors = energies.flip(0).clamp(min=0), vectors.flip(1)
    # The squares carry rounding of their own size, the values therefore that of its root.
    full = int((energies > energies[:1] * whole.shape[0] * torch.finfo(energies.dtype).eps).sum())
    kept = full if rank == "full" else min(rank, full)
    r = max(1, kept)
    root = energies[:r].pow(0.25)
    short = vectors[:, :r] * root
    long = (vectors[:, :r] / torch.where(root > 0, root, 1.0)).mT @ whole
    b, a = (short, long) if wide else (long.mT, short.mT)
    total = float(energies.sum())
    error = (float(energies[kept:].sum()) / total) ** 0.5 if total and kept < full else 0.0
    return Factors(a.float().contiguous(), b.float().contiguous()), Truncation(kept, full, error)
