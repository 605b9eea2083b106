"""The runner counts right, hides no failure, and leaves nothing behind."""
import contextlib, io, os, pathlib, signal, subprocess, sys, time, unittest

LIB = pathlib.Path(__file__).resolve().parent.parent / "lib"
sys.path.insert(0, str(LIB))
import runner  # noqa: E402
from group import Group  # noqa: E402
from stages import Stage  # noqa: E402


def stage(script, name="one", limit_min=1.0, **more):
    return Stage(name, "a sample", lambda: [["sh", "-c", script]], limit_min, **more)


def run(*stages):
    """How many failed, and what was printed."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        failed = runner.run_all(stages)
    return failed, out.getvalue().splitlines()


def is_alive(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until_gone(pid):
    until = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not is_alive(pid)


class Counting(unittest.TestCase):
    def test_the_last_line_adds_up_all_runners(self):
        cargo = "echo 'test result: ok. 5 passed; 0 failed; 1 ignored'; echo 'test result: ok. 2 passed; 0 failed; 0 ignored'"
        failed, out = run(stage(cargo), stage("echo 'Ran 4 tests in 0.1s'", "two"))
        self.assertEqual((failed, out[-1]), (0, "11 passed, 0 failed"))

    def test_a_stage_without_a_runner_is_one_test(self):
        self.assertEqual(run(stage("true"))[1][-1], "1 passed, 0 failed")
        self.assertEqual(run(stage("false"))[1][-1], "0 passed, 1 failed")
        self.assertEqual(run(stage("true", counts=False))[1][-1], "0 passed, 0 failed")

    def test_failures_are_counted_once(self):
        cargo = "echo 'test result: FAILED. 5 passed; 2 failed; 0 ignored'; exit 101"
        self.assertEqual(run(stage(cargo))[1][-1], "5 passed, 2 failed")
        unit = "echo 'Ran 5 tests in 1s'; echo 'FAILED (failures=1, errors=2)'; exit 1"
        self.assertEqual(run(stage(unit))[1][-1], "2 passed, 3 failed")

    def test_failures_count_even_where_the_status_is_lost(self):
        failed, _ = run(stage("echo 'test result: FAILED. 0 passed; 1 failed;'"))
        self.assertEqual(failed, 1)


class Failing(unittest.TestCase):
    def test_a_failing_stage_names_itself_and_hides_nothing(self):
        failed, out = run(stage("exit 3", "one"), stage("echo here", "two"))
        self.assertEqual(failed, 1)
        self.assertIn("here", out)
        self.assertTrue(any("FAILED" in line and "status 3" in line and "make test-one" in line for line in out), out)

    def test_what_needs_a_failed_stage_is_not_run(self):
        failed, out = run(stage("false", "one"), stage("echo here", "two", needs=("one",)))
        self.assertEqual((failed, "here" in out), (2, False))

    def test_the_exit_status_tells(self):
        check = LIB.parent / "check"
        self.assertEqual(subprocess.run([check, "no-such-stage"], stderr=subprocess.DEVNULL).returncode, 1)


class Ending(unittest.TestCase):
    def test_a_stage_that_hangs_is_ended_with_its_children(self):
        failed, out = run(stage("sleep 600 & echo child $!; wait", limit_min=0.01))
        child = next(int(line.split()[1]) for line in out if line.startswith("child"))
        self.assertEqual(failed, 1)
        self.assertTrue(any("not done within" in line for line in out), out)
        self.assertTrue(wait_until_gone(child))

    def test_one_that_left_the_group_holds_nobody_up(self):
        began = time.monotonic()
        failed, out = run(stage("setsid sleep 60 & echo away $!"))
        away = next(int(line.split()[1]) for line in out if line.startswith("away"))
        os.kill(away, signal.SIGKILL)
        self.assertEqual(failed, 0)
        self.assertLess(time.monotonic() - began, 50)

    def test_a_group_ends_when_its_owner_is_killed(self):
        code = "import sys; sys.path.insert(0, sys.argv[1]); from group import Group; Group(['sh', '-c', 'sleep 600 & echo $!; wait']).process.wait()"
        owner = subprocess.Popen([sys.executable, "-c", code, LIB], stdout=subprocess.PIPE, text=True)
        child = int(owner.stdout.readline())
        self.assertTrue(is_alive(child))
        owner.kill()
        owner.wait()
        owner.stdout.close()
        self.assertTrue(wait_until_gone(child))

    def test_ending_is_polite_first(self):
        group = Group(["sh", "-c", "trap 'echo bye; exit' TERM; echo up; while :; do sleep 0.05; done"], stdout=subprocess.PIPE, text=True)
        self.assertEqual(group.process.stdout.readline(), "up\n")
        group.end()
        self.assertEqual(group.process.stdout.read(), "bye\n")
        group.process.stdout.close()


if __name__ == "__main__":
    os.chdir(runner.ROOT)
    unittest.main()
