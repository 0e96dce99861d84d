import pytest

from tests.transcripts.stories import STORIES, golden, tell

REWRITE = "if the change is meant: python -m tests.transcripts.stories"


@pytest.mark.parametrize("name", list(STORIES))
def test_the_story_is_told_as_written_down(name):
    assert tell(STORIES[name]) == golden(name).read_text(encoding="utf-8"), REWRITE


def test_every_golden_file_has_its_story():
    assert sorted(path.stem for path in golden("x").parent.glob("*.txt")) == sorted(STORIES)
