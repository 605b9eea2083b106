//! How many files may be open at once: a stream takes two, the client's socket and the upstream's.
//!
//! Most machines begin with 1,024 and allow far more to whoever asks; the low figure is for programs that use `select`.

/// Raises the limit as far as this process may, and says what came of it.
pub(crate) fn raise(max_connections: usize) {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(most) if most < max_connections as u64 => {
            tracing::warn!(
                most,
                max_connections,
                "fewer files may be open than connections are allowed: raise `ulimit -n`"
            );
        }
        Ok(most) => tracing::info!(most, "open files"),
        Err(error) => tracing::warn!(%error, "cannot raise how many files may be open"),
    }
}
