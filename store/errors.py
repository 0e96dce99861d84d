"""What can go wrong in an object store.

Every class here is a *value a caller can meet*; broken invariants inside a store are assertions instead.
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of everything a store raises or hands to a request's ``done``."""


class StoreClosed(StoreError):
    """The store was closed on this side."""


class ObjectExists(StoreError):
    """The key is taken. Objects are immutable: delete the old one first."""


class ObjectNotFound(StoreError, KeyError):
    """No such object here: never created, already deleted, or deleted while it was waited for."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # KeyError would show the text quoted


class NotSealed(ObjectNotFound):
    """The object is still being written."""


class ObjectStoreFull(StoreError, MemoryError):
    """No room, and nothing that could be spilled or released: everything is pinned or being written."""


class ObjectTooLarge(ObjectStoreFull):
    """The object would not fit even into the empty store."""


class OutOfDisk(StoreError):
    """No room, and the spill directories may not take more: quota reached or the disk nearly full."""


class ObjectDamaged(StoreError):
    """What was read back from disk is not what was written: length or checksum differ, or the file is gone."""


class StaleLocation(StoreError):
    """The location is of an extent that has been freed since. A pinned location never goes stale."""


class CapacityRefused(StoreError, ValueError):
    """The wanted capacity does not fit the mount or the memory limit of this machine or container."""


class TooManyRequests(StoreError):
    """The bounded queue of requests that wait for room is full."""
