"""`python -m tests.chaos R4`: runs rows of the reliability table, a line each; fails if one fails or is unknown.

Full size unless told otherwise.
"""

import argparse
import sys
import traceback
from collections.abc import Callable

from tests.chaos import (
    broker_full,
    broker_kill,
    job_kill,
    poison,
    redis_away,
    relay_kill,
    streams_crowd,
    streams_reset,
    streams_resume,
    two_beats,
)
from tests.chaos.broker import BrokerMissing

ROWS: dict[str, Callable[[argparse.Namespace], tuple[bool, str]]] = {
    "R4": lambda size: relay_kill.run(writes=size.writes, kills=size.kills),
    "R5": lambda size: broker_kill.run(writes=size.writes, kills=size.kills),
    "R6": lambda size: broker_full.run(writes=size.writes, kills=size.kills),
    "R7": lambda size: poison.run(writes=size.writes, kills=size.kills),
    "R8": lambda size: job_kill.run_on_rabbitmq(jobs=size.jobs, kills=size.kills),
    "R8-redis": lambda size: job_kill.run_on_redis(jobs=size.jobs, kills=size.kills),
    "R9": lambda size: two_beats.run(minutes=size.minutes),
    "R10": lambda size: streams_resume.run(writes=size.writes, kills=size.reconnects),
    "R11": lambda size: streams_reset.run(writes=size.writes, kills=size.kills),
    "R12": lambda size: streams_crowd.run(writes=size.writes, kills=size.kills),
    "R23": lambda size: redis_away.run(seconds=size.seconds),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("rows", nargs="+", help=f"rows to run: {', '.join(ROWS)}")
    parser.add_argument("--writes", type=int, default=10_000, help="writes, or good messages (10000)")
    parser.add_argument("--kills", type=int, default=50, help="kill -9 of each kind of process under test (50)")
    parser.add_argument("--reconnects", type=int, default=1000, help="R10: streams thrown off (1000)")
    parser.add_argument("--jobs", type=int, default=2000, help="R8: jobs (2000)")
    parser.add_argument("--minutes", type=int, default=10, help="R9: how long, a beat killed in each (10)")
    parser.add_argument("--seconds", type=int, default=60, help="R23: how long Redis is away (60)")
    options = parser.parse_args()
    rows = [row for given in options.rows for row in given.split(",") if row]
    if unknown := [row for row in rows if row not in ROWS]:
        print(f"{' '.join(unknown)} unknown: there is {', '.join(ROWS)}")
        return 2
    failed = False
    for row in rows:
        try:
            passed, figures = ROWS[row](options)
        except BrokerMissing as missing:
            passed, figures = False, str(missing)
        except Exception as error:  # the other rows are still worth running
            traceback.print_exc()
            passed, figures = False, f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"{row} {'pass' if passed else 'FAIL'} {figures}", flush=True)
        failed |= not passed
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
