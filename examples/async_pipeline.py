"""asyncio: every reference can be awaited, and an actor with `async def` methods serves many calls at a time.

Run it with `python examples/async_pipeline.py`.
"""

import asyncio
import time

import actorrt


# A slow source, as an async actor: its calls share one process and one event loop, and wait at the same time.
@actorrt.remote
class Source:
    def __init__(self):
        self.active = 0
        self.active_max = 0

    async def fetch(self, page):
        self.active += 1
        self.active_max = max(self.active_max, self.active)
        await asyncio.sleep(0.1)  # stands for a request to somewhere else
        self.active -= 1
        return f"page {page}: " + "to be or not to be " * (page + 1)

    async def most_at_once(self):
        return self.active_max


# The computing is done by plain tasks, in other processes, several at a time.
@actorrt.remote
def count_words(text):
    return len(text.split())


async def process(source, page):
    text = source.fetch.remote(page)  # a reference; nothing has been waited for
    return page, await count_words.remote(text)  # the text goes from the actor to the task as an argument


async def main():
    # Starts a cluster, and ends it with the block; the event loop keeps turning meanwhile.
    async with actorrt.session("local", num_cpus=2):
        source = Source.remote()
        await source.fetch.remote(0)  # the actor is up from here on

        start_s = time.perf_counter()
        counts = await asyncio.gather(*(process(source, page) for page in range(20)))
        duration_s = time.perf_counter() - start_s

        for page, words in counts[:3]:
            print(f"page {page} has {words} words")
        print("pages:", len(counts), "- words:", sum(words for _page, words in counts))
        print("fetches at the same time:", await source.most_at_once.remote())
        print(f"{duration_s:.2f} s, where one after another would wait for {0.1 * len(counts):.1f} s")


if __name__ == "__main__":
    asyncio.run(main())
