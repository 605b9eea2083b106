"""llama.cpp's server core for scripts/bench-engine: runs come as lines of JSON, what they took goes out as lines."""
import json, os, sys, threading, time

# llama.cpp logs to standard error, and a little to standard output, which carries our lines.
out = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
import xllamacpp  # noqa: E402


def server(model, threads):
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_parallel, params.n_ctx = 8, 16384  # as the engine: eight slots of 2048
    params.n_batch = params.n_ubatch = 512
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.kv_unified = True
    params.cache_ram_mib = 0
    return xllamacpp.Server(params)


def run(server, asked):
    usages = []
    began = time.perf_counter()
    threads = [threading.Thread(target=answer, args=(server, prompt, asked["max_tokens"], usages)) for prompt in asked["prompts"]]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    seconds = time.perf_counter() - began
    read, made = (sum(usage[kind] for usage in usages) for kind in ("prompt_tokens", "completion_tokens"))
    return {"read": read, "made": made, "seconds": seconds}


def answer(server, prompt, tokens, usages):
    request = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False, "stream": False}
    usages.append(server.handle_completions(request)["usage"])


def main():
    side = server(sys.argv[1], int(sys.argv[2]))
    print(xllamacpp.get_system_info(), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(run(side, json.loads(line))), file=out, flush=True)


main()
