"""What can go wrong when frames move between processes.

Every class here is a *value a caller can meet*; broken invariants inside a transport are assertions instead.
"""

from __future__ import annotations


class TransportError(Exception):
    """Base of everything a transport raises or hands to ``closed``."""


class Closed(TransportError):
    """The channel or listener was closed on this side; nothing more can be sent."""


class PeerGone(TransportError):
    """The other side is gone (process died, connection lost, heartbeats missed, connect refused)."""


class TooLarge(TransportError):
    """One message is over the limit; it was not sent, the channel stays usable."""


class Overflow(TransportError):
    """The channel's bounded queue is full: the peer reads too slowly. The message was not sent."""


class BadAddress(TransportError, ValueError):
    """The address has no known scheme, is malformed, or cannot be bound."""
