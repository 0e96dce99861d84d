from actorrt.kernel.limits import LOCALITY_BYTES_MIN
from actorrt.kernel.message import Address
from actorrt.objects.messages import ObjectWanted, PrefetchObjects
from actorrt.owner.messages import LeasesRedirected, NodeChanged
from actorrt.owner.requests import PutObject
from actorrt.raylet.messages import CancelLeases, RequestLeases
from actorrt.wire.records import RefInfo, Stored, Value
from tests.unit.owner.harness import RAYLET, Driver, sent, sent_to

THERE = Address("there", "raylet")


def put(driver, number, size_bytes, *holders):
    object_id = b"%d" % number * 20
    stored = Stored(object_id + b"a" * 8, size_bytes, "me", holders)
    driver.tell(PutObject(object_id, stored))
    return RefInfo(object_id, "me"), stored


def test_a_task_asks_the_node_that_has_its_data():
    driver = Driver()
    ref, _ = put(driver, 1, LOCALITY_BYTES_MIN, "there")
    effects = driver.submit(driver.task(dependencies=(ref,)))
    (request,) = sent_to(effects, THERE)
    assert (type(request), request.count) == (RequestLeases, 1)
    assert sent(effects, PrefetchObjects) == []


def test_a_little_is_no_reason_to_go_elsewhere_but_is_fetched_early():
    driver = Driver()
    here, _ = put(driver, 1, 5 * LOCALITY_BYTES_MIN, "raylet")
    small, stored = put(driver, 2, LOCALITY_BYTES_MIN - 1, "there")
    large, _ = put(driver, 3, 5 * LOCALITY_BYTES_MIN + 10, "there")
    effects = driver.submit(driver.task(dependencies=(small,)), driver.task(dependencies=(here, large)))
    assert [type(body) for body in sent_to(effects, RAYLET)] == [RequestLeases]
    wanted = ObjectWanted(stored.key, stored.size_bytes, "me", ("there",))
    hints = sent_to(effects, Address("raylet", "objects"))
    assert hints[0].wanted[0] == wanted
    assert len(hints[0].wanted) == 2


def test_small_arguments_change_nothing():
    driver = Driver()
    driver.tell(PutObject(b"1" * 20, Value(b"v")))
    effects = driver.submit(driver.task(dependencies=(RefInfo(b"1" * 20, "me"),)))
    assert [type(body) for body in sent_to(effects, RAYLET)] == [RequestLeases]


def test_where_a_request_is_sent_on_to_the_data_follows():
    driver = Driver()
    ref, stored = put(driver, 1, LOCALITY_BYTES_MIN, "there")
    driver.submit(driver.task(dependencies=(ref,)))
    third = Address("third", "raylet")
    effects = driver.tell(LeasesRedirected(1, 1, third, 1), THERE)
    assert [type(body) for body in sent_to(effects, third)] == [RequestLeases]
    (hint,) = sent_to(effects, Address("third", "objects"))
    assert [wanted.key for wanted in hint.wanted] == [stored.key]


def test_a_cancelled_task_takes_its_request_back_wherever_it_was_sent():
    driver = Driver()
    ref, _ = put(driver, 1, LOCALITY_BYTES_MIN, "there")
    task = driver.task(dependencies=(ref,))
    driver.submit(task)
    driver.submitter.cancel(task, force=False, recursive=True)
    assert sent_to(driver.tell(PutObject(b"9" * 20, Value(b"v"))), THERE) == [CancelLeases(1, 1)]


def test_when_the_node_with_the_data_dies_ours_is_asked():
    driver = Driver()
    ref, _ = put(driver, 1, LOCALITY_BYTES_MIN, "there", "elsewhere")
    driver.submit(driver.task(dependencies=(ref,)))
    effects = driver.tell(NodeChanged(b"n", THERE, alive=False), Address("gcs", "gcs"))
    assert [type(body) for body in sent_to(effects, RAYLET)] == [RequestLeases]
