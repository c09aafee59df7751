"""The list of security checks fits the code: each of them still stands where the list says."""

from pathlib import Path

import pytest

from .mutations.checks import Check, Group, load

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("group", load(), ids=lambda group: group.name)
def test_each_check_stands_once_in_its_file_and_its_tests_are_there(group: Group) -> None:
    def count(check: Check) -> int:
        return (ROOT / "signalr_upstream" / check.file).read_text().count(check.old)

    assert {check.name: n for check in group.checks if (n := count(check)) != 1} == {}
    assert [check.name for check in group.checks if check.old == check.new or not check.old] == []
    assert [test for test in group.tests if not (ROOT / test).is_file()] == []
    names = [check.name for check in group.checks]
    assert len(set(names)) == len(names) > 0
