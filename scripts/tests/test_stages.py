"""The stages leave nothing out: what a feature switches off is built, and run where it can be, as well as what it switches on."""
import pathlib, sys, tomllib, unittest

LIB = pathlib.Path(__file__).resolve().parent.parent / "lib"
sys.path.insert(0, str(LIB))
from stages import ROOT, features  # noqa: E402


def manifests():
    return [tomllib.loads(path.read_text()) for path in ROOT.glob("crates/*/Cargo.toml")]


class Features(unittest.TestCase):
    def test_whatever_can_do_without_the_engine_is_built_without_it(self):
        optional = {m["package"]["name"] for m in manifests() if "engine" in m.get("features", {})}
        self.assertEqual(optional, {"llm-cli", "llm-server"})
        bare = [c for c in features() if "clippy" in c and "--no-default-features" in c and "--features" not in c]
        self.assertEqual(optional, {name for command in bare for flag, name in zip(command, command[1:]) if flag == "-p"})

    def test_the_core_is_tested_with_all_features_and_with_none(self):
        tests = [c for c in features() if c[:2] == ["cargo", "test"]]
        self.assertEqual([c[-1] for c in tests], ["--all-features", "--no-default-features"])

    def test_one_profile_serves_all(self):
        for command in features():
            if command[0] == "cargo":
                self.assertEqual(command[command.index("--profile") + 1], "fast", command)


if __name__ == "__main__":
    unittest.main()
