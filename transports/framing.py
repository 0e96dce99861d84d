"""Messages as bytes on a stream (pure): what ``unix`` and ``zeromq`` put on the wire, and how they take it apart.

One message is::

    body bytes: u64 | frame count: u32 | [one u64 length per frame, only if there are several] | the frames

all little-endian. A message of one frame, by far the most frequent, so costs twelve bytes and no table.

Receiving costs one copy for small messages (out of the reused receive buffer, so that a frame kept for long pins
nothing but itself) and none beyond the kernel's for large ones: as soon as the header of a message that does not fit
is known, exactly its size is allocated, and the transport reads straight into it (``Parser.vacant``).
Nothing is allocated on a peer's word alone beyond the limit: body and frame count are checked first.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import Final

from actorrt.transports.base import Frame, Frames
from actorrt.transports.errors import PeerGone, TooLarge

HEADER: Final = Struct("<QI")
LENGTH_BYTES: Final = 8
JOIN_BYTES_MAX: Final = 64 << 10
"""Up to here copying frames together is cheaper than one more buffer in the system call."""
LARGE_BYTES_MIN: Final = 64 << 10
"""A message over this that has not arrived whole gets its own buffer; below, its beginning is kept and joined."""
BUFFERS_MAX: Final = 512
"""Buffers handed to one system call; half of what Linux and macOS allow."""

_TABLES: Final = tuple(Struct(f"<{count}Q") for count in range(33))


def _table(count: int) -> Struct:
    return _TABLES[count] if count < len(_TABLES) else Struct(f"<{count}Q")


def flat(frame: Frame) -> Frame:
    """The frame such that ``len`` counts bytes: a view of doubles or of a matrix becomes a view of its bytes."""
    if isinstance(frame, (bytes, bytearray)):
        return frame
    view = memoryview(frame)
    if view.ndim == 1 and view.itemsize == 1:
        return view
    if view.nbytes == 0:  # cast() refuses shapes with a zero
        return b""
    return view.cast("B")


def check_sizes(count: int, body_bytes: int, *, bytes_max: int, frames_max: int) -> None:
    """Raise ``TooLarge`` for a message over a limit."""
    if body_bytes > bytes_max:
        raise TooLarge(f"a message of {body_bytes} bytes is over the limit of {bytes_max}")
    if count > frames_max:
        raise TooLarge(f"a message of {count} frames is over the limit of {frames_max}")


def pack(frames: Frames, *, bytes_max: int, frames_max: int) -> tuple[list[Frame], int]:
    """One message as the buffers to write (neighbours joined where that is cheaper), and their bytes together."""
    count = len(frames)
    if count == 1:
        frame = flat(frames[0])
        body_bytes = len(frame)
        if body_bytes > bytes_max:
            check_sizes(1, body_bytes, bytes_max=bytes_max, frames_max=frames_max)
        header = HEADER.pack(body_bytes, 1)
        size_bytes = HEADER.size + body_bytes
        return ([header + frame] if body_bytes <= JOIN_BYTES_MAX else [header, frame]), size_bytes
    assert count > 0, "a message has at least one frame"
    flats = [flat(frame) for frame in frames]
    lengths = [len(frame) for frame in flats]
    body_bytes = sum(lengths)
    check_sizes(count, body_bytes, bytes_max=bytes_max, frames_max=frames_max)
    header = HEADER.pack(body_bytes, count) + _table(count).pack(*lengths)
    size_bytes = len(header) + body_bytes
    if body_bytes <= JOIN_BYTES_MAX:
        return [header + b"".join(flats)], size_bytes
    return _join_small([header, *flats]), size_bytes


def _join_small(pieces: list[Frame]) -> list[Frame]:
    buffers: list[Frame] = []
    run: list[Frame] = []
    run_bytes = 0
    for piece in pieces:
        if run and run_bytes + len(piece) > JOIN_BYTES_MAX:
            buffers.append(run[0] if len(run) == 1 else b"".join(run))
            run, run_bytes = [], 0
        run.append(piece)
        run_bytes += len(piece)
    buffers.append(run[0] if len(run) == 1 else b"".join(run))
    return buffers


class Outbox:
    """What waits to be written on one channel: whole messages in order, the first possibly begun."""

    __slots__ = ("_buffers", "_ends", "_pushed_bytes", "_written_bytes")

    def __init__(self) -> None:
        self._buffers: deque[Frame] = deque()
        self._ends: deque[int] = deque()  # stream position at which each waiting message ends
        self._pushed_bytes = 0
        self._written_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._buffers)

    def __len__(self) -> int:
        """Messages of which at least one byte is still to be written."""
        return len(self._ends)

    @property
    def pending_bytes(self) -> int:
        return self._pushed_bytes - self._written_bytes

    def push(self, buffers: list[Frame], size_bytes: int) -> None:
        self._buffers.extend(buffers)
        self._pushed_bytes += size_bytes
        self._ends.append(self._pushed_bytes)

    def peek(self, bytes_max: int, buffers_max: int = BUFFERS_MAX) -> tuple[list[Frame], int]:
        """The next buffers, cut off at ``bytes_max``, and their bytes together."""
        taken: list[Frame] = []
        taken_bytes = 0
        for buffer in self._buffers:
            if len(taken) == buffers_max:
                break
            size_bytes = len(buffer)
            if taken_bytes + size_bytes >= bytes_max:
                room_bytes = bytes_max - taken_bytes
                taken.append(buffer if size_bytes == room_bytes else memoryview(buffer)[:room_bytes])
                return taken, bytes_max
            taken.append(buffer)
            taken_bytes += size_bytes
        return taken, taken_bytes

    def advance(self, written_bytes: int) -> None:
        """Forget what has been written."""
        self._written_bytes += written_bytes
        buffers = self._buffers
        while written_bytes:
            buffer = buffers[0]
            if len(buffer) > written_bytes:
                buffers[0] = memoryview(buffer)[written_bytes:]
                break
            written_bytes -= len(buffer)
            del buffers[0]
        while buffers and not len(buffers[0]):
            del buffers[0]  # an empty frame stands at the end of what was written
        ends = self._ends
        while ends and ends[0] <= self._written_bytes:
            del ends[0]

    def clear(self) -> None:
        self._buffers.clear()
        self._ends.clear()
        self._written_bytes = self._pushed_bytes


class Parser:
    """Bytes of one stream in, messages out. After it raised, the stream is beyond repair."""

    __slots__ = ("_count", "_filled_bytes", "_frames_max", "_large", "_partial", "bytes_max", "held")

    def __init__(self, *, bytes_max: int, frames_max: int) -> None:
        self.bytes_max = bytes_max
        self.held = False
        """A message over ``bytes_max`` waits behind messages that were just returned: whoever receives those may
        raise the limit (a handshake ends like this), so it is judged by the next ``feed``."""
        self._frames_max = frames_max
        self._partial: bytes = b""
        self._large: memoryview | None = None
        self._filled_bytes = 0
        self._count = 0

    def vacant(self) -> memoryview | None:
        """The unfilled rest of a large message, to be read into directly and reported with ``filled``."""
        return None if self._large is None else self._large[self._filled_bytes :]

    def filled(self, filled_bytes: int, messages: list[list[Frame]]) -> None:
        """The first bytes of ``vacant()`` were written. Appends the message when it is complete."""
        large = self._large
        assert large is not None
        self._filled_bytes += filled_bytes
        if self._filled_bytes == len(large):
            self._large = None
            messages.append([large] if self._count == 1 else _cut(large, self._count, owned=True))

    def feed(self, data: bytes | memoryview, messages: list[list[Frame]]) -> None:
        """Take the next bytes of the stream (they may be overwritten afterwards); append the messages they complete.

        Raises:
            TooLarge: the peer announced a message over the limit; ``messages`` holds those before it.
            PeerGone: the bytes are not ours.
        """
        self.held = False
        large = self._large
        if large is not None:
            take_bytes = min(len(large) - self._filled_bytes, len(data))
            large[self._filled_bytes : self._filled_bytes + take_bytes] = data[:take_bytes]
            self.filled(take_bytes, messages)
            data = data[take_bytes:]
        if self._partial:
            data = self._partial + data
            self._partial = b""
        position = 0
        end = len(data)
        header_bytes = HEADER.size
        while end - position >= header_bytes:
            body_bytes, count = HEADER.unpack_from(data, position)
            if body_bytes > self.bytes_max or count > self._frames_max:
                if messages:
                    self.held = True
                    break
                check_sizes(count, body_bytes, bytes_max=self.bytes_max, frames_max=self._frames_max)
            if not count:
                raise PeerGone("the peer does not speak our framing: a message without frames")
            payload_bytes = body_bytes if count == 1 else body_bytes + LENGTH_BYTES * count
            start = position + header_bytes
            stop = start + payload_bytes
            if stop > end:
                if payload_bytes > LARGE_BYTES_MIN:
                    self._begin_large(data[start:], payload_bytes, count)
                    return
                break
            payload = data[start:stop]
            messages.append([bytes(payload)] if count == 1 else _cut(payload, count, owned=False))
            position = stop
        if position < end:
            self._partial = bytes(data[position:])

    def _begin_large(self, beginning: bytes | memoryview, payload_bytes: int, count: int) -> None:
        large = memoryview(bytearray(payload_bytes))
        large[: len(beginning)] = beginning
        self._large = large
        self._filled_bytes = len(beginning)
        self._count = count


def _cut(payload: bytes | memoryview, count: int, *, owned: bool) -> list[Frame]:
    """The frames behind a length table: views of a buffer made for them, else copies out of a shared one."""
    lengths = _table(count).unpack_from(payload)
    position = LENGTH_BYTES * count
    if position + sum(lengths) != len(payload):
        raise PeerGone("the peer does not speak our framing: frame lengths and body length disagree")
    frames: list[Frame] = []
    for length in lengths:
        frame = payload[position : position + length]
        frames.append(frame if owned else bytes(frame))
        position += length
    return frames
