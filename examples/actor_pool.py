"""The everyday helpers: a pool of actors, a queue between tasks, results as they come, the standard library's pools.

Run it with `python examples/actor_pool.py`.
"""

import time

import actorrt
from actorrt.util import ActorPool, Executor, as_completed, map_unordered
from actorrt.util.multiprocessing import Pool
from actorrt.util.queue import Queue


@actorrt.remote
class Squarer:
    def square(self, x):
        return x * x


@actorrt.remote
def cube(x):
    return x**3


@actorrt.remote
def nap(seconds):
    time.sleep(seconds)
    return seconds


# A queue is a handle: whoever gets it puts into, and takes from, the same queue.
@actorrt.remote
def produce(queue, words):
    for word in words:
        queue.put(word)  # waits while the queue is full
    queue.put(None)


@actorrt.remote
def consume(queue):
    words = []
    while (word := queue.get()) is not None:
        words.append(word.upper())
    return words


# For the standard library's pools: plain functions, also those that an initializer prepares.
def begin(value):
    global base
    base = value


def add(x):
    return base + x


def main():
    # An ActorPool gives each actor one call at a time, and hands out the results in order.
    pool = ActorPool([Squarer.remote() for _ in range(2)])
    print("actor pool:", list(pool.map(lambda actor, x: actor.square.remote(x), range(5))))

    # Results as they become ready; map_unordered also keeps the number of unfinished calls small.
    print("as completed:", list(as_completed([nap.remote(0.5), nap.remote(0.01)], chunk_size=1)))
    print("map unordered:", sorted(map_unordered(cube, range(5), backpressure_size=3, chunk_size=1)))

    queue = Queue(maxsize=2)
    produce.remote(queue, ["to", "be", "or", "not"])
    print("through the queue:", actorrt.get(consume.remote(queue)))
    queue.shutdown()

    # The same calls as multiprocessing.Pool and concurrent.futures, on every node of the cluster.
    with Pool(2, initializer=begin, initargs=(100,)) as processes:
        print("processes:", processes.map(add, range(3)))
    with Executor(2) as executor:
        print("executor:", executor.submit(divmod, 17, 5).result())


if __name__ == "__main__":
    actorrt.init(num_cpus=4)
    main()
    actorrt.shutdown()
