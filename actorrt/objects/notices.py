"""What owners are told of copies: collected during a step, sent as one message per owner and kind (pure)."""

from __future__ import annotations

from actorrt.kernel.effects import Effect, Send
from actorrt.kernel.limits import VERIFY_KEYS_MAX
from actorrt.kernel.message import Address, Message
from actorrt.owner.messages import CopiesAdded, CopiesRemoved, VerifyObjects

OWNER = "owner"
"""The actor's name in every process that owns objects."""


class Notices:
    """Collects news for owners; ``holder`` is this node's process."""

    def __init__(self, effects: list[Effect], holder: str) -> None:
        self._effects = effects
        self._holder = holder
        self._added: dict[str, list[bytes]] = {}
        self._removed: dict[str, list[bytes]] = {}

    def added(self, owner: str, key: bytes) -> None:
        """This node has a copy now."""
        self._added.setdefault(owner, []).append(key)

    def removed(self, owner: str, key: bytes) -> None:
        """This node has it no longer, and nobody but us knows."""
        self._removed.setdefault(owner, []).append(key)

    def verify(self, owner: str, keys: list[bytes]) -> None:
        """Ask at once whether these are still needed."""
        for start in range(0, len(keys), VERIFY_KEYS_MAX):
            self._tell(owner, VerifyObjects(tuple(keys[start : start + VERIFY_KEYS_MAX]), self._holder))

    def dial(self, process: str) -> None:
        """Ask nothing: only find out whether it can be reached."""
        self._tell(process, VerifyObjects((), self._holder))

    def flush(self) -> None:
        """Send what was collected. Nothing is both added and removed in one step, so the order does not matter."""
        if self._added:
            added, self._added = self._added, {}
            for owner, keys in added.items():
                self._tell(owner, CopiesAdded(tuple(keys), self._holder))
        if self._removed:
            removed, self._removed = self._removed, {}
            for owner, keys in removed.items():
                self._tell(owner, CopiesRemoved(tuple(keys), self._holder))

    def _tell(self, owner: str, body: Message) -> None:
        self._effects.append(Send(Address(owner, OWNER), body))

    def check(self) -> None:
        """Assert that a step leaves nothing unsaid."""
        assert not self._added
        assert not self._removed
