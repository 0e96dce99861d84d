"""What concerns actors, under the name users of Ray look for it: ``actorrt.actor.exit_actor()``."""

from __future__ import annotations

from actorrt.api.actors import ActorClass, ActorHandle, ActorMethod, exit_actor, method

__all__ = ["ActorClass", "ActorHandle", "ActorMethod", "exit_actor", "method"]
