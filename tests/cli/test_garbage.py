"""A process that serves looks for garbage seldom, and not through what stays."""

import gc

from signalr_upstream.cli.garbage import NEW_OBJECTS, collect_less_garbage


def test_what_is_there_is_left_alone_and_what_comes_is_looked_at_seldom() -> None:
    before = gc.get_threshold()
    stays: list[object] = [[]]

    collect_less_garbage()
    try:
        looked_at = {id(each) for each in gc.get_objects()}
        assert id(stays) not in looked_at
        assert gc.get_threshold()[0] == NEW_OBJECTS > before[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
