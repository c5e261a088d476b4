"""The decisions of the harness, without sockets: python3 -B -m unittest discover -s harness -t . (in benches/compare)."""

import gzip
import io
import os
import tempfile
import unittest
from pathlib import Path

from . import bodies, coded, compression, configs, latency, load, memory, processes, report, scenarios

WRK = """Running 3s test @ http://127.0.0.1:21003/small.json
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   430.10us  120.00us   4.10ms   99.00%
  Latency Distribution
     50%  410.00us
     99%    1.03ms
{errors}  150000 requests in 3.10s, 40.05MB read
{statuses}Requests/sec:  48387.10
"""


class WrkReport(unittest.TestCase):
    def test_a_clean_slice_counts(self):
        found = load.parse(WRK.format(errors="", statuses=""))
        self.assertEqual((found.requests, found.seconds, found.fault), (150000, 3.1, ""))

    def test_the_99th_percentile_is_of_the_latencies(self):
        self.assertEqual(load.parse(WRK.format(errors="", statuses="")).p99_milliseconds, 1.03)

    def test_a_cache_that_asked_the_app_gave_no_hits(self):
        found = load.Slice(requests=10)
        found.missed(0)
        self.assertEqual(found.fault, "")
        found.missed(2)
        self.assertIn("2 requests reached the app", found.fault)

    def test_the_app_says_what_it_was_asked(self):
        page = "Active connections: 2 \nserver accepts handled requests\n 11 12 1300 \nReading: 0 Writing: 1 Waiting: 1 \n"
        self.assertEqual(load.parse_requests(page), 1300)

    def test_a_status_that_is_not_2xx_is_a_fault(self):
        found = load.parse(WRK.format(errors="", statuses="  Non-2xx or 3xx responses: 7\n"))
        self.assertEqual(found.non_2xx, 7)
        self.assertIn("7 answers not 2xx", found.fault)

    def test_socket_errors_are_a_fault(self):
        errors = "  Socket errors: connect 0, read 1, write 2, timeout 3\n"
        found = load.parse(WRK.format(errors=errors, statuses=""))
        self.assertEqual(found.socket_errors, 6)
        self.assertTrue(found.fault)

    def test_no_request_is_a_fault_not_a_division_by_zero(self):
        self.assertTrue(load.parse("unable to connect to 127.0.0.1:1 Connection refused").fault)
        self.assertTrue(load.parse("  0 requests in 3.00s, 0.00B read").fault)


class Run:
    """As much of a run as a report needs: CPU microseconds a request by round, None for a faulty slice."""

    def __init__(self, *costs):
        self.peer = scenarios.Peer("x", "x", 0, [])
        slices = [
            load.Slice(fault="x") if cost is None else load.Slice(requests=1000, seconds=1, cpu_seconds=cost / 1000)
            for cost in costs
        ]
        self.slices = {"load": slices}
        self.requests = self.spans = self.resident_idle = self.resident_after = 0


class Summary(unittest.TestCase):
    def test_ratios_are_taken_within_a_round(self):
        runs = {report.BASELINE: Run(10, 20, 40), "twice": Run(20, 40, 80)}
        self.assertEqual(report.summarize(runs, "load")["twice"]["ratio"], 2)

    def test_a_faulty_slice_leaves_the_medians_and_its_rounds_ratio(self):
        runs = {report.BASELINE: Run(10, None, 10), "peer": Run(20, 90, None)}
        found = report.summarize(runs, "load")["peer"]
        self.assertEqual((found["ratio"], found["rounds_counted"], found["rounds_faulty"]), (2, 2, 1))

    def test_a_peer_that_never_gave_a_good_slice_is_not_in_the_table(self):
        self.assertEqual(report.summarize({"peer": Run(None, None)}, "load"), {})

    def test_without_the_baseline_there_is_no_ratio(self):
        self.assertIsNone(report.summarize({"peer": Run(20)}, "load")["peer"]["ratio"])


class Configurations(unittest.TestCase):
    def test_envoy_traces_only_when_told_the_service(self):
        self.assertNotIn("tracers", configs.envoy(1, 2))
        self.assertIn("service_name: bench", configs.envoy(1, 2, "bench", 3))

    def test_the_body_is_120_bytes_and_has_nothing_nginx_would_expand(self):
        self.assertEqual(len(configs.BODY), 120)
        self.assertFalse(set("$'\\") & set(configs.BODY))


    def test_an_entry_is_1_kib_and_has_nothing_nginx_would_expand(self):
        self.assertEqual(len(configs.ENTRY), 1024)
        self.assertFalse(set("$'\\") & set(configs.ENTRY))

    def test_scripts_have_no_placeholder_left(self):
        script = configs.many_paths("/many/", 7) + configs.pace(6)
        self.assertIn('"/many/" .. number', script)
        self.assertIn("math.random(1, 2 * 6 - 1)", script)
        for placeholder in ["PREFIX", "COUNT", "MEAN"]:
            self.assertNotIn(placeholder, script)


class Memory(unittest.TestCase):
    def answer(self, text):
        return memory.read_answer(io.BytesIO(text.replace("\n", "\r\n").encode()))

    def test_an_answer_ends_where_its_length_says(self):
        self.assertEqual(self.answer("HTTP/1.1 200 OK\nAge: 1\ncontent-length: 2\n\nokHTTP"), b"ok")

    def test_an_answer_that_is_not_whole_is_an_error(self):
        for text in ["", "HTTP/1.1 502 X\n\n", "HTTP/1.1 200 OK\n\n", "HTTP/1.1 200 OK\nContent-Length: 3\n\nok"]:
            with self.assertRaises(OSError):
                self.answer(text)

    def test_files_count_as_memory(self):
        found = memory.Memory(entries=10, resident_before=100, resident_after=200, files=50)
        self.assertEqual(found.bytes_per_entry, 15)

    def test_a_folder_takes_up_the_blocks_of_its_files(self):
        self.assertEqual(processes.allocated_bytes(None), 0)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "below").mkdir()
            (Path(folder) / "below" / "file").write_bytes(b"x" * 5000)
            self.assertGreaterEqual(processes.allocated_bytes(folder), 5000)


class Compression(unittest.TestCase):
    def test_bodies_are_the_same_every_time_and_about_as_long_as_they_say(self):
        for size in [1 << 10, 64 << 10]:
            self.assertEqual(bodies.listing(size), bodies.listing(size))
            self.assertLess(abs(len(bodies.listing(size)) - size), 700)
        self.assertEqual(bodies.page(), bodies.page())
        self.assertTrue(60 << 10 < len(bodies.page()) < 100 << 10)

    def test_every_level_of_every_coding_has_an_instance(self):
        sets = compression.sets_of_levels()
        for coding, levels in compression.LEVELS.items():
            self.assertEqual({levels[coding] for levels in sets}, set(levels))

    def test_what_gzip_made_is_understood_piece_by_piece(self):
        body = gzip.compress(b"event")
        decode = coded.decoder("gzip")
        self.assertEqual(decode(body[:12]) + decode(body[12:]), b"event")

    def test_a_cells_row_says_what_compressing_added(self):
        plain = compression.Cell("pillion", "b", "identity", 0, None, bytes=100, microseconds=10)
        cell = compression.Cell("pillion", "b", "gzip", 6, None, bytes=50, microseconds=30)
        self.assertIn("| gzip 6 | 50 | 30 (+20) |", compression.table([plain, cell], "b", ["pillion"]))

    def test_percentiles_of_wrk_are_milliseconds(self):
        self.assertEqual(latency.percentiles(WRK.format(errors="", statuses="")), [0.41, 1.03, 4.1])


class Proc(unittest.TestCase):
    def test_this_process_has_used_cpu_and_memory(self):
        self.assertIn(os.getpid(), processes.tree(os.getpid()))
        self.assertGreater(processes.cpu_nanoseconds(os.getpid()), 0)
        self.assertGreater(processes.resident_bytes(os.getpid()), 1 << 20)
        self.assertGreater(processes.machine_busy_seconds(), 0)
