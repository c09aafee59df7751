"""The folder that workers share their metrics in, as files of prometheus_client: made, cleared, kept right."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from signalr_upstream.cli.metrics_folder import count_no_more, prepare_metrics_folder
from signalr_upstream.errors import ConfigurationError

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is named and is not there."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "deep" / "metrics"))
    return tmp_path / "deep" / "metrics"


@pytest.fixture
def ended() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_without_the_variable_nothing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gauge_livesum_7.db").touch()

    prepare_metrics_folder()
    count_no_more(7)

    assert names(tmp_path) == {"gauge_livesum_7.db"}


def test_the_folder_is_made(shared: Path) -> None:
    prepare_metrics_folder()

    assert names(shared) == set()


def test_what_ended_processes_left_is_removed_and_all_else_stays(shared: Path, ended: int) -> None:
    living = os.getppid()
    stays = {f"counter_{living}.db", f"gauge_livesum_{living}.db", "counter_of_mine.db", f"notes_{ended}.db"}
    kinds = ("counter", "histogram", "summary", "gauge_all", "gauge_livesum", "gauge_mostrecent")
    # In a container, the process that starts next has the number of the one before.
    stale = {f"{kind}_{number}.db" for kind in kinds for number in (ended, os.getpid())}
    shared.mkdir(parents=True)
    for name in stays | stale:
        (shared / name).touch()

    prepare_metrics_folder()

    assert names(shared) == stays


def test_the_files_of_another_users_process_stay(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_yours(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", not_yours)
    shared.mkdir(parents=True)
    (shared / "counter_1.db").touch()

    prepare_metrics_folder()

    assert names(shared) == {"counter_1.db"}


@pytest.mark.parametrize("name", ["", __file__])
def test_what_can_be_no_folder_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, name)

    with pytest.raises(ConfigurationError) as caught:
        prepare_metrics_folder()

    assert f"{VARIABLE} has to name a folder for metrics, and {name!r} is none: " in str(caught.value)


def test_of_a_worker_that_has_ended_what_it_counted_stays(shared: Path) -> None:
    prepare_metrics_folder()
    for kind in ("counter", "histogram", "gauge_livesum", "gauge_livemin"):
        for number in (7, 8):
            (shared / f"{kind}_{number}.db").touch()

    count_no_more(7)

    assert {name for name in names(shared) if name.endswith("_7.db")} == {"counter_7.db", "histogram_7.db"}
    assert len(names(shared)) == 6


def test_without_the_library_there_is_nothing_to_do(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client.multiprocess", None)
    prepare_metrics_folder()
    (shared / "gauge_livesum_7.db").touch()

    count_no_more(7)

    assert names(shared) == {"gauge_livesum_7.db"}


def test_metrics_that_stay_wrong_are_logged_and_end_nothing(
    shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (shared / "gauge_livesum_7.db").mkdir(parents=True)  # not to be removed as a file

    count_no_more(7)

    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "metrics still count worker 7: " in caplog.text
