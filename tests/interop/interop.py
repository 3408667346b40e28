"""Runs the checks one after the other and prints a line for each; see README.md."""

import argparse
import pathlib
import shutil
import signal
import sys
import time
import traceback

import checks
import clients  # noqa: F401  (each import registers its checks, in this order)
import secure_clients  # noqa: F401
import scanners  # noqa: F401
import mtas  # noqa: F401
import smarthosts  # noqa: F401
import tls  # noqa: F401
import checkup  # noqa: F401
import secure_smarthosts  # noqa: F401
import tokens  # noqa: F401
import device_login  # noqa: F401
import octets  # noqa: F401
import faults  # noqa: F401
import notices  # noqa: F401
import mailers  # noqa: F401
import rewriting  # noqa: F401
import trips  # noqa: F401
import crowd  # noqa: F401
import stalls  # noqa: F401
import settings  # noqa: F401
import process  # noqa: F401
import privileges  # noqa: F401
import packaging  # noqa: F401
import names  # noqa: F401
import network  # noqa: F401
import tools  # noqa: F401
import tiny  # noqa: F401
import damage  # noqa: F401
import strace_order  # noqa: F401
import kill  # noqa: F401
import soak  # noqa: F401


def out_of_time(_signal, _frame):
    raise checks.Failure("out of time")


def run(check, options):
    """One check; returns None or the reason why it failed, and prints its line."""
    world = checks.World(pathlib.Path(options.folder) / check.name, options)
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(check.seconds)
    start = time.monotonic()
    try:
        figures = check.function(world)
        reason = None
    except checks.Failure as failure:
        reason = str(failure)
    except Exception as failure:  # a fault of the check or a refused connection: a failure, with its place
        reason = f"{type(failure).__name__}: {failure}"
        (world.folder / "traceback").write_text(traceback.format_exc())
    finally:
        signal.alarm(0)
    try:
        world.cleanup()
    except checks.Failure as failure:
        reason = reason or str(failure)
    took = time.monotonic() - start
    if reason is None:
        if not options.keep:
            shutil.rmtree(world.folder, ignore_errors=True)
        print(f"ok {check.name} {figures or ''} ({took:.1f} s)", flush=True)
    else:
        print(f"FAIL {check.name} {' '.join(reason.split())} ({took:.1f} s)", flush=True)
    return reason


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("names", nargs="*", help="only checks whose name begins so")
    arguments.add_argument("--folder", default="target/interop")
    arguments.add_argument("--keep", action="store_true", help="keep the folders of checks that passed, too")
    arguments.add_argument("--kills", type=int, default=100)
    arguments.add_argument("--soak-seconds", type=int, default=60)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--list", action="store_true")
    options = arguments.parse_args()
    chosen = [
        c for c in checks.CHECKS if not options.names or any(c.name.startswith(n) for n in options.names)
    ]
    if options.list:
        for check in chosen:
            print(check.name)
        return 0
    failed = sum(run(check, options) is not None for check in chosen)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
