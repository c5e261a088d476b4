"""The decisions of the harness, without sockets: python3 -B -m unittest discover -s faults -t . (in benches/resilience)."""

import os
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

# `run` does the same: what starts and reads processes is shared with benches/compare.
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "compare"))

from . import balance, cells, plot, storm  # noqa: E402
from .bench import Came, of_interest, percentile  # noqa: E402
from .board import DELAY_MICROSECONDS, FAIL_PER_MILLION, SEEN, Board  # noqa: E402


class Figures(unittest.TestCase):
    def test_all_that_is_not_200_is_an_error_and_all_count_for_latency(self):
        records = [(0, 0.01, 200), (0, 0.02, 200), (0, 5.0, "timeout"), (0, 0.001, 502)]
        found = Came(records, [3, 1], [0, 0], 7).summary()
        self.assertEqual((found["requests"], found["errors"], found["seen"]), (4, 2, 4))
        self.assertEqual(found["kinds"], {"502": 1, "timeout": 1})
        self.assertEqual((found["p50"], found["max"]), (20.0, 5000.0))

    def test_a_percentile_is_of_what_was_measured(self):
        self.assertEqual(percentile([1, 2, 3, 4], 0.5), 3)
        self.assertEqual(percentile([1, 2, 3, 4], 0.999), 4)
        self.assertEqual(percentile([1], 1.0), 1)

    def test_metrics_that_stand_at_zero_are_left_out(self):
        page = '# TYPE x counter\npillion_retry_attempts_total{cause="connect"} 3\npillion_retry_denied_total 0\nother 1\n'
        self.assertEqual(of_interest(page), {'pillion_retry_attempts_total{cause="connect"}': 3.0})


class Tables(unittest.TestCase):
    FOUND = {"requests": 4000, "errors": 1, "p50": 9.94, "p99": 1234.5, "max": 2000.0, "seen": 4790, "metrics": {}}

    def test_a_row_for_each_variant_and_its_name_once(self):
        text = cells.table({"killed": {"without": self.FOUND, "tuned": self.FOUND}})
        self.assertIn("| killed, back after 2 s | without | 4,000 | 1 | 9.9 ms | 1,234 ms | 2,000 ms | 4,790 |", text)
        self.assertIn("|  | tuned |", text)

    def test_what_a_budget_allows(self):
        text = storm.table({"fifth": self.FOUND, "fifth-unbounded": self.FOUND})
        self.assertIn("| 20% | 3 attempts | 4,000 | 4,790 | 790 | 834 |  | 1 |", text)
        self.assertIn("| 20% | 3 attempts, no budget to speak of | 4,000 | 4,790 | 790 |  |  | 1 |", text)

    def test_an_unknown_row_is_refused_with_those_there_are(self):
        with self.assertRaisesRegex(SystemExit, "unknown rows kiled; known: killed, frozen"):
            cells.chosen("kiled", cells.ROWS)
        self.assertEqual(cells.chosen("frozen", cells.ROWS), ["frozen"])

    def test_settings_are_named_as_in_a_configuration(self):
        self.assertEqual(balance.written("consistent_hash, max_load"), "`consistent_hash`, `max_load: 1.25`")


class Drawing(unittest.TestCase):
    def test_it_is_svg_with_a_line_for_each(self):
        curves = [("a", "#111", [0.001, 0.002]), ("b", "#222", [0.5, 100.0])]
        root = ElementTree.fromstring(plot.percentiles("title", curves))
        lines = root.findall("{http://www.w3.org/2000/svg}polyline")
        self.assertEqual(len(lines), 2)
        points = [tuple(map(float, point.split(","))) for point in lines[1].get("points").split()]
        # Nothing leaves the frame, however slow it was.
        self.assertTrue(all(plot.TOP <= y <= plot.HEIGHT - plot.BOTTOM for _, y in points))


class Boards(unittest.TestCase):
    def test_who_maps_the_file_sees_what_others_write(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "board")
            ours = Board(path, 2)
            theirs = Board(path)
            theirs.add(1, SEEN)
            ours.order(1, delay=0.5, failing=0.2)
            self.assertEqual((ours.get(1, SEEN), ours.get(0, SEEN)), (1, 0))
            self.assertEqual((theirs.get(1, DELAY_MICROSECONDS), theirs.get(1, FAIL_PER_MILLION)), (500_000, 200_000))


if __name__ == "__main__":
    unittest.main()
