"""`python -m tests.chaos R4`: runs rows of the reliability table, a line each; fails if one fails or is unknown."""

import argparse
import sys

from tests.chaos import relay_kill, streams_crowd, streams_reset, streams_resume

ROWS = {"R4": relay_kill.run, "R10": streams_resume.run, "R11": streams_reset.run, "R12": streams_crowd.run}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("rows", nargs="+", help=f"rows to run: {', '.join(ROWS)}")
    parser.add_argument("--writes", type=int, default=2000, help="committed writes (2000)")
    parser.add_argument("--kills", type=int, default=20, help="kill -9 of the process under test; R10: reconnects (20)")
    options = parser.parse_args()
    rows = [row for given in options.rows for row in given.split(",") if row]
    if unknown := [row for row in rows if row not in ROWS]:
        print(f"{' '.join(unknown)} unknown: there is {', '.join(ROWS)}")
        return 2
    failed = False
    for row in rows:
        passed, figures = ROWS[row](writes=options.writes, kills=options.kills)
        print(f"{row} {'pass' if passed else 'FAIL'} {figures}", flush=True)
        failed |= not passed
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
