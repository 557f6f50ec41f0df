"""The README's example works when pasted."""

import os
import re
import subprocess
import sys
import unittest

from server import HERE, Server


class Readme(unittest.TestCase):
    def run_example(self, server):
        """What the example prints when it is pasted, with the server's own address."""
        with open(os.path.join(HERE, "..", "..", "..", "README.md"), encoding="utf-8") as file:
            example = re.search(r"```python\n(.*?)```", file.read(), re.S)[1]
        self.assertLessEqual(len(example.splitlines()), 10)
        pasted = example.replace("http://127.0.0.1:9601", server.url)
        self.assertNotEqual(pasted, example)
        done = subprocess.run([sys.executable, "-c", pasted], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_the_example_prints_a_completion_and_ends(self):
        with Server("micro") as server:
            self.assertGreater(len(self.run_example(server)), 20)

    def test_the_demonstration_model_completes_it_with_sense(self):
        # Each run takes another luck, and the model is small: most stories must be whole, not each.
        with Server() as server:
            told = [self.run_example(server) for _ in range(3)]
        whole = [text for text in told if re.search(r"there was .+ found .+ showed it to .+ friends\.\s*$", text)]
        self.assertGreaterEqual(len(whole), 2, told)
