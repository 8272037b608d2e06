"""Options of describing that make no sense are refused in one line."""

import pytest

from mulap.corpora.described.tracks import DescribeOptions


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"clip_seconds": 2.0}, "clip_seconds is 2. Give 3 or more."),
        ({"group_by": "mood"}, "group_by is 'mood'. Give one of artist, album, folder, track."),
        ({"captions": 0}, "must be 1 or more"),
        ({"max_clips": -1}, "must be 1 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused(values, says):
    with pytest.raises(ValueError, match=says):
        DescribeOptions(**values)


def test_all_clips_of_a_track_may_be_asked_for():
    assert DescribeOptions(max_clips=None).max_clips is None
