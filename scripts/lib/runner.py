"""Runs stages one after the other: passes their output on, ends those that hang, counts tests, sums up."""
import os, pathlib, re, subprocess, sys, threading, time

from group import Group

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# The last words of a test runner, and how many passed and failed by them.
RUNNERS = [
    (re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed"), lambda m: (int(m[1]), int(m[2]))),  # cargo test
    (re.compile(r"^Ran (\d+) tests? in "), lambda m: (int(m[1]), 0)),  # Python's unittest, which adds:
    (re.compile(r"^FAILED \((?:failures=(\d+))?(?:, )?(?:errors=(\d+))?\)$"), lambda m: (-int(m[1] or 0) - int(m[2] or 0), int(m[1] or 0) + int(m[2] or 0))),
]
PAIR_ENV = {"chat": "LLM_TEST_VLLM_CHAT_URL", "embed": "LLM_TEST_VLLM_EMBED_URL"}


class Outcome:
    def __init__(self, stage):
        self.stage, self.passed, self.failed, self.compiled, self.problem, self.seconds = stage, 0, 0, 0, None, 0.0

    def read(self, line):
        for pattern, counts in RUNNERS:
            if found := pattern.match(line):
                passed, failed = counts(found)
                self.passed += passed
                self.failed += failed
        self.compiled += line.lstrip().startswith("Compiling ")

    def close(self):
        """A stage without a test runner counts as one test, and so does a failure that no runner counted."""
        if self.failed and not self.problem:
            self.problem = "failed"
        if self.problem and not self.failed:
            self.failed = 1
        if not self.problem and not self.passed and self.stage.counts:
            self.passed = 1


def run_all(stages, pair_of=None):
    """Every stage, also after one failed, so that one run shows everything. The number of those that failed."""
    pair = pair_of() if pair_of and any(stage.pair for stage in stages) else None
    outcomes = []
    try:
        for place, stage in enumerate(stages):
            outcomes.append(attempt(stage, pair, [o.stage.name for o in outcomes if o.problem]))
            if pair and not any(later.pair for later in stages[place + 1:]):
                pair = pair.end()  # the machine is quieter without it, and another may want its turn
    finally:
        if pair:
            pair.end()
    summarise(outcomes)
    return sum(bool(o.problem) for o in outcomes)


def attempt(stage, pair, failed_before):
    outcome, began = Outcome(stage), time.monotonic()
    say(f"\n=== {stage.name}: {stage.what}")
    missing = next((need for need in stage.needs if need in failed_before), None)
    if missing:
        outcome.problem = f"not run: {missing} failed"
    else:
        run(stage, pair, outcome, began + stage.limit_min * 60)
    outcome.close()
    outcome.seconds = time.monotonic() - began
    say(f"=== {stage.name}: {outcome.problem or 'ok'}, {clock(outcome.seconds)}")
    return outcome


def run(stage, pair, outcome, deadline):
    env = dict(os.environ)
    if stage.pair:
        env |= pair.wait()
        if not pair.urls:
            outcome.problem = "vLLM did not start"
            return
    for command in stage.commands():
        say("$ " + " ".join(map(str, command)))
        # Anew for each command: what the first stage installed is on the path of the next.
        status = follow(Group(["scripts/in-env", *command], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace"), outcome, deadline)
        if status:
            outcome.problem = status
            return


def follow(group, outcome, deadline):
    """Passes the output on line by line; a stage that hangs is ended at its deadline, with all that it started."""
    reader = threading.Thread(target=read, args=[group.process.stdout, outcome], daemon=True)
    reader.start()
    late = False
    try:
        group.process.wait(max(0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        late = True
        group.end()
    finally:
        group.end(0)  # nothing that a stage started outlives it
    # What has left the group may hold the pipe open for ever: then its words are not ours to wait for.
    reader.join(10)
    if late:
        return f"not done within {outcome.stage.limit_min} min"
    return group.status() and f"failed (status {group.status()})"


def read(output, outcome):
    with output:
        for line in output:
            print(line, end="", flush=True)
            outcome.read(line)


class Pair:
    """The two vLLMs that the tests share, started at the beginning: they need a minute, and compiling needs more."""

    def __init__(self):
        self.urls, self.lines = {}, []
        self.process = subprocess.Popen([ROOT / "scripts/vllm-cpu", "serve", *PAIR_ENV], start_new_session=True, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.ready = threading.Event()
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            match line.split():
                case ["ready", name, url, _]:
                    self.urls[PAIR_ENV[name]] = url
            if len(self.urls) == len(PAIR_ENV):
                self.ready.set()
        self.urls = {}
        self.ready.set()

    def wait(self):
        began = time.monotonic()
        self.ready.wait()  # vllm-cpu has a deadline of its own
        say(f"waited {clock(time.monotonic() - began)} for the vLLMs" if self.urls else "".join(self.lines))
        return self.urls

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def summarise(outcomes):
    say("\nstage        result     time   tests  compiled")
    for o in outcomes:
        row = f"{o.stage.name:<12} {'FAILED' if o.problem else 'ok':<6} {clock(o.seconds):>8} {o.passed + o.failed:>7} {o.compiled or '':>9}".rstrip()
        say(f"{row}   {o.problem}; again: make test-{o.stage.name}" if o.problem else row)
    say(f"{'all':<19} {clock(sum(o.seconds for o in outcomes)):>8}\n")
    say(f"{sum(o.passed for o in outcomes)} passed, {sum(o.failed for o in outcomes)} failed")


def clock(seconds):
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60:02d}"


def say(text):
    print(text, flush=True)
