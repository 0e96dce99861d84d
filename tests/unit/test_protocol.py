import pytest

from actorrt import protocol
from actorrt.gcs import messages as gcs
from actorrt.kernel.message import Done, Message, RequestFailed
from actorrt.objects import messages as objects
from actorrt.owner import messages as owner
from actorrt.raylet import messages as raylet
from actorrt.wire.codec import BadMessage
from actorrt.worker import messages as worker


def test_every_message_of_every_component_is_in_the_union_once():
    written = [
        value
        for module in (gcs, raylet, owner, worker, objects)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Message) and value.__module__ == module.__name__
    ]
    assert len(written) > 80
    assert list(protocol.MESSAGES) == [Done, RequestFailed, *written]
    tags = [cls.__struct_config__.tag for cls in protocol.MESSAGES]
    assert len(set(tags)) == len(tags)


def test_a_stranger_is_refused():
    class Stranger(Message):
        pass

    codec = protocol.make_codec()
    with pytest.raises(BadMessage, match="Stranger"):
        codec.decode([bytes(frame) for frame in codec.encode("a", "b", Stranger())])
