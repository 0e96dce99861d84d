import pytest

from actorrt.scheduling.labels import (
    Requirement,
    check_key,
    check_labels,
    describe,
    matches,
    parse_requirement,
    parse_selector,
)

LABELS = {"zone": "a", "tier": "gold", "company.com/kind": "spot"}


@pytest.mark.parametrize(
    ("key", "text", "met"),
    [
        ("zone", "a", True),
        ("zone", "b", False),
        ("zone", "!b", True),
        ("zone", "!a", False),
        ("zone", "in(a,b)", True),
        ("zone", "in(b, c)", False),
        ("zone", "in(b, a)", True),
        ("zone", "!in(b,c)", True),
        ("zone", "!in(a)", False),
        ("company.com/kind", "spot", True),
        ("missing", "a", False),
        ("missing", "in(a)", False),
        ("missing", "!a", True),
        ("missing", "!in(a,b)", True),
    ],
)
def test_matches(key, text, met):
    assert matches(LABELS, ((key, text),)) is met


def test_all_requirements_must_be_met():
    assert matches(LABELS, (("zone", "a"), ("tier", "!silver")))
    assert not matches(LABELS, (("zone", "a"), ("tier", "silver")))
    assert matches({}, ())


def test_parse():
    assert parse_requirement("zone", "!in(a, b)") == Requirement("zone", ("a", "b"), negated=True)
    assert parse_requirement("zone", "in") == Requirement("zone", ("in",), negated=False)
    assert parse_selector({"zone": "a", "tier": "!b"}) == (("zone", "a"), ("tier", "!b"))
    assert parse_selector(None) == parse_selector({}) == ()
    assert describe((("zone", "!a"),)) == "{zone: !a}"


@pytest.mark.parametrize(
    ("selector", "error"),
    [
        (["zone"], TypeError),
        ("zone", TypeError),
        ({1: "a"}, TypeError),
        ({"zone": 1}, TypeError),
        ({"zone": None}, TypeError),
        ({"": "a"}, ValueError),
        ({"zone": "a b"}, ValueError),
        ({"zone": "-a"}, ValueError),
        ({"zone": "a-"}, ValueError),
        ({"zone": "!!a"}, ValueError),
        ({"zone": "in(a"}, ValueError),
        ({"zone": "in()"}, ValueError),
        ({"zone": "in(a,)"}, ValueError),
        ({"zone": "in(a,b c)"}, ValueError),
        ({"zone": "x" * 64}, ValueError),
        ({"x" * 64: "a"}, ValueError),
        ({"Upper.com/zone": "a"}, ValueError),
        ({"a..b/zone": "a"}, ValueError),
        ({"/zone": "a"}, ValueError),
        ({"p" * 254 + "/zone": "a"}, ValueError),
    ],
)
def test_bad_selectors(selector, error):
    with pytest.raises(error):
        parse_selector(selector)


def test_error_texts_say_what_was_given_and_what_is_allowed():
    with pytest.raises(ValueError, match=r"label_selector\['zone'\] = 'a b'.*allowed forms: v, !v"):
        parse_selector({"zone": "a b"})
    with pytest.raises(TypeError, match=r"label_selector must be a dict.*list"):
        parse_selector([])


def test_labels_of_a_node():
    assert check_labels({"zone": "a", "empty": ""}) == {"zone": "a", "empty": ""}
    check_key("p" * 253 + "/" + "n" * 63)
    for bad in (["zone"], {"zone": 1}, {2: "a"}):
        with pytest.raises(TypeError):
            check_labels(bad)
    for bad in ({"zo ne": "a"}, {"zone": "!a"}, {"zone": "in(a)"}):
        with pytest.raises(ValueError):
            check_labels(bad)
