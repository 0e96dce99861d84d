"""Pins of processes that have left the store in order and still look at objects (pure).

A driver that calls ``shutdown()`` goes on as a process, and so do its arrays. Its pins stay in the store's books under
its old name. Whoever has the same pid may release them: a later runtime of the process, or a worker that is a thread.
Numbers are those of objects; the store's books go by (number, name).
"""

from __future__ import annotations


class Leftover:
    """What one process left."""

    __slots__ = ("pid", "pins")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pins: dict[int, int] = {}
        """Number -> count."""


class Leftovers:
    """All of them, by the name the process had."""

    def __init__(self) -> None:
        self._table: dict[str, Leftover] = {}
        self._by_pid: dict[int, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, process: str) -> bool:
        return process in self._table

    @property
    def pins_count(self) -> int:
        """Pins in all."""
        return sum(sum(left.pins.values()) for left in self._table.values())

    def keep(self, process: str, pid: int, pins: dict[int, int]) -> None:
        """These stay pinned."""
        assert pins
        left = self._table.get(process)
        if left is not None and left.pid != pid:
            self._forget_pid(process, left.pid)
            left.pid = pid
        if left is None:
            left = self._table[process] = Leftover(pid)
        self._by_pid.setdefault(pid, {})[process] = None
        for number, count in pins.items():
            left.pins[number] = left.pins.get(number, 0) + count

    def release(self, process: str, pid: int, number: int) -> str | None:
        """One pin less of this number. Returns whose it was: of that process, else of another one with this pid."""
        names: list[str] = [process, *self._by_pid.get(pid, ())]
        for name in names:
            left = self._table.get(name)
            if left is not None and number in left.pins:
                left.pins[number] -= 1
                if not left.pins[number]:
                    del left.pins[number]
                if not left.pins:
                    self.drop(name)
                return name
        return None

    def drop(self, process: str) -> bool:
        """The process is gone (or has no pin any more); whether it had left anything."""
        left = self._table.pop(process, None)
        if left is None:
            return False
        self._forget_pid(process, left.pid)
        return True

    def _forget_pid(self, process: str, pid: int) -> None:
        names = self._by_pid[pid]
        del names[process]
        if not names:
            del self._by_pid[pid]

    def check(self) -> None:
        """Assert that both tables agree."""
        named = {name: pid for pid, names in self._by_pid.items() for name in names}
        assert named == {name: left.pid for name, left in self._table.items()}
        for name, left in self._table.items():
            assert left.pins, f"{name} has left nothing"
            assert all(count > 0 for count in left.pins.values())
        assert all(self._by_pid.values())
