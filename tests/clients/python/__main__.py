"""Runs the Python client tests: `python tests/clients/python [NAME…]`.

A NAME is a module, a class or a test (`test_cancel`, `test_cancel.Cancel`, …). The last line says how
many passed and failed; a skipped test counts as failed, because nothing here is skipped silently.
"""

import os
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import server  # noqa: E402 - it stands beside this file


class Result(unittest.TextTestResult):
    """Adds how long each test took, to find the slow ones."""

    def startTest(self, test):
        self._began = time.monotonic()
        super().startTest(test)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.stream.writeln("      %.1f s" % (time.monotonic() - self._began))


def main():
    for variable in ("LOLLMSD_BIN", "LOLLMSD_MAKE_MODEL"):
        if not os.environ.get(variable):
            sys.exit("%s is not set; run tools/test python" % variable)
    loader = unittest.defaultTestLoader
    names = sys.argv[1:]
    suite = loader.loadTestsFromNames(names) if names else loader.discover(HERE, top_level_dir=HERE)
    runner = unittest.TextTestRunner(sys.stdout, verbosity=2, resultclass=Result, warnings="ignore")
    result = runner.run(suite)
    failed = len(result.failures) + len(result.errors) + len(result.skipped) + len(result.unexpectedSuccesses)
    print("%d passed, %d failed" % (result.testsRun - failed if result.testsRun > failed else 0, failed))
    sys.stdout.flush()
    server.remove_models()
    # A client library's thread that still runs must not keep the runner alive.
    os._exit(1 if failed or not result.testsRun else 0)


main()
