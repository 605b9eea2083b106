//! Runs a command's work until it is done or Ctrl-C: what is dropped then stops the model at once.
use std::future::Future;

use tokio::runtime::Builder;

use crate::exit::Exit;
use crate::stop::{Run, Stop};

/// One thread will do: whoever computes has threads of their own.
pub(crate) fn block_on(work: impl Future<Output = Run>) -> Run {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(async {
        tokio::select! {
            biased;
            Ok(()) = tokio::signal::ctrl_c() => Err(Stop::silent(Exit::Interrupted)),
            end = work => end,
        }
    });
    runtime.shutdown_background(); // a read from a terminal or a write to a full pipe may never end
    end
}
