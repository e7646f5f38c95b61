"""A few of each kind of input that people get wrong; `experiments/reliability/bad_inputs.py` runs hundreds."""

from pathlib import Path

import pytest

RELIABILITY = Path(__file__).parents[2] / "experiments" / "reliability"


@pytest.fixture(scope="module")
def rows_and_faults(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(RELIABILITY))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        import bad_inputs

        return bad_inputs.report(dict.fromkeys(bad_inputs.KINDS, 6), 7, tmp_path_factory.mktemp("inputs"), False)


def test_inputs_of_every_kind_are_refused_in_one_line_or_do_what_they_say(rows_and_faults):
    rows, faults = rows_and_faults
    assert not faults and len(rows) == 8


def test_some_of_each_kind_are_refused_and_some_accepted(rows_and_faults):
    for row in rows_and_faults[0]:
        number, refused, accepted, faults = map(int, row.strip("| ").split(" | ")[1:])
        assert refused and accepted and refused + accepted + faults == number == 6, row
