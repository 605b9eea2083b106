//! A key of its own making, for a server that others can reach and nobody gave a key.
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use llm_core::gateway::env::Lookup;
use llm_core::{Error, Result, secret::Secret};

/// Where such a key is kept: in the user's data folder.
pub fn file(lookup: Lookup<'_>) -> PathBuf {
    let set = |name: &str| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("HOME").map(|home| home.join(".local/share"));
    let data = || set("XDG_DATA_HOME").or_else(home).unwrap_or_else(std::env::temp_dir).join("llm");
    set("LLM_DATA_DIR").unwrap_or_else(data).join("api-key")
}

/// The key in this file, made and kept there if there is none; and whether it is new, so that it is printed once.
///
/// # Errors
/// `Config` if the file can be neither read nor written.
pub fn kept(path: &Path) -> Result<(Secret, bool)> {
    let wrong = |e: std::io::Error| {
        Error::config(format!("cannot keep a key in {}: {e}", path.display())).at("LLM_API_KEY_FILE")
    };
    match fs::read_to_string(path) {
        Ok(key) if !key.trim().is_empty() => return Ok((Secret::new(key.trim()), false)),
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(wrong(e)),
        _ => {}
    }
    let key = made().map_err(wrong)?;
    write(path, &key).map_err(wrong)?;
    Ok((Secret::new(key), true))
}

pub(crate) fn made() -> std::io::Result<String> {
    let mut random = [0u8; 24];
    getrandom::fill(&mut random).map_err(|e| std::io::Error::other(e.to_string()))?;
    Ok(random.iter().fold("sk-".to_owned(), |key, byte| key + &format!("{byte:02x}")))
}

fn write(path: &Path, key: &str) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    writeln!(options.open(path)?, "{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_reads_it() {
        let folder = std::env::temp_dir().join(format!("llm-key-{}", std::process::id()));
        let path = folder.join("deep/api-key");
        let (key, is_new) = kept(&path).unwrap();
        assert!(is_new && key.reveal().len() == 51);
        assert_eq!(kept(&path).unwrap(), (key, false));
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions()) & 0o777, 0o600);
        fs::remove_dir_all(folder).unwrap();
    }
}
