import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorrt.kernel.supervise import (
    ChildSpec,
    Forget,
    GiveUp,
    Intensity,
    RestartPolicy,
    Start,
    Stop,
    Strategy,
    Supervisor,
)

ABC = [ChildSpec(name) for name in "abc"]


def test_policies():
    specs = [ChildSpec(policy.value, policy) for policy in RestartPolicy]
    supervisor = Supervisor(specs, 0.0)
    assert supervisor.ended("permanent", normal=True, now=100.0) == [Start("permanent", 0.0)]
    assert supervisor.ended("transient", normal=False, now=200.0) == [Start("transient", 0.0)]
    assert supervisor.ended("transient", normal=True, now=300.0) == [Forget("transient")]
    assert supervisor.ended("temporary", normal=False, now=400.0) == [Forget("temporary")]
    assert supervisor.running == ("permanent",)
    assert supervisor.ended("temporary", normal=False, now=500.0) == []
    assert supervisor.ended("unknown", normal=False, now=500.0) == []


def test_delays_double_and_are_forgotten():
    supervisor = Supervisor(
        [ChildSpec("a", delay_min_s=1.0, delay_max_s=3.0)], 0.0, intensity=Intensity(restarts_max=9, window_s=10.0)
    )
    delays = []
    now = 0.0
    for _ in range(4):
        (start,) = supervisor.ended("a", normal=False, now=now)
        delays.append(start.delay_s)
        now += start.delay_s
    assert delays == [1.0, 2.0, 3.0, 3.0]
    assert supervisor.ended("a", normal=False, now=now + 10.0) == [Start("a", 0.0)]
    assert supervisor.ended("a", normal=False, now=now + 11.0) == [Start("a", 1.0)]


def test_one_for_all():
    supervisor = Supervisor(ABC, 0.0, strategy=Strategy.ONE_FOR_ALL)
    decisions = supervisor.ended("b", normal=False, now=100.0)
    assert decisions == [Stop("c"), Stop("a"), Start("a", 0.0), Start("b", 0.0), Start("c", 0.0)]


def test_rest_for_one():
    supervisor = Supervisor(ABC, 0.0, strategy=Strategy.REST_FOR_ONE)
    assert supervisor.ended("b", normal=False, now=100.0) == [Stop("c"), Start("b", 0.0), Start("c", 0.0)]
    assert supervisor.ended("c", normal=False, now=200.0) == [Start("c", 0.0)]


def test_giving_up():
    supervisor = Supervisor(ABC, 0.0, intensity=Intensity(restarts_max=2, window_s=10.0))
    assert supervisor.ended("a", normal=False, now=1.0) == [Start("a", 0.1)]
    assert supervisor.ended("b", normal=False, now=2.0) == [Start("b", 0.1)]
    # The first of three lies outside the window.
    assert supervisor.ended("a", normal=False, now=11.5)[0] == Start("a", 0.0)
    decisions = supervisor.ended("a", normal=False, now=11.9, text="signal 9")
    assert decisions == [Stop("c"), Stop("b"), GiveUp("a", "a ended 3 times within 10 s: signal 9")]
    assert supervisor.running == ()
    assert supervisor.ended("b", normal=False, now=12.0) == []
    supervisor.check()


def test_names_are_unique():
    with pytest.raises(ValueError, match="share a name"):
        Supervisor([ChildSpec("a"), ChildSpec("a")], 0.0)


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.floats(0, 3))),
    st.sampled_from(list(Strategy)),
    st.integers(0, 4),
)
def test_whatever_happens(ends, strategy, restarts_max):
    """What is started is known and was not running; nobody is restarted more often than allowed."""
    specs = [ChildSpec(name, policy) for name, policy in zip("abc", RestartPolicy, strict=True)]
    supervisor = Supervisor(specs, 0.0, strategy=strategy, intensity=Intensity(restarts_max, 5.0))
    running, now, restarts = set("abc"), 0.0, []
    for name, normal, later_s in ends:
        now += later_s
        decisions = supervisor.ended(name, normal=normal, now=now)
        if decisions:
            running.discard(name)
        for decision in decisions:
            if isinstance(decision, Stop):
                running.remove(decision.name)
            elif isinstance(decision, Start):
                assert decision.name not in running
                running.add(decision.name)
        if any(isinstance(decision, Start) for decision in decisions):
            restarts.append(now)
        supervisor.check()
        assert set(supervisor.running) == running
        assert len([at for at in restarts if now - at <= 5.0]) <= restarts_max
