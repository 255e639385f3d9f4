"""One base in memory with several adapters, one of them on it at a time; each is exchanged for another in milliseconds.

An adapter is attached once, by the same code as where there is one alone, and what it changed of the base is noted:
which module is in which place, which tensors are frozen or longer, what the configs say. A swap puts one such note in
the place of another. No adapter knows of the others, so that kinds, ranks, targets and names need not go together, and
each computes what it computes alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from attrs import define

from slmbench.errors import UsageError, did_you_mean
from slmbench.models import AdapterInfo, Attached, LoadedModel, attach, check_base, read_adapter
from slmbench.paths import shown


@define
class _Entry:
    """An adapter of a bank. attached: None if it is not in memory. used: when it was on last, by the bank's count.

    notices, own_tokenizer: what was found when it was added.
    """

    info: AdapterInfo
    force_base: bool
    notices: tuple[str, ...] = ()
    own_tokenizer: bool = False
    attached: Attached | None = None
    used: int = 0


class AdapterBank:
    """A loaded model with any number of adapters of any kind and rank, none or one of them on it.

    max_bytes: of the tensors of adapters that are held in memory; None for no bound. Above it the one that was used
    longest ago leaves, and is read again from its folder when it is asked for; the one that is on stays whatever its
    size. What an adapter computes is what it computes in a model of its own, bit for bit. While the bank is open, the
    base is the bank's: nothing else is put on it. After `close`, or the end of a `with` block, it is as it was before,
    bit for bit. Not for several threads at once. Raises UsageError for a bound below 0.
    """

    def __init__(self, loaded: LoadedModel, max_bytes: int | None = None) -> None:
        if max_bytes is not None and max_bytes < 0:
            raise UsageError(f"max_bytes is {max_bytes}; give a number from 0 on, or None for no bound")
        self.base = loaded
        self.max_bytes = max_bytes
        self._entries: dict[str, _Entry] = {}
        self._active: str | None = None
        self._count = 0
        self._bare = loaded.adapter is None and not hasattr(loaded.model, "peft_config")

    @property
    def names(self) -> list[str]:
        """Of the adapters, in the order in which they were added."""
        return list(self._entries)

    @property
    def active(self) -> str | None:
        """The name of the adapter that is on the base; None for the base alone."""
        return self._active

    @property
    def loaded(self) -> LoadedModel:
        """The model as it is now: with the active adapter, its info and its tokenizer."""
        attached = None if self._active is None else self._entries[self._active].attached
        return self.base if attached is None else attached.loaded

    @property
    def bytes(self) -> int:
        """Of the tensors of all adapters that are in memory now."""
        return sum(entry.attached.own_bytes for entry in self._entries.values() if entry.attached)

    @property
    def in_memory(self) -> list[str]:
        """The names of the adapters that are in memory now."""
        return [name for name, entry in self._entries.items() if entry.attached]

    def info(self, name: str) -> AdapterInfo:
        """What an adapter's folder says of itself. Raises UsageError for an unknown name."""
        return self._entry(name).info

    def notices(self, name: str) -> tuple[str, ...]:
        """What a person should know of an adapter on this base, beside what is known of the base."""
        return self._entry(name).notices

    def has_own_tokenizer(self, name: str) -> bool:
        """Whether an adapter's prompts are made with another tokenizer than the base's."""
        return self._entry(name).own_tokenizer

    def add(self, name: str, folder: str, *, force_base: bool = False) -> AdapterInfo:
        """Puts an adapter in the bank under a name; what is on the base stays on it.

        It is put on once, so that whatever is odd about it is told now. force_base: it may be of another base, and
        its runs say so. Raises UsageError for a name that is taken, for an adapter of another base, for one that
        doesn't fit and for a base that isn't bare, FileError for one whose files are damaged; the bank is then as it
        was.
        """
        if not self._bare:
            who = f"adapter {self.base.adapter.name!r}" if self.base.adapter else "an adapter"
            raise UsageError(
                f"{self.base.source.name!r} has {who} on it already; give the base alone, and add that adapter by its "
                "folder"
            )
        if not name:
            raise UsageError(f"adapter {shown(folder)}: its name in the bank is empty; give it one")
        if name in self._entries:
            there = shown(self._entries[name].info.folder)
            raise UsageError(
                f"two adapters of one name: {name!r} is {there} already, and now {shown(folder)}; give one of them "
                "another name"
            )
        entry = _Entry(check_base(self.base, folder, force=force_base), force_base)
        before = self._active
        try:
            self._entries[name] = entry
            tuned = self.swap(name)
            entry.notices = tuned.notices[len(self.base.notices) :]
            entry.own_tokenizer = tuned.tokenizer is not self.base.tokenizer
        except BaseException:
            del self._entries[name]
            self.swap(before)
            raise
        self.swap(before)
        return entry.info

    def remove(self, name: str) -> None:
        """Takes an adapter out of the bank; if it is on the base, the base is left alone. Raises UsageError."""
        self._entry(name)
        if self._active == name:
            self.swap(None)
        del self._entries[name]

    def swap(self, name: str | None) -> LoadedModel:
        """The model with another adapter on it, or the base alone.

        Raises UsageError for an unknown name, and where an adapter has to be read again and its folder holds another
        one by now, FileError where it is damaged; then what was on is on.
        """
        entry = None if name is None else self._entry(name)
        if entry is not None and entry.attached is None and read_adapter(entry.info.folder).sha256 != entry.info.sha256:
            raise UsageError(
                f"adapter {name!r}: {shown(entry.info.folder)} holds another adapter than when it was added; remove "
                "it from the bank and add it again"
            )
        if name == self._active:
            return self.loaded
        before = None if self._active is None else self._entries[self._active]
        was = self._active
        try:
            self._take_off()
            if entry is not None:
                self._put_on(entry)
            self._active = name
        except BaseException:  # Ctrl-C too, in the middle of an exchange.
            for half_done in (entry, before):
                if half_done is not None and half_done.attached is not None:
                    half_done.attached.off()
            if before is not None:
                self._put_on(before)
            self._active = was
            raise
        if entry is not None:
            self._count += 1
            entry.used = self._count
            self._bound()
        return self.loaded

    @contextlib.contextmanager
    def using(self, name: str | None) -> Iterator[LoadedModel]:
        """The model with an adapter on it for the length of the block, or the base alone; then as it was before."""
        before = self._active
        try:
            yield self.swap(name)
        finally:
            if before is None or before in self._entries:
                self.swap(before)

    def close(self) -> None:
        """Leaves the base as it was before the bank, bit for bit, and lets go of all adapters."""
        self._take_off()
        self._entries.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            raise UsageError(
                f"the bank has no adapter {name!r}{did_you_mean(name, self.names)}"
                + (f"; it has {', '.join(map(repr, self.names))}" if self.names else "; it is empty")
            )
        return self._entries[name]

    def _put_on(self, entry: _Entry) -> None:
        """On the bare base."""
        if entry.attached is None or entry.attached.on is None:
            entry.attached = attach(self.base, entry.info.folder, force_base=entry.force_base)
        else:
            entry.attached.on()

    def _take_off(self) -> None:
        if self._active is None:
            return
        entry = self._entries[self._active]
        assert entry.attached is not None
        entry.attached.off()
        if entry.attached.on is None:  # It stands in the base's own numbers, and can't be held beside them.
            entry.attached = None
        self._active = None

    def _bound(self) -> None:
        """Lets go of those that were used longest ago until the others fit."""
        if self.max_bytes is None:
            return
        oldest = sorted(self._entries.items(), key=lambda pair: pair[1].used)
        for name, entry in oldest:
            if self.bytes <= self.max_bytes:
                return
            if name != self._active:
                entry.attached = None
