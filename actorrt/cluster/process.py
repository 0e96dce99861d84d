"""The node process, from its first instruction: configuration, zygote, then everything else.

The order matters. Fork copies one thread only, so the zygote is made before anything here can have started another; and
what both need (asyncio, msgspec, the messages) is imported before, once for both. What only the node needs is imported
while the zygote loads the worker's side on another CPU.
"""

from __future__ import annotations

import asyncio  # noqa: F401 - for the zygote's children, who share its pages
import importlib
import logging
import os
import sys
import traceback
from pathlib import Path

import uvloop  # noqa: F401 - same

import actorrt.cluster.network
import actorrt.kernel.shell  # noqa: F401 - same
from actorrt.cluster.config import NodeReady
from actorrt.cluster.interpreter import raise_open_files_limit, set_process_name
from actorrt.cluster.nodewire import read_config, send_ready
from actorrt.cluster.zygote import start_zygote
from actorrt.protocol import make_codec

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s [%(process)d] %(message)s"


def main() -> int:
    """Run a node process until its end; stdin brings the configuration."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)
    config = read_config(0)
    parent_fd = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for fd in (config.ready_fd, *config.lock_fds):
        os.set_inheritable(fd, False)
    raise_open_files_limit()
    make_codec()  # what msgspec learns about the protocol now, no worker has to learn again (6 ms each)
    zygote_pid, zygote_socket = start_zygote(
        entry=config.worker_entry,
        sockets_dir=Path(config.sockets_dir),
        spawn=config.spawn_workers,
        ready_fd=config.ready_fd,
        close_fds=(parent_fd, *config.lock_fds),
    )
    set_process_name("actorrt:head" if config.is_head else "actorrt:node")
    try:
        node = importlib.import_module("actorrt.cluster.node")
        exit_code = int(node.run(config, zygote_pid, zygote_socket, parent_fd))
    except BaseException as error:
        logging.getLogger("actorrt.cluster").critical("the node process failed", exc_info=error)
        report = NodeReady(error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
        send_ready(config.ready_fd, report)
        exit_code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)  # everything is closed; tearing the interpreter down would only take time
