"""What `make test` consists of: a stage is an entry here, and `make test-NAME` runs it alone."""
import dataclasses, os, pathlib, tomllib, typing

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CARGO = ["--workspace", "--profile", "fast"]  # always both: other packages or another profile would compile everything anew


@dataclasses.dataclass
class Stage:
    name: str
    what: str
    commands: typing.Callable
    limit_min: int
    needs: tuple = ()  # stages without which this one has no meaning
    pair: bool = False  # wants the two shared vLLMs
    counts: bool = True  # counts as a test where no test runner speaks


def cargo_test(*selection):
    return ["cargo", "test", *CARGO, *selection]


def story_files(wanted):
    """`--test NAME` for the integration tests of all crates whose name `wanted` likes."""
    folders = [ROOT / "tests/tests", *ROOT.glob("crates/*/tests")]
    files = [f for folder in folders for f in [*folder.glob("*.rs"), *folder.glob("*/main.rs")]]
    names = sorted({f.parent.name if f.name == "main.rs" else f.stem for f in files})
    return [word for name in names if wanted(name) for word in ("--test", name)]


def stories(wanted):
    selection = story_files(wanted)
    return [["scripts/setup", "clients"], cargo_test("--no-fail-fast", *selection)] if selection else []


def shares_vllm(name):
    return name.startswith("vllm")


def owns_vllm(name):
    """Tests that need a vLLM of another kind, or that kill theirs: they start it themselves, after the shared two are gone."""
    return name.startswith("own_vllm")


def deny():
    asked = ["licenses", "bans", "sources"]
    database = pathlib.Path.home() / ".cargo/advisory-dbs"
    # --disable-fetch belongs to advisories only: the index is read either way.
    return [["cargo", "deny", "--log-level", "error", "check", *asked]] + (
        [["cargo", "deny", "check", "--disable-fetch", "advisories"]] if database.exists() else [])


def features():
    """llm-core with all of its features, without any, and with each alone: programs take one, and the workspace's own crates
    take few. What all of them show is the public API. The programs are built without theirs too: that is the gateway alone."""
    manifest = tomllib.loads((ROOT / "crates/llm-core/Cargo.toml").read_text())
    alone = ["", *(feature for feature, others in manifest["features"].items() if feature != "default" or others)]
    check = ["cargo", "clippy", "-p", "llm-core", "--profile", "fast", "--no-default-features", "--features"]
    test = ["cargo", "test", "-p", "llm-core", "--profile", "fast", "--lib"]
    programs = ["cargo", "clippy", "-p", "llm-cli", "-p", "llm-server", "--profile", "fast", "--no-default-features", "--", "-D", "warnings"]
    return [[*test, "--all-features"], [*test, "--no-default-features"], programs, *([*check, feature, "--", "-D", "warnings"] for feature in alone), ["scripts/public-api"]]


def docs():
    return [["env", "RUSTDOCFLAGS=-D warnings", "cargo", "doc", *CARGO, "--no-deps"], cargo_test("--doc")]


def soak_min():
    """The time that the soak was given, and as much again to compile in."""
    return int(os.environ.get("LLM_SOAK_S", "0")) // 60 + 60


STAGES = {stage.name: stage for stage in [
    Stage("tools", "what the build needs", lambda: [["scripts/setup", "deny"]], 10, counts=False),
    Stage("format", "cargo fmt", lambda: [["cargo", "fmt", "--all", "--check"]], 2),
    Stage("deny", "licences, bans, sources", deny, 5, needs=("tools",)),
    Stage("scripts", "what runs these stages", lambda: [["python3", "-m", "unittest", "discover", "-s", "scripts/tests"]], 5),
    Stage("build", "everything, once", lambda: [cargo_test("--no-run")], 40, needs=("tools",), counts=False),
    Stage("clippy", "lints, warnings are errors", lambda: [["cargo", "clippy", *CARGO, "--all-targets", "--", "-D", "warnings"]], 20, needs=("tools",)),
    Stage("unit", "each part alone", lambda: [cargo_test("--no-fail-fast", "--lib", "--bins")], 15, needs=("build",)),
    Stage("vllm", "against two real vLLMs on the CPU", lambda: stories(shares_vllm), 20, needs=("build",), pair=True),
    Stage("house", "the whole over real sockets", lambda: stories(lambda name: not shares_vllm(name) and not owns_vllm(name)), 20, needs=("build",)),
    Stage("vllm-own", "vLLMs that a test starts and kills", lambda: stories(owns_vllm), 20, needs=("build",)),
    Stage("features", "what is built without features and with each, and the public API", features, 20, needs=("tools",)),
    Stage("docs", "cargo doc, doc tests", docs, 15, needs=("tools",)),
    Stage("run", "make run's own way to one answer", lambda: [["scripts/run", "--once"]], 10, needs=("build",)),
    Stage("source", "the programs from a source archive alone", lambda: [["scripts/source"]], 40, needs=("run",)),
    Stage("coverage", "the lines of llm-core that its tests run", lambda: [["scripts/setup", "tarpaulin"], ["scripts/coverage"]], 30, needs=("tools",)),
    Stage("soak", "mixed traffic against upstreams that misbehave", lambda: [cargo_test("--test", "soak")], soak_min()),
    Stage("bench", "the server beside nginx", lambda: [["scripts/bench"]], 60, needs=("tools",)),
    Stage("bench-peers", "the server beside other LLM gateways", lambda: [["scripts/bench", "--peers"]], 60, needs=("tools",)),
    Stage("bench-engine", "the engine beside llama.cpp's server", lambda: [["scripts/setup"], ["scripts/bench-engine"]], 60, needs=("tools",)),
]}
# The five minutes of the soak are part of the house; other people's programs are run only when asked for.
LONG = [name for name in STAGES if name not in ("soak", "bench-peers")]
SHORT = [name for name in LONG if name not in ("coverage", "source") and not name.startswith("bench")]
