"""Load and faults, by hand.

    python -m tests.loads NAME [--minutes 10] [--pace 0.05] [--traced]

NAME is full_load, rolling, worker_killed, rest_down or reconnect_storm; the module of that name says what happens.

Each starts what it needs on loopback, prints figures, and ends with a verdict, which is also its exit status.
``--pace`` leaves so many seconds from call to call of one connection; without it the machine is at full load.
``--traced`` runs tracemalloc in the apps, which makes them several times slower: for a shorter run of its own.
"""

import argparse
import importlib
import sys

DRILLS = ("full_load", "rolling", "worker_killed", "rest_down", "reconnect_storm")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.loads", description="Load and faults, by hand.")
    parser.add_argument("name", choices=DRILLS)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--traced", action="store_true", help="count memory with tracemalloc: slow")
    parser.add_argument("--pace", type=float, default=0.0, help="seconds from call to call of a connection")
    options = parser.parse_args()
    drill = importlib.import_module(f"tests.loads.{options.name}").drill
    complaints: list[str] = drill(options.minutes * 60, traced=options.traced, pace=options.pace)
    print()
    for complaint in complaints:
        print(f"WRONG: {complaint}")
    print(f"{options.name}: {'FAILED' if complaints else 'passed'}")
    sys.exit(bool(complaints))


if __name__ == "__main__":
    main()
