"""Crew: actors that do jobs, as the workers of ``multiprocessing.Pool`` and of an executor do.

Duties: at most ``size`` members, made when there is work for them (or at once, ``start_all``); every member does one
job at a time; jobs wait here, in this process, in the order of their submission, so that they can be cancelled; a
member that has done its share leaves, and the next job finds a new one. A job is a function and the calls to make of
it; its outcome comes in a ``concurrent.futures.Future``.

Each member has a thread here that waits for it. That costs a thread per member, and buys that callbacks of futures run
where they may block and use the runtime, which they could not do in the runtime's own thread.

An error of a job arrives as what the user raised, with the member's traceback as its cause, and not as a ``TaskError``:
programs written for the standard library expect that.

States: running -> closed (no new jobs; those there are done) -> done; or ended at any time (jobs that wait or run get
the reason, members are killed). What a crew does not know: who calls it, and whether that has been forgotten; the owner
says so with ``abandon``, which does not block and may be called by the garbage collector.
"""

from __future__ import annotations

import atexit
import functools
import os
import queue
import threading
import traceback
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, TypeAlias

import actorrt
from actorrt.exceptions import ActorError, ActorrtError, TaskError

Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments."""

LEAVE_TIMEOUT_S = 10.0
"""So long ``join`` waits for members to run their exit handlers; then they are killed."""


class JobError(Exception):
    """Brings a user's exception, and the traceback it had, from a member."""

    def __init__(self, error: BaseException, text: str) -> None:
        super().__init__(error, text)
        self.error = error
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


# ------------------------------------------------------------------------------------------------------- in the member
class Batch:
    """A function of a list of argument tuples: calls ``function`` with each."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, arguments: Iterable[Sequence[Any]]) -> list[Any]:
        return [self.function(*each) for each in arguments]


class CarriedGlobals:
    """What an initializer defined in the user's script left in its globals, for the functions of jobs.

    Functions of ``__main__`` travel by value, each time with a dict of globals of their own. This carries the names
    that the initializer set from one dict to the next, so that ``global connection`` works as it does with processes
    that are forked.
    """

    def __init__(self) -> None:
        self._module = ""
        self._values: dict[str, Any] = {}

    def initialize(self, initializer: Callable[..., Any], arguments: Iterable[Any]) -> None:
        """Run it, and remember the globals it sets."""
        names = globals_of(initializer)
        before = dict(names)
        initializer(*arguments)
        self._module = names.get("__name__", "")
        self._values = {name: value for name, value in names.items() if name not in before or before[name] is not value}

    def enter(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Give a function's globals what is carried, and return them."""
        names = globals_of(function)
        if names.get("__name__") == self._module:
            names.update(self._values)
        return names

    def leave(self, names: dict[str, Any]) -> None:
        """Carry on what the function made of it."""
        if names.get("__name__") == self._module:
            self._values.update((name, names[name]) for name in self._values if name in names)


def globals_of(function: Any) -> dict[str, Any]:
    """The globals a callable's code uses; an empty dict if it has none."""
    while isinstance(function, (functools.partial, Batch)):
        function = function.func if isinstance(function, functools.partial) else function.function
    function = getattr(function, "__func__", function)
    if not hasattr(function, "__globals__"):
        function = getattr(type(function), "__call__", None)  # noqa: B004 - the code is wanted, not the answer
    found = getattr(function, "__globals__", None)
    return found if isinstance(found, dict) else {}


class MemberActor:
    """The class of the actors."""

    def __init__(self, initializer: Callable[..., Any] | None, arguments: tuple[Any, ...]) -> None:
        self._carried = CarriedGlobals()
        if initializer is not None:
            self._carried.initialize(initializer, arguments)

    def pid(self) -> int:
        """Process id; the answer says that the initializer is through."""
        return os.getpid()

    def run(self, function: Callable[..., Any], calls: list[Call]) -> list[Any]:
        """Do a job."""
        names = self._carried.enter(function)
        try:
            return [function(*args, **kwargs) for args, kwargs in calls]
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller
            # SystemExit among them: it is the job that ends, not the member.
            raise JobError(error, "".join(traceback.format_exception(error))) from None
        finally:
            self._carried.leave(names)


# --------------------------------------------------------------------------------------------------------------- here
class Member:
    """One actor of a crew."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.pid = 0
        """Known after ``Crew.start_all``."""
        self.job_count = 0

    def __repr__(self) -> str:
        return f"Member({self.actor!r}, job_count={self.job_count})"


class _Job:
    __slots__ = ("calls", "function", "future", "is_single")

    def __init__(self, function: Callable[..., Any], calls: list[Call], is_single: bool) -> None:
        self.function = function
        self.calls = calls
        self.future: Future[Any] = Future()
        self.is_single = is_single


class Crew:
    """Args:
    size: so many members at most.
    initializer: called in each new member, with ``initargs``.
    jobs_max: a member leaves after so many; None: never.
    actor_options: of the members. They take no CPU by default: whoever makes a crew says how big it is.
    remote_traceback: makes the cause of a user's exception from the traceback's text.
    unsendable: makes the error of a job whose results cannot be pickled, from the reason and a traceback's text.
    broken: makes the error of all jobs after the death of a member; None: only its own job fails, and it is replaced.
    finishes_at_exit: when the program ends, do what was submitted first.
    """

    def __init__(
        self,
        size: int,
        *,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        jobs_max: int | None = None,
        actor_options: dict[str, Any] | None = None,
        remote_traceback: Callable[[str], BaseException],
        unsendable: Callable[[BaseException, str], BaseException],
        broken: Callable[[str], Exception] | None = None,
        finishes_at_exit: bool = False,
    ) -> None:
        self.size = size
        self.members: list[Member] = []
        """Living ones."""
        self.reason: Exception | None = None
        """Why it ended; None while it runs, and after ``close``. To be raised as ``new_reason()``."""
        self._arguments = (initializer, tuple(initargs))
        self._jobs_max = jobs_max
        self._remote_traceback = remote_traceback
        self._unsendable = unsendable
        self._broken = broken
        self._finishes_at_exit = finishes_at_exit
        self._class = actorrt.remote(MemberActor).options(**{"num_cpus": 0, **(actor_options or {})})
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting_threads = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._free: list[Member] = []
        self._leaving: list[Any] = []
        """Refs that are ready when a member has left."""
        self._lock = threading.Lock()
        """Held when the lists change, never across a call of the runtime."""
        self._is_closed = False
        _call_at_exit(self)

    # ------------------------------------------------------------------ jobs
    def submit(self, function: Callable[..., Any], calls: list[Call], *, is_single: bool = False) -> Future[Any]:
        """Have ``function`` called with each of ``calls`` by one member.

        The result is the list of results, or with ``is_single`` its first. The first call that raises ends the job.

        Raises the reason if the crew has ended, RuntimeError if it is closed.
        """
        reason = self.new_reason()
        if reason is not None:
            raise reason
        job = _Job(function, calls, is_single)
        thread = None
        needs_thread = not self._waiting_threads.acquire(blocking=False)
        member = self._new_member() if needs_thread and self._lacks_member() else None
        with self._lock:
            if member is not None:
                self._free.append(member)
            if self._is_closed:
                raise RuntimeError("cannot schedule new jobs: the crew is closed")
            if needs_thread and len(self._threads) < self.size:
                name = f"actorrt-crew-{len(self._threads)}"
                thread = threading.Thread(target=self._serve, name=name, daemon=True)
                self._threads.append(thread)
            self._jobs.put(job)
        if thread is not None:
            thread.start()
        if self.reason is not None:
            self._fail_waiting()
        return job.future

    def _lacks_member(self) -> bool:
        """Would one more thread have no member to work with?"""
        with self._lock:
            return len(self._threads) < self.size and len(self.members) <= len(self._threads)

    def _serve(self) -> None:
        while self._serve_one():
            pass
        if self._is_last_thread():
            self._dismiss_all()

    def _serve_one(self) -> bool:
        """Do one job; False: there are no more. (A function of its own, lest a waiting thread hold on to a job.)"""
        try:
            job = self._jobs.get_nowait()
        except queue.Empty:
            self._waiting_threads.release()
            job = self._jobs.get()
        if job is None:
            self._jobs.put(None)  # for the next thread
            return False
        if not job.future.set_running_or_notify_cancel():
            return True
        results, error = self._do(job.function, job.calls)
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(results[0] if job.is_single else results)
        return True

    def _do(self, function: Callable[..., Any], calls: list[Call]) -> tuple[list[Any], BaseException | None]:
        """Results, or an error without a traceback: frames of ours would keep the arguments alive."""
        member = None
        outcome: tuple[list[Any], BaseException | None]
        try:
            _check_connected()
            member = self._take_member()
            results: list[Any] = actorrt.get(_call(member, function, calls))
        except TaskError as error:
            outcome = [], self._user_error(error)
        except ActorError as error:
            if member is not None:
                self._lose(member, error)
            return [], self.new_reason() or error.with_traceback(None)
        except BaseException as error:  # noqa: BLE001 - arguments that cannot be pickled, a runtime that was shut down
            outcome = [], self.new_reason() or error.with_traceback(None)
        else:
            outcome = results, None
        if member is not None:
            self._put_back(member)
        return outcome

    def _user_error(self, error: TaskError) -> BaseException:
        cause = error.cause
        if isinstance(cause, JobError):
            cause.error.__cause__ = self._remote_traceback(cause.text)
            return cause.error
        if error.type_name == JobError.__name__:
            return error.with_traceback(None)  # the user's exception cannot be pickled; the text has it
        return self._unsendable(cause or error, error.remote_traceback)

    # ------------------------------------------------------------------ members
    def start_all(self) -> None:
        """Make every member now, and wait for their initializers.

        Raises what keeps one of them from starting, and ends the crew.
        """
        members = [self._new_member() for _ in range(self.size)]
        try:
            pids = actorrt.get([member.actor.pid.remote() for member in members])
        except BaseException:
            self.end(RuntimeError("the crew could not be started"))
            raise
        for member, pid in zip(members, pids, strict=True):
            member.pid = pid
        with self._lock:
            self._free = members

    def _take_member(self) -> Member:
        with self._lock:
            if self._free:
                return self._free.pop()
        return self._new_member()

    def _new_member(self) -> Member:
        _check_connected()
        member = Member(self._class.remote(*self._arguments))
        with self._lock:
            if self.reason is None:
                self.members.append(member)
                return member
        _kill(member)
        raise self.new_reason() or RuntimeError("the crew has ended")

    def _put_back(self, member: Member) -> None:
        member.job_count += 1
        if self._jobs_max is not None and member.job_count >= self._jobs_max:
            self._dismiss(member)
            return
        with self._lock:
            self._free.append(member)

    def _lose(self, member: Member, error: ActorError) -> None:
        """It died."""
        with self._lock:
            if member in self.members:
                self.members.remove(member)
        if self._broken is not None and self.reason is None:
            self.end(self._broken(str(error)))

    def _dismiss(self, member: Member) -> None:
        """Let it go, without waiting for it."""
        with self._lock:
            if member in self.members:
                self.members.remove(member)
        if actorrt.is_initialized():
            try:
                ended = member.actor.__ray_terminate__.remote()
            except ActorrtError:
                return  # the runtime ends, and the member with it
            with self._lock:
                self._leaving.append(ended)

    def _is_last_thread(self) -> bool:
        with self._lock:
            self._threads.remove(threading.current_thread())
            return not self._threads

    def _dismiss_all(self) -> None:
        with self._lock:
            members, self._free = self._free, []
        for member in members:
            self._dismiss(member)

    # ------------------------------------------------------------------ the end
    def close(self, *, cancel_waiting: bool = False) -> None:
        """Take no more jobs; do those that are there (``cancel_waiting``: that have begun) and let the members go."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._jobs.put(None)
            is_idle = not self._threads
        if cancel_waiting:
            for job in self._drained():
                if job.future.cancel():
                    job.future.set_running_or_notify_cancel()
        if is_idle:
            self._dismiss_all()

    def end(self, reason: Exception) -> None:
        """Kill the members. Jobs that wait or run get ``reason``."""
        with self._lock:
            if self.reason is None:
                self.reason = reason
            members, self.members, self._free = self.members, [], []
        self._fail_waiting()
        self._jobs.put(None)
        for member in members:
            _kill(member)

    def join(self) -> None:
        """Wait until everything is done and the members have left. Only after ``close`` or ``end``."""
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()
        with self._lock:
            leaving, self._leaving = self._leaving, []
        if leaving and actorrt.is_initialized():
            actorrt.wait(leaving, num_returns=len(leaving), timeout=LEAVE_TIMEOUT_S)

    def abandon(self) -> None:
        """Do as ``close`` does, some time; never blocks."""
        self._is_closed = True
        self._jobs.put(None)

    def exit(self) -> None:
        """The program ends."""
        if self._finishes_at_exit:
            self.close()
            self.join()

    def new_reason(self) -> Exception | None:
        """A copy of the reason: what is raised again and again would gather tracebacks."""
        return None if self.reason is None else type(self.reason)(*self.reason.args)

    def _fail_waiting(self) -> None:
        for job in self._drained():
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(self.new_reason())

    def _drained(self) -> list[_Job]:
        jobs: list[_Job] = []
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                if self._is_closed or self.reason is not None:
                    self._jobs.put(None)  # the mark of the end may have been among them
                return jobs
            if job is not None:
                jobs.append(job)


def _call(member: Member, function: Callable[..., Any], calls: list[Call]) -> Any:
    try:
        return member.actor.run.remote(function, calls)
    except TypeError as error:
        # Cannot be pickled: what the user's own reduction raised is what the standard library lets through.
        if error.__cause__ is None:
            raise
        raise error.__cause__ from None


def _check_connected() -> None:
    """Threads outlive sessions; none of them may begin another one."""
    if not actorrt.is_initialized():
        raise RuntimeError("the runtime was shut down: the workers are gone")


def _kill(member: Member) -> None:
    if actorrt.is_initialized():
        try:
            actorrt.kill(member.actor)
        except ActorrtError:
            return  # of an earlier session, or dead already


# ------------------------------------------------------------------------------------------------- the program's end
_crews: weakref.WeakSet[Crew] = weakref.WeakSet()
_is_exiting = False


def is_exiting() -> bool:
    """Has the program's end begun?"""
    return _is_exiting


def _call_at_exit(crew: Crew) -> None:
    """Exit handlers run last first: ours has to be registered after the runtime's own, whenever that was."""
    _crews.add(crew)
    atexit.unregister(_exit_crews)
    atexit.register(_exit_crews)


def _exit_crews() -> None:
    global _is_exiting
    _is_exiting = True
    for crew in list(_crews):
        crew.exit()
