//! Ends a server when the process is told to end: the first signal lets answers finish, a second one does not wait.
use llm_core::{Error, Kind, Result};
use tokio::runtime::Builder;

use crate::Server;

/// Serves until SIGTERM or Ctrl-C, and until running answers have ended.
///
/// # Errors
/// `Internal` if signals cannot be heard, or a server thread has died.
pub fn until_signal(server: Server) -> Result<()> {
    let deaf = |e| Error::new(Kind::Internal, "cannot listen for signals").because(e);
    let runtime = Builder::new_current_thread().enable_all().build().map_err(deaf)?;
    runtime.block_on(signal()).map_err(deaf)?;
    eprintln!("stopping: running answers may end; once more to stop at once");
    std::thread::spawn(move || {
        if runtime.block_on(signal()).is_ok() {
            std::process::exit(130);
        }
    });
    server.stop();
    server.wait()
}

async fn signal() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = term.recv() => Ok(()),
            interrupted = tokio::signal::ctrl_c() => interrupted,
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
