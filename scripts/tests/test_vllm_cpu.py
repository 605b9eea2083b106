"""At most two vLLMs run at once, however many ask."""
import importlib.machinery, importlib.util, pathlib, sys, tempfile, unittest

SCRIPT = pathlib.Path(__file__).resolve().parent.parent / "vllm-cpu"


def load(cache):
    loader = importlib.machinery.SourceFileLoader("vllm_cpu", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("vllm_cpu", loader))
    sys.modules["vllm_cpu"] = module  # dataclasses look themselves up
    loader.exec_module(module)
    module.CACHE = pathlib.Path(cache)
    return module


class Turns(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.vllm = load(folder.name)

    def test_a_third_waits_until_one_has_gone(self):
        first, second = self.vllm.grab(1), self.vllm.grab(1)
        self.assertIsNone(self.vllm.grab(1))
        first[0].close()
        third = self.vllm.grab(1)
        self.assertEqual(len(third), 1)
        for turn in second + third:
            turn.close()

    def test_who_wants_two_holds_none_while_only_one_is_free(self):
        first = self.vllm.grab(1)
        self.assertIsNone(self.vllm.grab(2))
        second = self.vllm.grab(1)
        self.assertEqual(len(second), 1)
        for turn in first + second:
            turn.close()

    def test_ports_are_none_that_the_kernel_hands_to_clients(self):
        low = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        self.assertTrue(all(1024 < self.vllm.free_port() < low for _ in range(100)))


if __name__ == "__main__":
    unittest.main()
