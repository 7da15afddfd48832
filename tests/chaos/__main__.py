"""`python -m tests.chaos R4`: runs rows of the reliability table, a line each; fails if one fails or is unknown."""

import argparse
import sys

from tests.chaos import broker_full, broker_kill, poison, relay_kill
from tests.chaos.broker import BrokerMissing

ROWS = {"R4": relay_kill.run, "R5": broker_kill.run, "R6": broker_full.run, "R7": poison.run}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("rows", nargs="+", help=f"rows to run: {', '.join(ROWS)}")
    parser.add_argument("--writes", type=int, default=10_000, help="writes, or good messages (10000)")
    parser.add_argument("--kills", type=int, default=50, help="kill -9 of each kind of process under test (50)")
    options = parser.parse_args()
    rows = [row for given in options.rows for row in given.split(",") if row]
    if unknown := [row for row in rows if row not in ROWS]:
        print(f"{' '.join(unknown)} unknown: there is {', '.join(ROWS)}")
        return 2
    failed = False
    for row in rows:
        try:
            passed, figures = ROWS[row](writes=options.writes, kills=options.kills)
        except BrokerMissing as missing:
            passed, figures = False, str(missing)
        print(f"{row} {'pass' if passed else 'FAIL'} {figures}", flush=True)
        failed |= not passed
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
