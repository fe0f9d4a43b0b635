"""The stages behind scripts/test: what is built how, and which tests run in it. Python 3 standard library only."""

import argparse
import fnmatch
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

TOP = pathlib.Path(__file__).resolve().parent.parent
JOBS = "2"
FUZZ_SECONDS = 5
FUZZ_SECONDS_FULL = 60
# A skip is a failure for root, save for what this file lists: a test name pattern and the reason.
ALLOWED_SKIPS = TOP / "tests" / "allowed-skips.txt"

ASAN = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=0:abort_on_error=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "LSAN_OPTIONS": f"suppressions={TOP}/tests/sanitizer-suppressions.txt:print_suppressions=0",
}
# The daemons may not be inspected, so LeakSanitizer cannot look into them: it would only make each of them end with an
# error. What they leak is for the soak to see.
ASAN_SCENARIOS = {**ASAN, "ASAN_OPTIONS": ASAN["ASAN_OPTIONS"].replace("detect_leaks=1", "detect_leaks=0")}
TSAN = {"TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1"}

# tpm2-pkcs11 puts itself into p11-kit's list of modules, where it would look for a TPM and write into the home folder
# whenever a program asks for all modules; without its folder it does neither.
QUIET_TPM = {"TPM2_PKCS11_STORE": "/nonexistent", "TPM2_PKCS11_BACKEND": "esysdb", "TPM2_PKCS11_LOG_LEVEL": "0"}

BUILDS = {
    "release": ("gcc", ["-DCMAKE_BUILD_TYPE=Release"]),
    "asan": ("clang", ["-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DTOKENTLS_SANITIZE=address,undefined"]),
    "tsan": ("clang", ["-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DTOKENTLS_SANITIZE=thread"]),
    "fuzz": ("clang", ["-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DTOKENTLS_FUZZ=ON"]),
    "debug": ("gcc", ["-DCMAKE_BUILD_TYPE=Debug"]),
}


class Tally:
    """What was counted, test by test, over all stages."""

    def __init__(self):
        self.passed, self.failed, self.skipped = 0, 0, 0
        self.complaints = []

    def add_failed(self, name, why, n=1):
        self.failed += n
        self.complaints.append(f"FAILED  {name}: {why}")

    def add_skipped(self, name, why, allowed):
        if os.geteuid() == 0 and not any(fnmatch.fnmatch(name, pattern) for pattern in allowed):
            self.add_failed(name, f"skipped as root, and tests/allowed-skips.txt does not excuse it: {why}")
            return
        self.skipped += 1
        self.complaints.append(f"SKIPPED {name}: {why}")


def say(text):
    print(text, flush=True)


def allowed_skips():
    """Test name pattern -> reason."""
    lines = [line.strip() for line in ALLOWED_SKIPS.read_text().splitlines()]
    return dict(line.split(None, 1) for line in lines if line and not line.startswith("#"))


def build_root():
    """A folder for builds that this user may write: build/ in the tree, or one in the temporary folder."""
    chosen = os.environ.get("TOKENTLS_BUILD")
    if chosen:
        return pathlib.Path(chosen).resolve()
    for candidate in (TOP / "build", TOP / f"build-{os.geteuid()}"):
        try:
            candidate.mkdir(exist_ok=True)
            (candidate / ".mine").touch()
            if candidate.stat().st_uid == os.geteuid():
                return candidate
        except OSError:
            pass
    mark = hashlib.sha256(str(TOP).encode()).hexdigest()[:12]
    root = pathlib.Path(tempfile.gettempdir()) / f"tokentls-build-{os.geteuid()}-{mark}"
    root.mkdir(mode=0o700, exist_ok=True)
    if root.stat().st_uid != os.geteuid():
        raise SystemExit(f"{root} belongs to somebody else; name another folder in TOKENTLS_BUILD")
    return root


class Run:
    def __init__(self, full):
        self.full = full
        self.root = build_root()
        self.tally = Tally()
        self.times = []
        self.built = {}
        self.allowed = allowed_skips()

    def command(self, argv, log, env=None):
        """Run a command; its output goes to the log file. Returns its exit status."""
        with open(log, "wb") as out:
            return subprocess.run(argv, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                  env={**os.environ, **(env or {})}, cwd=self.root).returncode

    def build(self, kind):
        """Configure and build once per run. False when it failed, which counts as one failed test."""
        if kind in self.built:
            return self.built[kind]
        compiler, options = BUILDS[kind]
        folder = self.root / kind
        folder.mkdir(parents=True, exist_ok=True)
        configure = ["cmake", "-G", "Ninja", "-S", str(TOP), "-B", str(folder),
                     f"-DCMAKE_C_COMPILER={compiler}", *options]
        if shutil.which("ccache") and os.access(pathlib.Path.home(), os.W_OK):
            configure.append("-DCMAKE_C_COMPILER_LAUNCHER=ccache")
        log = folder / "build.log"
        status = self.command(configure, log) or self.command(["ninja", "-C", str(folder), "-k", "0"], log)
        if status:
            say(log.read_text(errors="replace")[-6000:])
            self.tally.add_failed(f"build/{kind}", f"see {log}")
        else:
            self.tally.passed += 1
        self.built[kind] = status == 0
        return status == 0

    def ctest(self, kind, selection, env=None, prefix=""):
        """Run the selected tests of a build and count what they say."""
        if not self.build(kind):
            return
        folder = self.root / kind
        slug = prefix.strip("/-") or "suite"
        report = folder / f"report-{slug}.xml"
        report.unlink(missing_ok=True)
        argv = ["ctest", "--test-dir", str(folder), "-j", JOBS, "--output-junit", str(report), "--no-tests=error",
                "--test-output-size-passed", "4000000", "--test-output-size-failed", "4000000", *selection]
        status = self.command(argv, folder / f"ctest-{slug}.log", env)
        if not report.exists():
            self.tally.add_failed(f"{prefix}ctest", f"no report, exit status {status}: {' '.join(argv)}")
            return
        for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
            self.count(prefix.replace("lint/", "") + case.get("name"), case)

    def count(self, name, case):
        output = case.findtext("system-out") or ""
        ok, bad, skipped = inner_results(output)
        state = case.get("status")
        if case.find("skipped") is not None or state in ("notrun", "disabled"):
            reason = re.findall(r"SKIP:? *(.*)", output)
            self.tally.add_skipped(name, reason[0] if reason else "not run", self.allowed)
            return
        if state == "fail" or case.find("failure") is not None:
            failure = case.find("failure")
            why = ", ".join(bad) or (failure.get("message") if failure is not None else "")
            self.tally.add_failed(name, why, max(1, len(bad)))
            self.tally.passed += len(ok)
            say(f"--- {name} ---\n{failing_part(output)}\n--- end of {name} ---")
        else:
            self.tally.passed += max(1, len(ok)) if not skipped else len(ok)
        for inner, reason in skipped:
            self.tally.add_skipped(f"{name}/{inner}", reason, self.allowed)

    def stage(self, name, function):
        say(f"== {name}")
        begin = time.monotonic()
        before = (self.tally.passed, self.tally.failed, self.tally.skipped)
        function(self)
        now = (self.tally.passed, self.tally.failed, self.tally.skipped)
        self.times.append((name, time.monotonic() - begin, [b - a for a, b in zip(before, now)]))
        say(f"   {self.times[-1][1]:.0f} s")


def inner_results(output):
    """The single results within one ctest test: cmocka's own format, or TAP lines of the scenarios."""
    ok = re.findall(r"^\[ +OK \] (\S+)", output, re.M) + re.findall(r"^ok \d+ - ((?:(?!# SKIP).)*)$", output, re.M)
    bad = re.findall(r"^\[  FAILED  \] (?!tests: |\d+ test)(\S+)", output, re.M)
    bad += re.findall(r"^not ok \d+ - (.*)$", output, re.M)
    skipped = [(inner, "") for inner in re.findall(r"^\[  SKIPPED \] (?!tests: |\d+ test)(\S+)", output, re.M)]
    skipped += re.findall(r"^ok \d+ - (.*?) # SKIP ?(.*)$", output, re.M)
    return ok, sorted(set(bad)), sorted(set(skipped))


def failing_part(output):
    """What failing scenarios said, each from its beginning, where the reason stands; else the end of everything."""
    parts = re.split(r"(?m)^((?:not )?ok \d+ - .*)$", output)
    shown = []
    for said, result in zip(parts[0::2], parts[1::2]):
        if result.startswith("not"):
            said = said.strip("\n")
            shown.append((said if len(said) < 7000 else f"{said[:3500]}\n[...]\n{said[-3500:]}") + f"\n{result}")
    return "\n".join(shown) or output[-8000:]


def stage_suite(run):
    """Release build with gcc, every test but the lints"""
    run.ctest("release", ["-LE", "lint|full"])


def stage_asan(run):
    """AddressSanitizer and UBSan with clang: unit tests, fuzzers' seeds, one scenario per feature"""
    run.ctest("asan", ["-L", "unit", "-LE", "full|release"], ASAN, "asan/")
    run.ctest("asan", ["-L", "smoke", "-LE", "unit|full|release"], ASAN_SCENARIOS, "asan-smoke/")


def stage_tsan(run):
    """ThreadSanitizer with clang: unit tests that start threads"""
    run.ctest("tsan", ["-L", "threaded", "-LE", "full|release"], TSAN, "tsan/")


def fuzz(run, seconds):
    if not run.build("fuzz"):
        return
    programs = sorted(path.with_suffix("") for path in (run.root / "fuzz" / "fuzz").glob("fuzz_*.corpus"))
    if not programs:
        run.tally.add_failed("fuzz", "no fuzzer was built")
    waiting, running = list(programs), {}
    while waiting or running:
        while waiting and len(running) < int(JOBS):
            program = waiting.pop(0)
            running[start_fuzzer(run, program, seconds)] = program
        pid, status = os.wait()
        process = next(child for child in running if child.pid == pid)
        process.returncode = os.waitstatus_to_exitcode(status)
        finish_fuzzer(run, running.pop(process), process.returncode)


def start_fuzzer(run, program, seconds):
    work = run.root / "fuzz-work" / program.name
    shutil.rmtree(work, ignore_errors=True)
    (work / "new").mkdir(parents=True)
    seeds = program.with_suffix(".corpus").read_text().strip()
    argv = [str(program), f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1",
            f"-artifact_prefix={work}/", str(work / "new"), *([seeds] if os.path.isdir(seeds) else [])]
    with open(work / "log", "wb") as log:
        return subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=work,
                                env={**os.environ, **ASAN})


def finish_fuzzer(run, program, status):
    log = run.root / "fuzz-work" / program.name / "log"
    if status == 0:
        run.tally.passed += 1
        return
    say(log.read_text(errors="replace")[-6000:])
    run.tally.add_failed(f"fuzz/{program.name}", f"exit status {status}; the input is beside {log}")


def stage_fuzz(run):
    """libFuzzer, a few seconds for each fuzzer (a minute with --full)"""
    fuzz(run, FUZZ_SECONDS_FULL if run.full else FUZZ_SECONDS)


def stage_lint(run):
    """include graph, exported names, limits, documentation, format, clang-tidy"""
    run.ctest("release", ["-L", "lint"], None, "lint/")


def stage_matrix(run):
    """(full) every test once more under AddressSanitizer and UBSan"""
    run.ctest("asan", ["-LE", "lint|unit|smoke|release"], ASAN_SCENARIOS, "asan-matrix/")


def stage_races(run):
    """(full) every unit test and the scenarios of each feature under ThreadSanitizer"""
    run.ctest("tsan", ["-L", "unit|smoke", "-LE", "threaded|release|full"], TSAN, "tsan-all/")


def stage_valgrind(run):
    """(full) unit tests under valgrind"""
    if not run.build("debug"):
        return
    for program in sorted((run.root / "debug" / "unit").glob("test_*")):
        if not os.access(program, os.X_OK) or program.is_dir():
            continue
        if f"valgrind/{program.name}" in run.allowed:
            run.tally.add_skipped(f"valgrind/{program.name}", run.allowed[f"valgrind/{program.name}"], run.allowed)
            continue
        log = run.root / "debug" / f"valgrind-{program.name}.log"
        argv = ["valgrind", "-q", "--leak-check=full", "--errors-for-leak-kinds=definite", "--error-exitcode=99",
                f"--suppressions={TOP}/tests/valgrind.supp", str(program)]
        status = run.command(["timeout", "600", *argv], log)
        text = log.read_text(errors="replace")
        if status == 0:
            run.tally.passed += 1
        else:
            say(text[-4000:])
            run.tally.add_failed(f"valgrind/{program.name}", f"exit status {status}, see {log}")


def stage_soak(run):
    """(full) long runs: tests with the label full"""
    run.ctest("release", ["-L", "full"], None, "soak/")


STAGES = {"suite": stage_suite, "asan": stage_asan, "tsan": stage_tsan, "fuzz": stage_fuzz, "lint": stage_lint}
FULL_STAGES = {"matrix": stage_matrix, "races": stage_races, "valgrind": stage_valgrind, "soak": stage_soak}


def summary(run, begin):
    say("\n== summary")
    for complaint in run.tally.complaints:
        say(complaint)
    for name, seconds, (passed, failed, skipped) in run.times:
        say(f"{name:10} {seconds:6.0f} s  {passed:5} passed {failed:4} failed {skipped:4} skipped")
    say(f"{'total':10} {time.monotonic() - begin:6.0f} s  in {run.root}")
    say(f"{run.tally.passed} passed, {run.tally.failed} failed, {run.tally.skipped} skipped")
    return 0 if run.tally.failed == 0 and run.tally.passed > 0 else 1


def main():
    every = {**STAGES, **FULL_STAGES}
    listing = "\n".join(f"  {name:9} {function.__doc__}" for name, function in every.items())
    parser = argparse.ArgumentParser(prog="scripts/test", formatter_class=argparse.RawDescriptionHelpFormatter,
                                     description="Build and test tokentls. Stages:\n" + listing)
    parser.add_argument("--full", action="store_true", help="all stages, and more of each: takes an hour or more")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="only these (default: all that are not (full))")
    options = parser.parse_args()
    unknown = [name for name in options.stages if name not in every]
    if unknown:
        parser.error(f"no such stage: {unknown[0]}; there are {', '.join(every)}")
    os.environ.update(QUIET_TPM)
    if options.full:
        os.environ["TOKENTLS_FULL"] = "1"
    begin = time.monotonic()
    run = Run(options.full)
    for name in options.stages or (list(every) if options.full else list(STAGES)):
        run.stage(name, every[name])
    return summary(run, begin)


if __name__ == "__main__":
    sys.exit(main())
