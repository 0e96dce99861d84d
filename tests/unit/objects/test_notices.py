"""What owners are told."""

from actorrt.kernel.limits import VERIFY_KEYS_MAX
from actorrt.objects.notices import Notices
from actorrt.owner.messages import CopiesAdded, CopiesRemoved, VerifyObjects


def test_one_message_for_each_owner_and_kind():
    effects = []
    notices = Notices(effects, "here")
    for owner, key in (("p", b"1"), ("q", b"2"), ("p", b"3")):
        notices.added(owner, key)
    notices.removed("p", b"4")
    assert effects == []
    notices.flush()
    assert [(effect.dst.process, effect.dst.actor, effect.body) for effect in effects] == [
        ("p", "owner", CopiesAdded((b"1", b"3"), "here")),
        ("q", "owner", CopiesAdded((b"2",), "here")),
        ("p", "owner", CopiesRemoved((b"4",), "here")),
    ]
    notices.check()
    effects.clear()
    notices.flush()
    assert effects == []


def test_a_long_question_is_asked_in_parts():
    effects = []
    keys = [bytes([number % 256, number // 256]) for number in range(VERIFY_KEYS_MAX + 1)]
    Notices(effects, "here").verify("p", keys)
    first, second = [effect.body for effect in effects]
    assert (first, second) == (VerifyObjects(tuple(keys[:-1]), "here"), VerifyObjects((keys[-1],), "here"))


def test_a_process_can_be_dialled():
    effects = []
    Notices(effects, "here").dial("p")
    [effect] = effects
    assert (effect.dst.process, effect.body) == ("p", VerifyObjects((), "here"))
