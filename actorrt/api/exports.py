"""Functions and classes on their way to workers: exported once per content, named by numbered templates."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from actorrt.gcs.messages import ExportFunction
from actorrt.kernel.limits import FUNCTION_BYTES_MAX, FUNCTION_BYTES_WARN
from actorrt.owner.tasks import Template
from actorrt.wire import reducers
from actorrt.wire.records import JobConfig, LeaseSpec, TaskTemplate

logger = logging.getLogger("actorrt")

TEMPLATES_KEPT_MAX = 10_000
KEYS_KEPT_MAX = 100_000
KEY_ATTRIBUTE = "__actorrt_key__"
"""Set by a worker process on what it loaded, so that work submitted under the same function needs no new export."""


class Exports:
    """What one runtime has sent to the GCS. Thread-safe.

    Args:
        job: the job the functions belong to.
        send: sends a message to the GCS.
    """

    def __init__(self, job: JobConfig, send: Callable[[ExportFunction], None]) -> None:
        self._job = job
        self._send = send
        self._lock = threading.Lock()
        self._keys: dict[bytes, None] = {}
        self._templates: dict[bytes, Template] = {}
        self._template_count = 0

    def template(self, spec: TaskTemplate, lease_spec: LeaseSpec | None) -> Template:
        """The template of a function with certain options; equal ones are made once (``spec.number`` is ignored)."""
        key = msgspec.msgpack.encode((spec, lease_spec))
        with self._lock:
            known = self._templates.get(key)
            if known is not None:
                return known
            self._template_count += 1
            lease_key = (
                b"" if lease_spec is None else msgspec.msgpack.encode(msgspec.structs.replace(lease_spec, name=""))
            )
            made = Template(msgspec.structs.replace(spec, number=self._template_count), lease_spec, lease_key)
            if len(self._templates) >= TEMPLATES_KEPT_MAX:
                self._templates.clear()  # they are made again under new numbers
            self._templates[key] = made
        return made

    def export(self, thing: Any, name: str) -> bytes:
        """Send a function or class to the GCS by value, once; returns its key.

        Raises:
            TypeError: it cannot be pickled.
            ValueError: it is too large.
        """
        known = getattr(thing, "__dict__", {}).get(KEY_ATTRIBUTE)
        if known is not None:
            return known  # type: ignore[no-any-return]
        import cloudpickle

        try:
            pickled = reducers.dumps(cloudpickle.Pickler, thing)
        except Exception as error:
            raise TypeError(f"{name} cannot be pickled, so it cannot run elsewhere: {error}") from error
        if len(pickled) > FUNCTION_BYTES_MAX:
            raise ValueError(
                f"{name} is {len(pickled)} bytes when pickled (limit {FUNCTION_BYTES_MAX}): "
                "put large objects it refers to with put() and pass the refs"
            )
        if len(pickled) > FUNCTION_BYTES_WARN:
            logger.warning("%s is %d bytes when pickled: put() large objects it refers to", name, len(pickled))
        key = hashlib.blake2b(pickled, digest_size=16).digest()
        with self._lock:
            if key in self._keys:
                return key
            if len(self._keys) >= KEYS_KEPT_MAX:
                self._keys.clear()  # at worst a function is sent again
            self._keys[key] = None
        self._send(ExportFunction(self._job.job_id, key, name, pickled))
        return key
