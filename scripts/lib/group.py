"""Processes that end when we do, however we end: each with its children in a group of its own."""
import contextlib, os, signal, subprocess, time


class Group:
    def __init__(self, command, **more):
        more.setdefault("stdin", subprocess.DEVNULL)
        # Children outlive a parent that is killed. The first member of the group reads a pipe that we hold: when we are
        # gone, even by kill -9, the kernel closes it, and that member ends the group. It comes before the others, so that
        # there is no moment in which they run without it.
        leash = ["sh", "-c", "trap '' TERM INT; read -r _; kill -KILL 0"]
        self.leash = subprocess.Popen(leash, process_group=0, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        try:
            self.process = subprocess.Popen([*map(str, command)], process_group=self.leash.pid, **more)
        except BaseException:
            self.leash.kill()
            self.leash.stdin.close()
            self.leash.wait()
            raise

    def status(self):
        return self.process.poll()

    def end(self, grace_s=5.0):
        """Politely, then not."""
        end_all([self], grace_s)


def end_all(groups, grace_s=5.0):
    if grace_s:
        send(groups, signal.SIGTERM)
    until = time.monotonic() + grace_s
    while time.monotonic() < until and any(g.status() is None for g in groups):
        time.sleep(0.02)
    send(groups, signal.SIGKILL)
    for group in groups:
        group.process.wait()
        group.leash.stdin.close()
        group.leash.wait()


def send(groups, which):
    for group in groups:
        # The leash keeps the group's number ours until the end.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group.leash.pid, which)
