"""Quick start: tasks, references, an actor. Run it with `python examples/quickstart.py`."""

import time

import actorrt

# A cluster of our own on this machine, with room for two tasks at a time. It ends with the program.
actorrt.init("local", num_cpus=2)


# 1. A task is a function that runs in another process.
@actorrt.remote
def square(number):
    return number * number


# .remote() returns at once, with a reference to the result to come; get() waits for the value.
references = [square.remote(number) for number in range(4)]
print("squares:", actorrt.get(references))


# 2. References are arguments, too: the task starts when its arguments are there, and gets their values.
@actorrt.remote
def add(left, right):
    return left + right


total = add.remote(add.remote(references[0], references[1]), add.remote(references[2], references[3]))
print("sum of squares:", actorrt.get(total))

# 3. put() stores a value once, for any number of tasks.
table = actorrt.put({"one": 1, "two": 2, "three": 3})


@actorrt.remote
def look_up(numbers, name):
    return numbers[name]


print("looked up:", actorrt.get([look_up.remote(table, name) for name in ("one", "three")]))


# 4. An actor is an object that lives in a process of its own and keeps its state between calls.
@actorrt.remote
class Counter:
    def __init__(self, start):
        self.value = start

    def add(self, amount):
        self.value += amount
        return self.value


counter = Counter.remote(10)
print("counter:", actorrt.get([counter.add.remote(amount) for amount in (1, 2, 3)]))


# 5. wait() says which results are ready, so that you can work on the first while others are still to come.
@actorrt.remote
def nap(duration_s):
    time.sleep(duration_s)
    return duration_s


ready, pending = actorrt.wait([nap.remote(2.0), nap.remote(0.05)], num_returns=1)
print("first to finish:", actorrt.get(ready[0]), "- still running:", len(pending))

# 6. An exception in a task is raised again where its value is asked for.
try:
    actorrt.get(look_up.remote(table, "four"))
except KeyError as error:
    print("the task raised:", type(error).__name__)

actorrt.shutdown()
