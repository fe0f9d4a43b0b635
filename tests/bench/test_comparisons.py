#!/usr/bin/env python3
"""What scripts/bench calculates, without measuring anything: ratios, two versions, counts of instructions, CRLs."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE), str(HERE.parent / "integration"), str(HERE.parent / "mock-module")]

# pylint: disable=wrong-import-position
from bench import against, crls, instructions, plan  # noqa: E402
from bench.cell import Cell, Number, Outcome  # noqa: E402
from bench.cells_gateway import check_handshakes  # noqa: E402
from bench.gateway_scene import Server  # noqa: E402
from bench.programs import Program, Unusable  # noqa: E402
from harness.revocation import Authority  # noqa: E402


def program(name, ours=False, path="/new/bin/tokentls-agent"):
    made = Program()
    made.name, made.ours, made.program = name, ours, pathlib.Path(path)
    return made


def results_of(cell, values):
    """Results of one cell: program name -> its values, one for each run."""
    found = plan.Results([cell], len(next(iter(values.values()))), 1)
    for name, series in values.items():
        found.outcomes[cell.name][name] = [None if value is None else Outcome({"rate": value}) for value in series]
    return found


def git(folder, *words):
    subprocess.run(["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example", *words], check=True,
                   capture_output=True)


class Ratios(unittest.TestCase):
    def setUp(self):
        self.number = Number("rate", "1/s", goal=1.3)
        self.cell = Cell("c", [program("us", True), program("a"), program("b")], [self.number])

    def test_the_best_peer_of_the_same_run_counts(self):
        results = results_of(self.cell, {"us": [10, 30], "a": [5, 20], "b": [8, 10]})
        self.assertEqual(results.ratios(self.cell, self.number), ([10 / 8, 30 / 20], "b"))

    def test_a_peer_that_does_something_else_is_not_compared(self):
        results = results_of(self.cell, {"us": [10], "a": [5], "b": [8]})
        results.outcomes["c"]["b"][0].doubts.append("serves a revoked client")
        self.assertEqual(results.ratios(self.cell, self.number), ([2.0], "a"))

    def test_our_own_doubtful_numbers_are_compared_with_nobody(self):
        results = results_of(self.cell, {"us": [10], "a": [5], "b": [8]})
        results.outcomes["c"]["us"][0].doubts.append("serves a revoked client")
        self.assertEqual(results.ratios(self.cell, self.number), ([], None))

    def test_a_run_without_a_number_is_left_out(self):
        results = results_of(self.cell, {"us": [None, 12], "a": [5, 6], "b": [1, None]})
        self.assertEqual(results.ratios(self.cell, self.number), ([2.0], "a"))

    def test_goals_in_both_directions(self):
        self.assertTrue(self.number.met(5, 1.3))
        self.assertFalse(self.number.met(5, 1.29))
        less = Number("memory", "KB", higher=False, goal=0.5)
        self.assertTrue(less.met(5, 0.5))
        self.assertFalse(less.met(5, 0.51))
        own = Number("lost", "", higher=False, own_goal=0)
        self.assertTrue(own.met(0, 7))
        self.assertFalse(own.met(1, 0))
        self.assertIsNone(Number("p50", "us").met(5, 1))
        self.assertIsNone(self.number.met(5, None))

    def test_noise(self):
        self.assertEqual(plan.noise([90, 100, 120]), 30)
        self.assertIsNone(plan.noise([5]))
        self.assertIsNone(plan.noise([]))
        self.assertIsNone(plan.noise([0, 0]))


class Against(unittest.TestCase):
    def test_settings_are_those_of_the_build(self):
        cache = ("CMAKE_C_COMPILER:FILEPATH=/usr/bin/clang\nCMAKE_BUILD_TYPE:STRING=Release\nCMAKE_C_FLAGS:STRING=\n"
                 "//CMAKE_C_COMPILER_LAUNCHER:STRING=no\nTOKENTLS_SANITIZE:STRING=thread\nOTHER:STRING=x\n")
        self.assertEqual(against.settings(cache), ["-DCMAKE_C_COMPILER=/usr/bin/clang", "-DCMAKE_BUILD_TYPE=Release",
                                                   "-DTOKENTLS_SANITIZE=thread", "-DTOKENTLS_TESTS=OFF"])

    def test_pairs_are_ours_of_both_versions(self):
        ours = program("tokentls", True)
        cells = [Cell("x", [ours, program("nginx")], [Number("rate", "1/s", goal=2)]),
                 Cell("bound", [program("relay")], [Number("rate", "1/s")])]
        pairs = against.pairs(cells, "abc", pathlib.Path("/old"))
        self.assertEqual([pair.name for pair in pairs], ["x"])
        new, old = pairs[0].programs
        self.assertIs(new, ours)
        self.assertEqual((old.name, old.ours, old.program), ("abc", False, pathlib.Path("/old/bin/tokentls-agent")))
        self.assertIsNone(pairs[0].numbers[0].goal)
        self.assertEqual((ours.name, len(cells[0].programs), cells[0].numbers[0].goal), ("tokentls", 2, 2))

    def test_a_difference_is_one_in_every_run(self):
        self.assertEqual(against.tendency([1.1, 1.01, 1.2], True), "better")
        self.assertEqual(against.tendency([1.1, 1.01, 1.2], False), "WORSE")
        self.assertEqual(against.tendency([0.9, 0.8], True), "WORSE")
        self.assertEqual(against.tendency([0.9, 0.8], False), "better")
        self.assertEqual(against.tendency([1.1, 0.99], True), "within noise")
        self.assertEqual(against.tendency([2.0], True), "one run")

    def test_the_summary_names_both(self):
        number = Number("rate", "1/s")
        cell = Cell("c", [program("tokentls", True), program("abc")], [number])
        text = against.summary(results_of(cell, {"tokentls": [30, 40], "abc": [20, 20]}), "abc")
        self.assertRegex(text, r"rate \(1/s\) +\| 35 +\| 20 +\| 1\.750 ±14\.3% +\| better")

    def test_revisions_that_are_none(self):
        with tempfile.TemporaryDirectory() as name:
            git(name, "init", "-q")
            for revision in ("nosuch", "--all", "HEAD"):
                with self.assertRaisesRegex(against.NotBuilt, "knows no such commit"):
                    against.resolve(revision, name)
            git(name, "commit", "-q", "--allow-empty", "-m", "x")
            full, short = against.resolve("HEAD", name)
            self.assertTrue(full.startswith(short) and len(full) == 40)

    def test_a_revision_that_does_not_build_leaves_no_worktree(self):
        with tempfile.TemporaryDirectory() as name:
            top, scratch, build = (pathlib.Path(name, part) for part in ("top", "scratch", "build"))
            for folder in (top, scratch, build):
                folder.mkdir()
            (build / "CMakeCache.txt").write_text("")
            (top / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.25)\nproject(x NONE)\n"
                                                "message(FATAL_ERROR \"this is broken\")\n")
            git(top, "init", "-q")
            git(top, "add", ".")
            git(top, "commit", "-q", "-m", "x")
            with self.assertRaisesRegex(against.NotBuilt, "this is broken"):
                with against.built("HEAD", build, scratch, top):
                    self.fail("it was built")
            left = subprocess.run(["git", "-C", top, "worktree", "list"], capture_output=True, text=True, check=True).stdout
            self.assertEqual(len(left.splitlines()), 1, left)
            self.assertFalse((scratch / "against-tree").exists())


ANNOTATION = """
--------------------------------------------------------------------------------
Ir
--------------------------------------------------------------------------------
1,234,567  PROGRAM TOTALS

--------------------------------------------------------------------------------
Ir         file:function
--------------------------------------------------------------------------------
1,000,000  ???:SSL_do_handshake [/usr/lib/x86_64-linux-gnu/libssl.so.3]
  700,000  ./elf/file.c:walk'2 [/usr/bin/x]
  900,000  ./elf/file.c:walk [/usr/bin/x]
   30,000  ???:0x00000000000ab0c0 [/usr/lib/libcrypto.so.3]
   12,000  ???:0x00000000000ab0d0 [/usr/lib/libcrypto.so.3]
      500  ???:std::basic_ios<char>::init(int) [/usr/lib/libstdc++.so.6]
"""


class Instructions(unittest.TestCase):
    def test_an_annotation_is_read(self):
        self.assertEqual(instructions.parse_annotation(ANNOTATION), {
            "": 1234567, "SSL_do_handshake [libssl.so.3]": 1000000, "walk [x]": 900000,
            "(no name) [libcrypto.so.3]": 42000, "std::basic_ios<char>::init(int) [libstdc++.so.6]": 500})

    def test_one_connection_is_the_difference(self):
        few, many = {"": 500, "start": 300, "a": 200}, {"": 1500, "start": 300, "a": 1000, "b": 200}
        self.assertEqual(instructions.difference(few, many, 10), {"": 100, "a": 80, "b": 20})

    def test_processes_of_one_kind_are_added(self):
        self.assertEqual(instructions.merged([{"": 5, "a": 5}, {"": 7, "b": 7}]), {"": 12, "a": 5, "b": 7})
        self.assertEqual(instructions.merged([]), {})

    def test_what_is_in_every_stack_is_not_shown(self):
        counts = {"": 100, "main [x]": 100, "clone []": 90, "(no name) [y]": 80, "maintain [x]": 70, "b [x]": 75}
        self.assertEqual(instructions.top(counts), [(75, "b [x]"), (70, "maintain [x]")])
        self.assertEqual(instructions.top(counts, 1), [(75, "b [x]")])

    def test_profiles_are_found_by_their_command(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            for file, command in (("1", "bin/tokentls-agent --config x"), ("2", "bin/tokentls-agent --network-process"),
                                  ("3", "bin/tokentls-keyholder")):
                (folder / f"{file}.counts").write_text(f"# callgrind format\ncmd: {command}\nfn=x\n")
            self.assertEqual(instructions.profiles(folder),
                             {"network": [folder / "2.counts"], "keyholder": [folder / "3.counts"]})
            (folder / "4.counts").write_text("")
            with self.assertRaisesRegex(Unusable, "4.counts"):
                instructions.profiles(folder)


class Crls(unittest.TestCase):
    def test_openssl_reads_what_is_made(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc",
                            "-keyout", folder / "ca.key", "-out", folder / "ca.pem", "-subj", "/CN=ca"], check=True,
                           capture_output=True)
            authority = Authority(folder, "ca")
            for count, expected in ((0, 0), (1, 1), (300, 300)):
                path = folder / f"{count}.pem"
                path.write_bytes(crls.pem(crls.crl(authority, count, (0xABC123,))))
                done = subprocess.run(["openssl", "crl", "-in", path, "-CAfile", folder / "ca.pem", "-noout", "-text"],
                                      capture_output=True, text=True, check=True)
                self.assertIn("verify OK", done.stderr)
                self.assertEqual(done.stdout.count("Serial Number: "), expected)
                self.assertEqual("Serial Number: ABC123" in done.stdout, count > 0)

    def test_an_entry_has_the_size_that_public_cas_give_it(self):
        self.assertEqual(len(crls.entries(100, (), 0)), 100 * 49)


class Doubts(unittest.TestCase):
    def doubts(self, of_resumption, **seen):
        outcome = Outcome()
        seen = {"first": {"done": 10, "failed": 0}, "second": {"done": 0}, "resumed": 0, "signed": 0, "reason": "why",
                **seen}
        check_handshakes(outcome, seen, of_resumption)
        return outcome.doubts

    def test_handshakes_that_were_not_what_the_cell_says(self):
        self.assertEqual(self.doubts(False, signed=10), [])
        self.assertEqual(self.doubts(True, resumed=10), [])
        self.assertEqual(self.doubts(False, signed=9), ["1 of 10 handshakes were without a certificate"])
        self.assertEqual(self.doubts(True, resumed=2, signed=8), ["8 of 10 handshakes were not resumed"])
        self.assertEqual(self.doubts(False, first={"done": 0, "failed": 3}),
                         ["no handshake: why", "3 connections failed: why"])

    def test_who_takes_no_crl_is_not_started_with_one(self):
        class Other(Server):
            name, takes_crls = "other", False

            def serve(self, folder, scene):
                return "served"

        class Scene:
            entries = None

        self.assertEqual(Other().start(None, Scene()), "served")
        Scene.entries = 0
        with self.assertRaisesRegex(Unusable, "takes no CRL"):
            Other().start(None, Scene())


if __name__ == "__main__":
    unittest.main()
