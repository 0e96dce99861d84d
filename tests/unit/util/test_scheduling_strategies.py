"""NodeAffinitySchedulingStrategy checks what it is given at once."""

import pickle

import pytest

from actorrt.util.scheduling_strategies import NodeAffinitySchedulingStrategy

NODE = "ab" * 16


def test_good():
    strategy = NodeAffinitySchedulingStrategy(NODE, False)
    assert (strategy.node_id, strategy.soft, strategy.node_id_bytes()) == (NODE, False, bytes.fromhex(NODE))
    assert strategy == NodeAffinitySchedulingStrategy(node_id=NODE, soft=False)
    assert hash(strategy) == hash(NodeAffinitySchedulingStrategy(node_id=NODE, soft=False))
    assert pickle.loads(pickle.dumps(strategy)) == strategy


@pytest.mark.parametrize("node_id", ["xyz", "", "f" * 10, "f" * 32, "g" * 32, "ab " * 16, "0" * 64])
def test_malformed_node_id(node_id):
    with pytest.raises(ValueError, match="node_id"):
        NodeAffinitySchedulingStrategy(node_id, soft=True)


def test_types():
    with pytest.raises(TypeError, match="node_id must be a hex string"):
        NodeAffinitySchedulingStrategy(bytes(16), soft=True)
    with pytest.raises(TypeError, match="soft must be True or False"):
        NodeAffinitySchedulingStrategy(NODE, soft=None)


def test_immutable():
    with pytest.raises(AttributeError):
        NodeAffinitySchedulingStrategy(NODE, soft=True).soft = False


def test_not_yet():
    with pytest.raises(ValueError, match="_fail_on_unavailable is not supported yet"):
        NodeAffinitySchedulingStrategy(NODE, soft=False, _fail_on_unavailable=True)
