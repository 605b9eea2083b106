//! A key of its own making, for a server that others can reach and nobody gave a key.
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use llm_core::gateway::env::Lookup;
use llm_core::{Error, Result, secret::Secret};

/// Where such a key is kept: in the user's data folder. `None` where there is no such folder: one that is everybody's,
/// as that for temporary files, may hold a key that somebody else has put there.
pub fn file(lookup: Lookup<'_>) -> Option<PathBuf> {
    let set = |name: &str| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("HOME").map(|home| home.join(".local/share"));
    let data = || set("XDG_DATA_HOME").or_else(home).map(|data| data.join("llm"));
    set("LLM_DATA_DIR").or_else(data).map(|folder| folder.join("api-key"))
}

/// The error of a server that needs a key and has no place for one.
pub(crate) fn homeless() -> Error {
    Error::config("there is no key and no folder to keep one in (no HOME): set LLM_API_KEY").at("LLM_API_KEY")
}

/// The key in this file, made and kept there if there is none; and whether it is new, so that it is printed once.
///
/// # Errors
/// `Config` if the file can be neither read nor written, or others than its owner can read what it holds.
pub fn kept(path: &Path) -> Result<(Secret, bool)> {
    let wrong = |e: std::io::Error| {
        Error::config(format!("cannot keep a key in {}: {e}; or set LLM_API_KEY", path.display())).at("LLM_DATA_DIR")
    };
    match File::open(path) {
        Ok(mut file) => {
            let mut key = String::new();
            file.read_to_string(&mut key).map_err(wrong)?;
            if !key.trim().is_empty() {
                if is_shared(&file).map_err(wrong)? {
                    return Err(shared(path));
                }
                return Ok((Secret::new(key.trim()), false));
            }
        }
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(wrong(e)),
        Err(_) => {}
    }
    let key = made().map_err(wrong)?;
    write(path, &key).map_err(wrong)?;
    Ok((Secret::new(key), true))
}

fn shared(path: &Path) -> Error {
    let path = path.display();
    let remedy = format!("`chmod 600 {path}` if the key is yours, remove the file for a new key, or set LLM_API_KEY");
    Error::config(format!("others can read the key in {path} or change it: {remedy}")).at("LLM_DATA_DIR")
}

/// Whether others than the file's owner may read or change it.
#[cfg(unix)]
fn is_shared(file: &File) -> std::io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(file.metadata()?.permissions().mode() & 0o077 != 0)
}

/// Where files have no modes, the user's folder is the user's.
#[cfg(not(unix))]
fn is_shared(_: &File) -> std::io::Result<bool> {
    Ok(false)
}

pub(crate) fn made() -> std::io::Result<String> {
    let mut random = [0u8; 24];
    getrandom::fill(&mut random).map_err(|e| std::io::Error::other(e.to_string()))?;
    Ok(random.iter().fold("sk-".to_owned(), |key, byte| key + &format!("{byte:02x}")))
}

/// The mode is set before a byte is written: that of the opening counts for new files alone.
fn write(path: &Path, key: &str) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    writeln!(file, "{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    fn mode(path: &Path) -> u32 {
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777
    }

    #[cfg(unix)]
    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/api-key");
        let (key, is_new) = kept(&path).unwrap();
        assert!(is_new && key.reveal().len() == 51);
        assert_eq!(kept(&path).unwrap(), (key, false));
        #[cfg(unix)]
        assert_eq!(mode(&path), 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn an_empty_file_that_lies_there_becomes_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api-key");
        fs::write(&path, "\n").unwrap();
        set_mode(&path, 0o644);
        let (key, is_new) = kept(&path).unwrap();
        assert!(is_new && mode(&path) == 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", key.reveal()));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_or_change_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api-key");
        fs::write(&path, "sk-theirs").unwrap();
        for shared in [0o644, 0o640, 0o622] {
            set_mode(&path, shared);
            let error = kept(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
            assert!(error.contains("LLM_API_KEY") && !error.contains("sk-theirs"), "{error}");
        }
        set_mode(&path, 0o600);
        assert_eq!(kept(&path).unwrap(), (Secret::new("sk-theirs"), false));
    }

    #[test]
    fn it_lies_in_the_users_folder_and_nowhere_else() {
        let at = |variables: &[(&str, &str)]| {
            file(&|name| variables.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned()))
        };
        let home = ("HOME", "/home/u");
        assert_eq!(at(&[home]), Some("/home/u/.local/share/llm/api-key".into()));
        assert_eq!(at(&[home, ("XDG_DATA_HOME", "/data")]), Some("/data/llm/api-key".into()));
        assert_eq!(at(&[home, ("LLM_DATA_DIR", "/llm")]), Some("/llm/api-key".into()));
        assert_eq!((at(&[]), at(&[("HOME", "")])), (None, None));
        assert!(homeless().to_string().contains("set LLM_API_KEY"));
    }
}
