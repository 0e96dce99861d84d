"""``multiprocessing.Pool`` on the cluster: the same calls, with actors as its processes.

    from actorrt.util.multiprocessing import Pool

    with Pool() as pool:
        pool.map(square, range(100))

``pool.py`` is the pool, ``results.py`` what its calls return; ``util/crew.py`` has the workers.
"""

from multiprocessing import TimeoutError  # noqa: A004 - the standard one's name

from actorrt.util.multiprocessing.pool import Pool
from actorrt.util.multiprocessing.results import AsyncResult

__all__ = ["AsyncResult", "Pool", "TimeoutError"]
