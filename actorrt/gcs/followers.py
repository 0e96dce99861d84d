"""Who wants to hear of which actor."""

from __future__ import annotations

from actorrt.kernel.effects import Effect, Send
from actorrt.kernel.limits import PEERS_MAX
from actorrt.kernel.message import Address
from actorrt.owner.messages import ActorChanged
from actorrt.wire.records import ActorInfo


class Followers:
    """Subscribers by actor, and actors by subscribing process (to forget it quickly)."""

    def __init__(self) -> None:
        self.of_actor: dict[bytes, dict[Address, None]] = {}
        self.of_process: dict[str, dict[bytes, None]] = {}

    def add(self, actor_id: bytes, follower: Address) -> bool:
        """Add a follower (twice is once); False when the actor has too many."""
        followers = self.of_actor.setdefault(actor_id, {})
        if len(followers) >= PEERS_MAX and follower not in followers:
            return False
        followers[follower] = None
        self.of_process.setdefault(follower.process, {})[actor_id] = None
        return True

    def remove(self, actor_id: bytes, follower: Address) -> None:
        """Remove a follower, if it is one."""
        followers = self.of_actor.get(actor_id, {})
        if follower in followers:
            del followers[follower]
            if not any(address.process == follower.process for address in followers):
                self._forget(follower.process, actor_id)
            if not followers:
                del self.of_actor[actor_id]

    def drop_actor(self, actor_id: bytes) -> None:
        """The actor is dead and everybody was told."""
        for follower in list(self.of_actor.get(actor_id, {})):
            self.remove(actor_id, follower)

    def drop_process(self, process: str) -> None:
        """The process is gone."""
        for actor_id in list(self.of_process.get(process, {})):
            for follower in [address for address in self.of_actor[actor_id] if address.process == process]:
                self.remove(actor_id, follower)

    def tell(self, info: ActorInfo, out: list[Effect]) -> None:
        """Send the news to the actor's followers."""
        followers = self.of_actor.get(info.actor_id)
        if followers:
            body = ActorChanged(info)
            out.extend(Send(follower, body) for follower in followers)

    def count(self) -> int:
        """Number of subscriptions."""
        return sum(map(len, self.of_actor.values()))

    def check(self) -> None:
        """Assert that both tables say the same."""
        pairs: dict[tuple[str, bytes], None] = {}
        for actor_id, followers in self.of_actor.items():
            assert followers, "an actor without followers is kept"
            assert len(followers) <= PEERS_MAX
            pairs.update(((follower.process, actor_id), None) for follower in followers)
        listed = {(process, actor_id): None for process, ids in self.of_process.items() for actor_id in ids}
        assert pairs == listed

    def _forget(self, process: str, actor_id: bytes) -> None:
        actors = self.of_process[process]
        del actors[actor_id]
        if not actors:
            del self.of_process[process]
