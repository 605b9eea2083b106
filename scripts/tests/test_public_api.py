"""The check of the public API sees what it should see: it is run over a small crate with one of each fault."""
import importlib.machinery, importlib.util, json, pathlib, subprocess, sys, tempfile, unittest

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(SCRIPTS / "lib"))
from rustdoc import Crate, examples  # noqa: E402

OTHER = "pub struct Theirs; pub trait Trait {}"
OURS = '''
//! A crate.
mod inner {
    /// Good: an example of its own.
    ///
    /// ```
    /// let good = ours::Good { number: 1 }.told();
    /// ```
    pub struct Good {
        /// A number.
        pub number: u32,
        hidden: Option<other::Theirs>,
    }
    impl Good {
        /// Called by its type's example.
        pub fn told(&self) {}
        /// Called nowhere, though the word `.silent` stands here.
        pub fn silent(&self) {}
        pub fn bare() {}
        fn private(&self) -> other::Theirs { other::Theirs }
    }
    impl Clone for Good {
        fn clone(&self) -> Good { todo!() }
    }
    /// Compiled, and never run.
    ///
    /// ```
    /// # fn f(leaks: ours::Leaks) {
    /// drop(leaks);
    /// # }
    /// ```
    pub enum Leaks {
        /// In a field.
        One(other::Theirs),
    }
    /// Fails.
    /// ```
    /// ours::fails();
    /// ```
    pub fn fails() -> Result<(), u32> { Ok(()) }
}
pub use inner::*;
pub use inner::Good as Better;
pub use other::Theirs;
#[macro_export]
macro_rules! bare { () => {} }
/// A bound.
/// ```no_run
/// ours::bound(1);
/// ```
pub fn bound<T: other::Trait>(_: T) {}
'''


def script():
    loader = importlib.machinery.SourceFileLoader("public_api", str(SCRIPTS / "public-api"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("public_api", loader))
    loader.exec_module(module)
    return module


def crate(folder):
    def run(*command):
        subprocess.run(command, cwd=folder, check=True, stderr=subprocess.DEVNULL)
    for name, text in [("other", OTHER), ("ours", OURS)]:
        (folder / f"{name}.rs").write_text(text)
    run("rustc", "--edition=2024", "--crate-type=rlib", "other.rs")
    run(SCRIPTS / "lib/rustdoc-json", "--edition=2024", "-Zunstable-options", "--output-format=json", "--extern=other=libother.rlib", "-o.", "ours.rs")
    return Crate(json.loads((folder / "ours.json").read_text()))


class PublicApi(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as folder:
            cls.items = crate(pathlib.Path(folder)).items()

    def complaints(self, allowed):
        found = script().check(self.items, allowed)
        return sorted(line.partition(": ")[2].split(":")[0] if line.startswith("scripts") else " ".join(line.split(" ")[1:5]) for line in found)

    def test_every_fault_is_named_with_its_item_and_nothing_else(self):
        self.assertEqual(self.complaints({}), [
            "enum `ours::Leaks` is shown",
            "enum `ours::Leaks` names the",
            "function `ours::Good::bare` has no",
            "function `ours::Good::bare` is shown",
            "function `ours::Good::silent` is shown",
            "function `ours::bound` is shown",
            "function `ours::bound` names the",
            "function `ours::fails` returns a",
            "macro `ours::bare` has no",
            "macro `ours::bare` is shown",
            "use `ours::Theirs` names the",
        ])

    def test_what_is_allowed_is_passed_over_and_must_be_in_use(self):
        self.assertFalse([line for line in self.complaints({"other::": "why"}) if "names" in line])
        found = [*script().check(self.items, {"other::Theirs": "why", "gone::": "why"})]
        self.assertTrue(any("`other::Trait`" in line for line in found) and not any("`other::Theirs`" in line for line in found), found)
        self.assertIn("gone::", found[-1])

    def test_an_item_counts_once_under_its_shortest_name(self):
        names = [item.path for item in self.items]
        self.assertEqual(names.count("ours::Good"), 1)
        self.assertEqual(len(names), len(set(names)))
        self.assertFalse([name for name in names if "inner" in name or "private" in name], names)

    def test_comments_are_no_examples(self):
        self.assertEqual(examples("```\na(); // b()\n```\n```text\nc\n```\n```ignore\nd\n```\n"), ["a(); \n"])


if __name__ == "__main__":
    unittest.main()
