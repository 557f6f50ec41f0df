"""The README's example works when pasted."""

import os
import re
import subprocess
import sys
import unittest

from server import HERE, Server


class Readme(unittest.TestCase):
    def test_the_example_prints_a_completion_and_ends(self):
        with open(os.path.join(HERE, "..", "..", "..", "README.md"), encoding="utf-8") as file:
            example = re.search(r"```python\n(.*?)```", file.read(), re.S)[1]
        self.assertLessEqual(len(example.splitlines()), 10)
        with Server("micro") as server:
            pasted = example.replace("http://127.0.0.1:9601", server.url)
            self.assertNotEqual(pasted, example)
            done = subprocess.run([sys.executable, "-c", pasted], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertGreater(len(done.stdout), 20)
