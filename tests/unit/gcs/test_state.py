"""What concerns several nouns: membership, jobs, processes that are gone, timers."""

import pytest

from actorrt.gcs import messages as m
from actorrt.kernel.effects import CancelTimer, Fail, Reply, SetTimer
from actorrt.kernel.limits import HEARTBEAT_INTERVAL_S, NODE_DEAD_AFTER_S, RESOURCE_REPORT_INTERVAL_S
from actorrt.kernel.message import Address, Done, PeerGone
from actorrt.owner.messages import LogLines, NodeChanged, Published
from actorrt.raylet.messages import ClusterChanged, JobFinished, JobStarted, StopActor, StopNode
from actorrt.scheduling.resources import UNIT
from tests.unit.gcs.world import CLUSTER, DRIVER, OTHER, World, job_config, node_info, raylet

JOB, JOB2 = b"\0\0\0\1", b"\0\0\0\2"


# ---- nodes
def test_a_node_that_joins_learns_everything_and_everybody_learns_of_it():
    world = World("a")
    world.report("a", CPU=1)
    answer = world.join("b")
    assert isinstance(answer, m.NodeRegistered)
    assert [info.node_id for info in answer.nodes] == [b"a", b"b"]
    assert [load.available["CPU"] for load in answer.loads] == [UNIT, 4 * UNIT]
    assert [job.job_id for job in answer.jobs] == [JOB]
    (change,) = world.sent(ClusterChanged, raylet("a"))
    assert [info.node_id for info in change.nodes] == [b"b"]
    assert world.sent(NodeChanged, DRIVER) == [NodeChanged(b"b", raylet("b"), alive=True, text="joined")]


def test_joining_twice_is_once():
    world = World("a", "b")
    answer = world.join("b")
    assert len(answer.nodes) == 2
    assert world.sent(ClusterChanged) == world.sent(NodeChanged) == []


def test_a_lost_connection_is_a_nodes_death():
    world = World("a", "b")
    world.gone("ipc://b", "EOF")
    (change,) = world.sent(ClusterChanged, raylet("a"))
    (info,) = change.nodes
    assert (info.node_id, info.alive, info.death.kind) == (b"b", False, "node_died")
    (told,) = world.sent(NodeChanged, DRIVER)
    assert (told.node_id, told.alive, "EOF" in told.text) == (b"b", False, True)
    nodes = world.ask(m.ListNodes())
    assert [(info.node_id, info.alive) for info in nodes.nodes] == [(b"b", False), (b"a", True)]
    assert [load.node_id for load in nodes.loads] == [b"a"]


def test_silence_is_a_nodes_death():
    world = World("a", "b")
    world.run(NODE_DEAD_AFTER_S - 1, heartbeats=("a",))
    assert world.sent(NodeChanged) == []
    world.run(2, heartbeats=("a",))
    (told,) = world.sent(NodeChanged, DRIVER)
    assert (told.node_id, "silent" in told.text) == (b"b", True)
    assert list(world.machine.nodes.alive) == [b"a"]


def test_our_own_standstill_kills_nobody():
    world = World("a", "b")
    world.now += 100  # the process was stopped; the timer is handled late
    world.run(0)
    assert len(world.machine.nodes.alive) == 2
    world.run(NODE_DEAD_AFTER_S + 1, heartbeats=("a",))
    assert list(world.machine.nodes.alive) == [b"a"]


def test_a_dead_node_that_speaks_is_told_to_stop():
    world = World("a", "b")
    world.gone("ipc://b")
    world.take()
    world.report("b", CPU=4)
    assert len(world.sent(StopNode, raylet("b"))) == 1
    assert world.join("b").kind == "NodeDiedError"
    world.take()
    world.report("stranger", CPU=4)
    assert world.take() == []


def test_an_address_taken_over_means_that_its_former_node_is_dead():
    world = World("a", "b")
    again = node_info("b")
    again = type(again)(b"b2", again.raylet, "b", "b", resources=again.resources)
    world.ask(m.RegisterNode(again), src=raylet("b"))
    assert list(world.machine.nodes.alive) == [b"a", b"b2"]
    assert "taken over" in world.machine.nodes.dead[b"b"].death.text


def test_draining():
    world = World("a", "b")
    assert world.ask(m.DrainNode(b"b", "scaled down")) == Done()
    assert world.sent(StopNode, raylet("b")) == [StopNode("scaled down")]
    assert "scaled down" in world.machine.nodes.dead[b"b"].death.text
    assert world.ask(m.DrainNode(b"b")) == Done()
    assert world.ask(m.DrainNode(b"?")).kind == "NodeDiedError"
    assert len(world.sent(StopNode)) == 1


def test_loads_are_sent_in_batches():
    world = World("a", "b", "c")
    world.run(1, heartbeats=("a", "b", "c"))
    world.take()
    for cpu in (3, 2, 1):
        world.report("a", CPU=cpu)
        world.report("b", CPU=cpu)
    assert world.sent(ClusterChanged) == []  # the timer is due, but later messages of this moment are in as well
    world.run(0)
    for name in "abc":
        (change,) = world.sent(ClusterChanged, raylet(name))
        assert change.nodes == ()
        assert [(load.node_id, load.available["CPU"]) for load in change.loads] == [(b"a", UNIT), (b"b", UNIT)]
    world.take()
    world.report("a", CPU=4)
    world.run(RESOURCE_REPORT_INTERVAL_S * 0.9)
    assert world.sent(ClusterChanged) == []
    world.run(RESOURCE_REPORT_INTERVAL_S * 0.2)
    assert len(world.sent(ClusterChanged, raylet("b"))) == 1
    world.take()
    world.report("a", CPU=4)
    world.run(1, heartbeats=("a", "b", "c"))
    assert world.sent(ClusterChanged) == []  # nothing changed


def test_health_is_only_looked_after_while_there_are_nodes():
    world = World("a")
    (beat,) = [effect for effect in world.timers.values() if isinstance(effect.body, m.HealthDue)]
    assert beat.at_s == world.now + HEARTBEAT_INTERVAL_S
    effects = world.gone("ipc://a")
    assert CancelTimer("health") in effects
    assert "health" not in world.timers


# ---- jobs
def test_a_job():
    world = World("a", "b", jobs=())
    answer = world.ask(m.RegisterJob(job_config(), raylet("b")))
    assert (answer.job.job_id, answer.node_id, answer.job.driver) == (JOB, b"b", DRIVER)
    for name in "ab":
        assert world.sent(JobStarted, raylet(name)) == [JobStarted(answer.job)]
    assert world.ask(m.RegisterJob(job_config(), raylet("b"))).job.job_id == JOB  # a repeated message
    assert len(world.sent(JobStarted)) == 2
    assert world.ask(m.RegisterJob(job_config(OTHER), raylet("a")), OTHER).job.job_id == JOB2
    world.take()
    assert world.ask(m.FinishJob(JOB)) == Done()
    for name in "ab":
        assert world.sent(JobFinished, raylet(name)) == [JobFinished(JOB)]
    world.take()
    assert world.ask(m.FinishJob(JOB)) == world.ask(m.FinishJob(b"?")) == Done()
    assert world.sent(JobFinished) == []
    assert world.ask(m.GetJob()).finished == (JOB,)


def test_a_job_needs_a_living_node():
    world = World("a", "b", jobs=())
    world.gone("ipc://b")
    fail = world.ask(m.RegisterJob(job_config(), raylet("b")))
    assert fail.kind == "NodeDiedError"


def test_the_drivers_death_finishes_its_job_only():
    world = World("a", jobs=(DRIVER, OTHER))
    world.create("x", max_restarts=-1)
    world.create("y", job_id=JOB2, owner=OTHER)
    world.started("x")
    world.take()
    world.gone("ipc://driver", "killed")
    assert world.sent(JobFinished) == [JobFinished(JOB)]
    death = world.info("x").death
    assert (death.kind, "killed" in death.text) == ("job_finished", True)
    assert [body.actor_id for body in world.sent(StopActor)] == [b"x"]
    assert world.state("y") == "PENDING_CREATION"
    assert list(world.machine.jobs.running) == [JOB2]


def test_functions_end_with_their_job():
    world = World("a", jobs=(DRIVER, OTHER))
    world.tell(m.ExportFunction(JOB, b"k", "f", b"code"), DRIVER)
    assert world.ask(m.GetFunction(JOB, b"k")) == m.FunctionFound("f", b"code")
    assert world.ask(m.GetFunction(JOB2, b"k"), OTHER) is None
    number = world.request_id
    world.ask(m.FinishJob(JOB))
    assert world.machine.functions.count() == 0
    assert "has ended" in world.ask(m.GetFunction(JOB, b"k")).text
    assert "unknown" in world.ask(m.GetFunction(b"?", b"k")).text
    world.take()
    world.ask(m.FinishJob(JOB2))
    (fail,) = [effect for effect in world.take() if isinstance(effect, Fail)]
    assert (fail.dst, fail.request_id) == (OTHER, number)
    world.tell(m.ExportFunction(JOB, b"k", "f", b"code"), DRIVER)
    assert world.machine.functions.count() == 0


def test_a_detached_actor_keeps_its_jobs_functions_until_it_dies():
    world = World("a", jobs=(DRIVER, OTHER))
    world.tell(m.ExportFunction(JOB, b"k", "A", b"code"), DRIVER)
    world.create("x", detached=True)
    world.started("x")
    world.ask(m.FinishJob(JOB))
    assert world.ask(m.GetFunction(JOB, b"k"), OTHER) == m.FunctionFound("A", b"code")
    assert "without exporting" in world.ask(m.GetFunction(JOB, b"l"), OTHER).text
    assert [job.job_id for job in world.join("b").jobs] == [JOB2, JOB]
    world.ask(m.KillActor(b"x"), OTHER)
    assert world.machine.functions.count() == 0
    assert [job.job_id for job in world.join("c").jobs] == [JOB2]


# ---- processes
def test_a_process_that_is_gone_is_forgotten_everywhere():
    world = World("a", jobs=(DRIVER, OTHER))
    world.create("x")
    world.follow("x", OTHER)
    world.ask(m.Subscribe("c"), OTHER)
    world.ask(m.GetFunction(JOB, b"k"), OTHER)
    world.gone("ipc://other")
    statistics = world.machine.statistics()
    assert (statistics.subscriptions, statistics.channels, statistics.parked_requests) == (0, 0, 0)
    assert world.gone("ipc://nobody-we-know") == []
    assert world.gone("ipc://other") == []


def test_pub_sub():
    world = World("a", jobs=(DRIVER, OTHER))
    assert world.ask(m.Subscribe("c"), OTHER) == Done()
    world.tell(m.Publish("c", b"x"), DRIVER)
    assert world.ask(m.Unsubscribe("c"), OTHER) == Done()
    world.tell(m.Publish("c", b"y"), DRIVER)
    assert world.sent(Published) == [Published("c", b"x")]


def test_the_store_is_reached_by_messages():
    world = World("a")
    assert world.ask(m.KvPut("n", b"k", b"v")) == m.KvAnswer(True)
    assert world.ask(m.KvGet("n", b"k")) == m.KvAnswer(True, b"v")
    assert world.ask(m.KvKeys("n")) == m.KvKeyList((b"k",))
    assert world.ask(m.KvPut("n", b"k" * 5000, b"v")).kind == "Overloaded"
    assert world.ask(m.KvDelete("n", b"k")) == m.KvAnswer(True)
    assert world.tell(m.KvGet("n", b"k"), DRIVER) == []  # nobody waits for an answer


# ---- operator
def test_status():
    world = World("a", "b")
    world.create("x")
    world.started("x")
    world.create("y", holds={"GPU": 1})
    world.now += 5
    status = world.ask(m.GetStatus())
    assert status.cluster_id == CLUSTER
    assert [info.node_id for info in status.nodes] == [b"a", b"b"]
    assert [job.job_id for job in status.jobs] == [JOB]
    assert (status.actors["ALIVE"], status.actors["PENDING_CREATION"], status.actors["DEAD"]) == (1, 1, 0)
    assert status.uptime_s == 5
    assert [info.actor_id for info in status.pending_actors] == [b"y"]


def test_stop():
    world = World("a", "b")
    world.take()
    assert world.ask(m.StopCluster()) == Done()
    kinds = [type(effect) for effect in world.take()]
    assert kinds[0] is Reply  # the answer leaves before the node it may live on stops
    world.ask(m.StopCluster())
    assert [len(world.sent(StopNode, raylet(name))) for name in "ab"] == [1, 1]


def test_statistics():
    world = World("a", "b")
    world.create("x", holds={"GPU": 1})
    world.follow("x")
    world.ask(m.KvPut("n", b"k", b"vv"))
    world.tell(m.ExportFunction(JOB, b"k", "f", b"code"))
    world.gone("ipc://b")
    figures = world.machine.statistics()
    assert (figures.nodes_alive, figures.nodes_dead, figures.jobs_running) == (1, 1, 1)
    assert (figures.actors_waiting, figures.subscriptions) == (1, 1)
    assert (figures.kv_bytes, figures.functions_bytes) == (3, 4)
    with pytest.raises(AttributeError):
        figures.kv_bytes = 0
    assert "nodes_alive=1" in repr(world.machine)


# ---- what a peer can send
def test_a_message_for_somebody_else_is_refused_not_fatal():
    world = World("a")
    body = LogLines("n", 1, "a", is_stderr=False, lines=())
    assert world.ask(body).kind == "InternalError"
    assert world.tell(body, DRIVER) == []


def test_every_message_of_ours_is_handled():
    answers = (m.NodeRegistered, m.NodeList, m.JobRegistered, m.JobList, m.KvAnswer, m.KvKeyList, m.FunctionFound)
    answers += (m.ActorRegistered, m.ActorList, m.Status)
    ours = [value for value in vars(m).values() if isinstance(value, type) and value.__module__ == m.__name__]
    handled = World("a").machine._handlers
    assert [cls for cls in ours if cls not in answers and cls not in handled] == []
    assert [cls for cls in handled if cls not in ours] == [PeerGone]


def test_timers_are_not_pushed_ahead_of_themselves():
    world = World("a", "b", CPU=1)
    for name in "ab":
        world.report(name, CPU=0)
    world.create("x", holds={"CPU": 1})
    first = world.timers["placement"].at_s
    for _ in range(5):
        effects = world.ask(m.KvGet("n", b"k"))
        assert not isinstance(effects, SetTimer)
    assert world.timers["placement"].at_s == first


def test_check_can_fail():
    world = World("a")
    world.create("x")
    for spoil in (
        lambda g: g.actors.counts.update(ALIVE=3),
        lambda g: g.actors.by_name.update({("n", "x"): b"?"}),
        lambda g: g.actors.by_node.clear(),
        lambda g: g.jobs.pins.update({JOB: 1}),
        lambda g: g.nodes.by_raylet.update({Address("?", "raylet"): b"?"}),
        lambda g: g.nodes.alive.clear(),
    ):
        spoiled = World("a")
        spoiled.create("x")
        spoil(spoiled.machine)
        with pytest.raises(AssertionError):
            spoiled.machine.check()
    world.machine.check()
