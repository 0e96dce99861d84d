"""Connecting and leaving: the bookkeeping around it."""

import os

import pytest

import actorrt
from actorrt.api import connection
from actorrt.testing import Cluster


def test_second_connections_are_refused(rt):
    with pytest.raises(RuntimeError, match="called twice"):
        rt.init()
    assert rt.init(ignore_reinit_error=True).address_info["address"]
    with Cluster(initialize_head=True, in_process=True) as other, pytest.raises(RuntimeError, match="driver already"):
        other.connect()
    assert rt.is_initialized()


def test_bad_arguments_do_not_hurt_a_connection(rt):
    with pytest.raises(RuntimeError):
        rt.init(no_such=1, ignore_reinit_error=True)
    assert rt.get(rt.put(1)) == 1


def test_shutdown_is_idempotent(alone):
    alone.shutdown()
    alone.shutdown(wait_for_processes=True)
    assert not alone.is_initialized()


def test_the_context_shuts_down_at_its_end(alone):
    with Cluster(initialize_head=True, in_process=True) as cluster:
        with cluster.connect(namespace="here") as context:
            assert context.namespace == "here"
            assert context["address"] == cluster.address
            assert cluster.address in repr(context)
        assert not alone.is_initialized()
        cluster.connect()
        assert alone.get(alone.put(1)) == 1


def test_auto_connect_can_be_switched_off(alone):
    with pytest.raises(RuntimeError, match="auto-connect is off"):
        connection.ensure_runtime()
    with pytest.raises(RuntimeError, match="call init"):
        connection.require_runtime()


def test_a_forked_child_has_no_runtime(rt):
    """And its end does nothing to the parent's."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = "connected" if actorrt.is_initialized() else "apart"
            try:
                actorrt.put(1)
            except RuntimeError as error:
                said += f" {error}"
            actorrt.shutdown()
            os.write(write, said.encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    said = os.read(read, 1000).decode()
    os.close(read)
    assert said.startswith("apart")
    assert "fork of a driver" in said
    assert rt.get(rt.remote(lambda: 1).remote(), timeout=20) == 1
