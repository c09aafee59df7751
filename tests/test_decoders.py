"""Every decoder takes its bytes or refuses them, and raises nothing else; hypothesis, where atheris runs by hand."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .fuzz.decoders import TARGETS
from .fuzz.edits import mutated


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_decoder_refuses_what_it_cannot_read(name: str, data: st.DataObject) -> None:
    target = TARGETS[name]
    seed = data.draw(st.sampled_from(target.seeds))
    cut, noise = data.draw(st.integers(0, len(seed))), data.draw(st.binary(max_size=40))
    at = data.draw(st.integers(0, len(seed)))

    for given_bytes in (
        noise,
        seed[:cut],
        seed[:at] + noise + seed[at:],
        seed[:at] + noise + seed[at + len(noise) :],
        mutated(seed, target.form, data.draw(st.randoms(use_true_random=False))) or seed,
    ):
        with contextlib.suppress(*target.refusals):
            target.decode(given_bytes)


@pytest.mark.parametrize("name", TARGETS)
def test_the_first_bytes_of_a_decoder_are_in_its_form(name: str) -> None:
    """Else the fuzzers would begin with what is refused at once."""
    target = TARGETS[name]
    target.decode(target.seeds[0])
    if target.form is not None:
        target.decode(target.form.write(target.form.read(target.seeds[0])))
