//! Compiles the chat-template shim against the llama.cpp sources that llama-cpp-sys-2 was built from.
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=src/chat/shim.cpp");
    println!("cargo:rerun-if-changed=src/llama/spin.c");
    cc::Build::new().file("src/llama/spin.c").compile("llm_engine_spin");
    let llama = llama_sources();
    // A test compares our list of architectures with theirs.
    println!("cargo:rustc-env=LLAMA_CPP_SOURCES={}", llama.display());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .file("src/chat/shim.cpp")
        .includes(["common", "include", "ggml/include", "vendor"].map(|dir| llama.join(dir)))
        .compile("llm_engine_chat_shim");
}

/// The internal headers are not installed; the CMake cache in llama-cpp-sys-2's output names the tree they are in.
fn llama_sources() -> PathBuf {
    let cmake = env::var("DEP_LLAMA_GGML_CMAKE_DIR").expect("llama-cpp-sys-2 0.1.161 tells where its CMake files are");
    let out = Path::new(&cmake).ancestors().nth(2).expect("OUT_DIR/lib/cmake has two parents");
    let cache =
        fs::read_to_string(out.join("build/CMakeCache.txt")).expect("CMake leaves its cache in the build folder");
    let home = cache.lines().find_map(|line| line.strip_prefix("CMAKE_HOME_DIRECTORY:INTERNAL="));
    PathBuf::from(home.expect("every CMake cache names its source tree"))
}
