"""Run decoders under atheris, by hand: ``python -m tests.fuzz json_frames -max_total_time=600``.

Without a name each runs for a minute, in a process of its own, and the figures are printed. atheris is no dependency:
``python -m pip install atheris``. What it finds is left in the current directory as ``crash-...``.
"""

import contextlib
import logging
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random


def fuzz(name: str, options: list[str]) -> None:
    """Run one decoder until it fails or its time is over."""
    import atheris

    with atheris.instrument_imports(include=["signalr_upstream", "tests.fuzz.outcomes"]):
        from tests.fuzz.decoders import TARGETS
        from tests.fuzz.edits import mutated
        from tests.fuzz.outcomes import look_at

    target = TARGETS[name]
    logging.getLogger("signalr_upstream").setLevel(logging.ERROR)  # else published_keys warns at every run

    def one(data: bytes) -> None:
        with contextlib.suppress(*target.refusals):
            look_at(target.decode(data))

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        changed = mutated(data, target.form, random) if random.random() < 0.5 else None
        return atheris.Mutate(data, max_size) if changed is None or len(changed) > max_size else changed

    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds):
            (Path(corpus) / str(number)).write_bytes(seed)
        # What decodes is C and shows atheris nothing: without -keep_seed all seeds shrink to one byte each.
        command = [sys.argv[0], corpus, "-keep_seed=1", "-len_control=0", *options]
        atheris.Setup(command, one, custom_mutator=mutate)
        atheris.Fuzz()


def fuzz_all(options: list[str]) -> int:
    """Run every decoder; how many failed."""
    from tests.fuzz.decoders import TARGETS

    failed = 0
    for name in TARGETS:
        command = [
            sys.executable,
            "-m",
            "tests.fuzz",
            name,
            "-max_total_time=60",
            "-print_final_stats=1",
            *options,
        ]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        runs = re.search(r"number_of_executed_units: (\d+)", ended.stderr)
        coverage = re.findall(r"cov: (\d+)", ended.stderr)
        print(
            f"{name:20} {'ok' if ended.returncode == 0 else 'FAILED':7}"
            f"{int(runs[1]) if runs else 0:>12,} runs{coverage[-1] if coverage else '?':>8} edges",
            flush=True,
        )
        if ended.returncode:
            failed += 1
            print(ended.stderr[-3000:])
    return failed


if __name__ == "__main__":
    names = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    flags = [argument for argument in sys.argv[1:] if argument.startswith("-")]
    if names:
        fuzz(names[0], flags)
    else:
        sys.exit(fuzz_all(flags))
