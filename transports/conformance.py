"""The suite every transport is held to: ``await check_transport(make_pair)``, or each of ``CHECKS`` by itself.

Nothing here waits for time to pass: every wait is for an event, and the deadline only turns a hang into a failure.
Both ends live in one process and, as a rule, on one loop; while a check does not await, the receiver cannot read,
which is how it is clogged. What needs a second process (sudden death) is in ``tests/conformance``, with the echo peer
at the end of this file as the victim.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Final, cast

from actorrt.transports import conformance_tools
from actorrt.transports.base import Channel, Frame, Frames, Limits
from actorrt.transports.conformance_tools import Bench, Check, ConformanceError, MakePair, Pair, Recorder, expect
from actorrt.transports.errors import BadAddress, Closed, Overflow, PeerGone, TooLarge

MIB: Final = 1 << 20


def _open(make_pair: MakePair, limits: Limits | None = None) -> Bench:
    return Bench(make_pair(asyncio.get_running_loop(), limits or Limits()))


def _pattern(size_bytes: int) -> bytes:
    """Bytes that show a shift or a swap of chunks."""
    return b"".join(number.to_bytes(8, "little") for number in range(size_bytes // 8 + 1))[:size_bytes]


async def check_order(make_pair: MakePair) -> None:
    bench = _open(make_pair)
    channel, ours, back, theirs = await bench.connect()
    numbers = [str(number).encode() for number in range(5000)]
    for number in numbers:
        channel.send([number])
        back.send([b"re", number])
    await theirs.until_messages(5000)
    await ours.until_messages(5000)
    expect(theirs.messages == [[number] for number in numbers], "messages arrived changed or out of order")
    expect(ours.messages == [[b"re", number] for number in numbers], "answers arrived changed or out of order")
    bench.finish()


async def check_frames(make_pair: MakePair) -> None:
    bench = _open(make_pair)
    channel, _, _, theirs = await bench.connect()
    sent: list[Frames] = [
        [b""],
        [b"", b""],
        [b"", b"a", b""],
        [b"x"] * 3000,
        [bytearray(b"array"), memoryview(b"view")[1:3]],
        [cast("Frame", memoryview(bytearray(16)).cast("d")), b"after doubles"],
        [memoryview(b"")],
        [b"head", _pattern(3 * MIB), b"", b"tail"],
        [b"end"],
    ]
    for message in sent:
        channel.send(message)
    await theirs.until_messages(len(sent))
    expect(
        theirs.messages == [[bytes(frame) for frame in message] for message in sent], "frames arrived changed or moved"
    )
    bench.finish()


async def check_sizes(make_pair: MakePair) -> None:
    bench = _open(make_pair)
    channel, ours, back, theirs = await bench.connect()
    theirs.on_message = lambda _, message: back.send(message)
    sizes = [0, 1, 11, 12, 13, 4095, 65_535, 65_536, 65_537, 262_131, 262_132, 262_144, 300_000, MIB, 5 * MIB + 3, 2]
    sent = [[_pattern(size_bytes)] for size_bytes in sizes]
    for message in sent:
        channel.send(message)
    await ours.until_messages(len(sent))
    expect(ours.messages == sent, "messages of some size came back changed")
    bench.finish()


async def check_threads(make_pair: MakePair) -> None:
    bench = _open(make_pair)
    channel, _, _, theirs = await bench.connect()
    failures: list[Exception] = []

    def work(name: bytes) -> None:
        try:
            for number in range(500):
                payload = bytes(number % 7) if number % 50 else bytes(200_000)
                channel.send([name, str(number).encode(), payload])
        except Exception as error:  # noqa: BLE001 - reported below, on the thread that can fail the check
            failures.append(error)

    threads = [threading.Thread(target=work, args=(str(name).encode(),)) for name in range(4)]
    for thread in threads:
        thread.start()
    await theirs.until_messages(2000)
    for thread in threads:
        thread.join()
    expect(not failures, f"sending from threads raised {failures}")
    for name in range(4):
        numbers = [int(message[1]) for message in theirs.messages if message[0] == str(name).encode()]
        expect(numbers == list(range(500)), f"messages of thread {name} arrived out of order")
    bench.finish()


async def check_thread_round_trips(make_pair: MakePair) -> None:
    """One at a time from another thread: every wake-up counts, a lost one hangs."""
    bench = _open(make_pair)
    channel, ours, back, theirs = await bench.connect()
    theirs.on_message = lambda _, message: back.send(message)
    arrived = threading.Semaphore(0)
    ours.on_message = lambda _channel, _message: arrived.release()
    missing: list[int] = []

    def work() -> None:
        for number in range(300):
            channel.send([str(number).encode()])
            if not arrived.acquire(timeout=conformance_tools.DEADLINE_S / 2):
                missing.append(number)
                return

    thread = threading.Thread(target=work)
    thread.start()
    await ours.until(lambda: len(ours.messages) == 300 or bool(missing), "300 answers")
    thread.join()
    expect(not missing, f"no answer to message {missing}")
    bench.finish()


async def check_send_before_connected(make_pair: MakePair) -> None:
    bench = _open(make_pair)
    channel, _ = bench.dial()
    channel.send([b"first"])
    channel.send([b"second", _pattern(MIB)])
    theirs = await bench.until_accepted(1)
    await theirs.until_messages(2)
    channel.send([b"third"])
    await theirs.until_messages(3)
    expect([message[0] for message in theirs.messages] == [b"first", b"second", b"third"], "early sends lost or moved")
    bench.finish()


async def check_server_speaks_first(make_pair: MakePair) -> None:
    bench = _open(make_pair)
    bench.on_accept = lambda channel, _: channel.send([b"welcome"])
    _, ours = bench.dial()
    await ours.until_messages(1)
    expect(ours.messages == [[b"welcome"]], "what was sent from within accept arrived changed")
    bench.finish()


async def check_backpressure(make_pair: MakePair) -> None:
    for limits in (Limits(queue_bytes_max=4 * MIB), Limits(queue_messages_max=50)):
        bench = _open(make_pair, limits)
        channel, _, _, theirs = await bench.connect()
        payload = bytes(50_000)
        accepted = 0
        overflow = False
        while not overflow and accepted < 4000:  # 200 MB; no await, so the receiver is stuck
            try:
                channel.send([str(accepted).encode(), payload])
                accepted += 1
            except Overflow:
                overflow = True
            expect(channel.pending_bytes <= limits.queue_bytes_max, f"{channel.pending_bytes} bytes pending")
        expect(overflow, f"{accepted} messages were taken although nobody reads: the queue is not bounded")
        expect(accepted > 10, "the queue overflows at once")
        await theirs.until_messages(accepted)
        expect(channel.pending_bytes == 0, "everything has arrived, yet something is pending")
        channel.send([b"again", b""])
        await theirs.until_messages(accepted + 1)
        expect(
            [message[0] for message in theirs.messages]
            == [*(str(number).encode() for number in range(accepted)), b"again"],
            "after an overflow messages are missing, repeated or moved",
        )
        bench.finish()


async def check_bulk_both_ways(make_pair: MakePair) -> None:
    """More than any buffer holds, both directions at once: neither may wait for the other."""
    bench = _open(make_pair)
    channel, ours, back, theirs = await bench.connect()
    payload = _pattern(MIB)
    for number in range(40):
        channel.send([str(number).encode(), payload])
        back.send([str(number).encode(), payload])
    await theirs.until_messages(40)
    await ours.until_messages(40)
    for recorder in (ours, theirs):
        expect(recorder.messages == [[str(number).encode(), payload] for number in range(40)], "bulk arrived changed")
    bench.finish()


async def check_too_large_to_send(make_pair: MakePair) -> None:
    bench = _open(make_pair, Limits(message_bytes_max=100_000, frames_max=10))
    channel, _, _, theirs = await bench.connect()
    for message in ([bytes(100_001)], [bytes(60_000), bytes(60_000)], [b""] * 11):
        try:
            channel.send(message)
        except TooLarge:
            continue
        raise ConformanceError("a message over the limit was taken")
    channel.send([bytes(100_000)])
    channel.send([b""] * 10)
    await theirs.until_messages(2)
    expect([len(message) for message in theirs.messages] == [1, 10], "a refused message left something behind")
    bench.finish()


async def check_too_large_to_receive(make_pair: MakePair) -> None:
    for size_bytes in (2000, 8 * MIB):
        bench = _open(make_pair)
        bench.on_accept = lambda channel, _: channel.set_message_bytes_max(1000)
        channel, ours = bench.dial()
        channel.send([bytes(1000)])
        channel.send([bytes(size_bytes)])
        theirs = await bench.until_accepted(1)
        await theirs.until_closed(TooLarge)
        expect([len(message[0]) for message in theirs.messages] == [1000], "the message within the limit is missing")
        await ours.until_closed(PeerGone)
        bench.finish()


async def check_limit_raised_by_receiver(make_pair: MakePair) -> None:
    """The end of a handshake: whoever receives the small message allows the large one right behind it."""
    bench = _open(make_pair)

    def on_accept(channel: Channel, recorder: Recorder) -> None:
        channel.set_message_bytes_max(1000)
        recorder.on_message = lambda channel, _: channel.set_message_bytes_max(MIB)

    bench.on_accept = on_accept
    channel, _ = bench.dial()
    channel.send([b"let me in"])
    channel.send([bytes(500_000)])
    channel.send([b"small"])
    theirs = await bench.until_accepted(1)
    await theirs.until_messages(3)
    expect([len(message[0]) for message in theirs.messages] == [9, 500_000, 5], "messages changed")
    bench.finish()


async def check_close_is_told(make_pair: MakePair) -> None:
    """What was sent just before ``close`` arrives, then the end; on both sides, whoever closes."""
    for dialler_closes in (True, False):
        bench = _open(make_pair)
        ours_channel, ours, theirs_channel, theirs = await bench.connect()
        channel, local, remote = (ours_channel, ours, theirs) if dialler_closes else (theirs_channel, theirs, ours)
        for number in range(20):
            channel.send([str(number).encode()])
        channel.close()
        channel.close()
        expect(not local.reasons, "closed was called from within close()")
        await local.until_closed(Closed)
        await remote.until_closed(PeerGone)
        expect(
            remote.messages == [[str(number).encode()] for number in range(20)], "what was sent before close is lost"
        )
        for dead in (ours_channel, theirs_channel):
            try:
                dead.send([b"late"])
            except Closed:
                continue
            raise ConformanceError("send on a closed channel did not raise Closed")
        bench.finish()


async def check_close_from_handler(make_pair: MakePair) -> None:
    bench = _open(make_pair)
    channel, ours, _, theirs = await bench.connect()
    theirs.on_message = lambda channel, _: channel.close()
    channel.send([b"go away"])
    await theirs.until_closed(Closed)
    await ours.until_closed(PeerGone)
    bench.finish()


async def check_close_while_sending(make_pair: MakePair) -> None:
    bench = _open(make_pair)
    channel, ours, _, theirs = await bench.connect()
    failures: list[Exception] = []
    started = threading.Event()

    def work() -> None:
        try:
            for _ in range(1_000_000):
                channel.send([bytes(1000)])
                started.set()
        except (Closed, Overflow) as error:
            started.set()
            if isinstance(error, Overflow):
                work_until_closed()
        except Exception as error:  # noqa: BLE001 - reported below, on the thread that can fail the check
            started.set()
            failures.append(error)

    def work_until_closed() -> None:
        while True:
            try:
                channel.send([b""])
            except Overflow:
                continue
            except Closed:
                return

    thread = threading.Thread(target=work)
    thread.start()
    await asyncio.to_thread(started.wait, conformance_tools.DEADLINE_S)
    await theirs.until_messages(1)
    channel.close()
    await ours.until_closed(Closed)
    await theirs.until_closed(PeerGone)
    thread.join()
    expect(not failures, f"sending while closing raised {failures}")
    bench.finish()


async def check_connect_refused(make_pair: MakePair) -> None:
    bench = _open(make_pair)
    address = bench.listener.address
    bench.listener.close()
    channel, ours = bench.dial(address)
    expect(not ours.reasons, "closed was called from within connect()")
    channel.send([b"into the void"])
    await ours.until_closed(PeerGone)
    try:
        channel.send([b"late"])
    except Closed:
        bench.finish()
        return
    raise ConformanceError("send after a refused connection did not raise Closed")


async def check_peer_ends(make_pair: MakePair) -> None:
    """A whole transport closes, first the listening one, then the dialling one: the other hears of it."""
    for server_ends in (True, False):
        bench = _open(make_pair)
        channel, ours, back, theirs = await bench.connect()
        channel.send([b"a"])
        back.send([b"b"])
        await theirs.until_messages(1)
        await ours.until_messages(1)
        ending, local, remote = (bench.pair.server, theirs, ours) if server_ends else (bench.pair.client, ours, theirs)
        ending.close()
        await local.until_closed(Closed)
        await remote.until_closed(PeerGone)
        bench.finish()


async def check_listener_close(make_pair: MakePair) -> None:
    bench = _open(make_pair)
    channel, ours, back, theirs = await bench.connect()
    address = bench.listener.address
    bench.listener.close()
    bench.listener.close()
    expect(not _file_exists(address), "the closed listener left its file")
    _, late = bench.dial(address)
    await late.until_closed(PeerGone)
    channel.send([b"still"])
    await theirs.until_messages(1)
    back.send([b"here"])
    await ours.until_messages(1)
    expect(len(bench.accepted) == 1, "a closed listener accepted")
    bench.finish()


def _file_exists(address: str) -> bool:
    scheme, _, path = address.partition("://")
    return scheme in ("unix", "ipc") and os.path.lexists(path)


async def check_addresses(make_pair: MakePair) -> None:
    bench = _open(make_pair)
    pair = bench.pair
    expect(bench.listener.address.split("://")[0] in pair.server.schemes, "the address is of none of the schemes")
    scheme = pair.server.schemes[0]
    for address in ("", "nonsense", f"{scheme}:", f"{scheme}://", "other://name"):
        for attempt in (
            lambda address=address: pair.server.listen(address, bench._accept),
            lambda address=address: pair.client.connect(address, Recorder("nobody")),
        ):
            try:
                attempt()
            except BadAddress:
                continue
            raise ConformanceError(f"{address!r} was taken for an address")
    try:
        pair.client.listen(bench.listener.address, bench._accept)
    except BadAddress:
        pass
    else:
        raise ConformanceError("an address that is taken could be listened at")
    _, _, back, theirs = await bench.connect()
    expect(back.peer, "an accepted channel does not say who dialled")
    expect(theirs.channel is back, "accept's channel and received's differ")
    bench.finish()


async def check_many_channels(make_pair: MakePair) -> None:
    bench = _open(make_pair)
    dialled = [bench.dial() for _ in range(60)]
    for number, (channel, _) in enumerate(dialled):
        channel.send([str(number).encode()])
    await bench.until_accepted(60)
    for recorder in bench.accepted:
        await recorder.until_messages(1)
        assert recorder.channel is not None
        recorder.channel.send([b"re", *recorder.messages[0]])
    for number, (channel, recorder) in enumerate(dialled):
        await recorder.until_messages(1)
        expect(recorder.messages == [[b"re", str(number).encode()]], "an answer went to another channel")
        if number % 2:
            channel.close()
    for recorder in bench.accepted:
        if int(recorder.messages[0][0]) % 2:
            await recorder.until_closed(PeerGone)
    for number, (_channel, recorder) in enumerate(dialled):
        expect(len(recorder.reasons) == number % 2, "closing some channels reached others")
    bench.finish()


async def check_channels_max(make_pair: MakePair) -> None:
    bench = _open(make_pair, Limits(channels_max=3))
    for _ in range(3):
        await bench.connect()
    channel, ours = bench.dial()
    channel.send([b"one too many"])
    await ours.until_closed(PeerGone)
    expect(len(bench.accepted) == 3, "more channels than allowed")
    bench.accepted[0].channel.close()  # type: ignore[union-attr]
    await bench.accepted[0].until_closed(Closed)
    await bench.recorders[0].until_closed(PeerGone)
    await bench.connect()
    bench.finish()


async def check_two_loops(make_pair: MakePair) -> None:
    """The listening side on a loop and thread of its own."""
    ready = threading.Event()
    stop: list[Callable[[], object]] = []
    addresses: list[str] = []
    failures: list[BaseException] = []
    pairs: list[Pair] = []
    loop_here = asyncio.get_running_loop()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        stop.append(lambda: loop.call_soon_threadsafe(done.set))
        pair = make_pair(loop, Limits())
        pairs.append(pair)
        recorder = Recorder("other loop")
        recorder.on_message = lambda channel, message: channel.send(message)
        addresses.append(pair.server.listen(pair.new_address(), recorder.adopt).address)
        ready.set()
        await done.wait()
        pair.server.close()
        pair.client.close()
        recorder.verify()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that can fail the check
            failures.append(error)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    await asyncio.to_thread(ready.wait, conformance_tools.DEADLINE_S)
    expect(addresses, f"the other loop did not listen: {failures}")
    here = make_pair(loop_here, Limits())
    ours = Recorder("this loop")
    channel = here.client.connect(addresses[0], ours)
    ours.adopt(channel)
    for number in range(1000):
        channel.send([str(number).encode(), bytes(number)])
    await ours.until_messages(1000)
    expect([int(message[0]) for message in ours.messages] == list(range(1000)), "echoes out of order")
    stop[0]()
    await ours.until_closed(PeerGone)
    await asyncio.to_thread(thread.join)
    here.client.close()
    here.server.close()
    expect(not failures, f"the other loop failed: {failures}")
    for pair in (*pairs, here):
        pair.after()


CHECKS: Final[tuple[Check, ...]] = (
    check_order,
    check_frames,
    check_sizes,
    check_threads,
    check_thread_round_trips,
    check_send_before_connected,
    check_server_speaks_first,
    check_backpressure,
    check_bulk_both_ways,
    check_too_large_to_send,
    check_too_large_to_receive,
    check_limit_raised_by_receiver,
    check_close_is_told,
    check_close_from_handler,
    check_close_while_sending,
    check_connect_refused,
    check_peer_ends,
    check_listener_close,
    check_addresses,
    check_many_channels,
    check_channels_max,
    check_two_loops,
)


async def check_transport(make_pair: MakePair) -> None:
    """Run every check; raises ``ConformanceError`` at the first broken promise."""
    for check in CHECKS:
        await check(make_pair)
