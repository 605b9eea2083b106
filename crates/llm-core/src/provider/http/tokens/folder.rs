//! What a Hugging Face folder says of its tokenizer: the vocabulary's file, the chat templates, and the special tokens.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};

/// The largest vocabulary, in bytes; those of today's models have up to 35 MB.
const MAX_VOCABULARY: u64 = 128 << 20;
/// The largest of the other files, in bytes; some old models list thousands of added tokens there.
const MAX_FILE: u64 = 8 << 20;

/// A folder that was looked through; the vocabulary was not read yet.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) vocabulary: PathBuf,
    /// The sources of the chat templates by their names; most models have a `default` alone.
    pub(super) templates: BTreeMap<String, String>,
    /// What templates call `bos_token`, `eos_token` and so on.
    pub(super) specials: BTreeMap<String, String>,
}

impl Folder {
    /// Looks through a folder, or takes a `tokenizer.json` alone, which has no templates.
    pub(super) fn open(path: &Path) -> Result<Folder> {
        let is_folder = path.is_dir();
        let vocabulary = if is_folder { path.join("tokenizer.json") } else { path.to_owned() };
        check_vocabulary(&vocabulary)?;
        let mut folder = Folder { vocabulary, templates: BTreeMap::new(), specials: BTreeMap::new() };
        if is_folder {
            folder.look(path)?;
        }
        Ok(folder)
    }

    /// In transformers' order, in which later files go before earlier ones.
    fn look(&mut self, path: &Path) -> Result<()> {
        for name in ["special_tokens_map.json", "tokenizer_config.json"] {
            let Some(config) = json(&path.join(name))? else { continue };
            self.specials.extend(specials(&config));
            self.templates.extend(templates(&config["chat_template"]));
        }
        if let Some(config) = json(&path.join("chat_template.json"))? {
            self.templates.extend(templates(&config["chat_template"]));
        }
        let named = [("default", "chat_template.jinja"), ("tool_use", "additional_chat_templates/tool_use.jinja")];
        for (name, file) in named {
            if let Some(source) = text(&path.join(file))? {
                self.templates.insert(name.into(), source);
            }
        }
        Ok(())
    }
}

/// It is read when somebody first counts; that it is there is known from the start.
fn check_vocabulary(path: &Path) -> Result<()> {
    let wrong = |e| Error::config(format!("cannot read {}: {e}", path.display()));
    let size = File::open(path).and_then(|file| file.metadata()).map_err(wrong)?.len();
    if size > MAX_VOCABULARY {
        return Err(Error::config(format!(
            "{} is larger than {MAX_VOCABULARY} bytes: it is no tokenizer",
            path.display()
        )));
    }
    Ok(())
}

/// A file, if it is there.
fn text(path: &Path) -> Result<Option<String>> {
    let wrong = |e: std::io::Error| Error::config(format!("cannot read {}: {e}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(wrong(e)),
    };
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(wrong)?;
    match text.len() as u64 {
        size if size > MAX_FILE => Err(Error::config(format!("{} is larger than {MAX_FILE} bytes", path.display()))),
        _ => Ok(Some(text)),
    }
}

fn json(path: &Path) -> Result<Option<Value>> {
    let wrong = |e: serde_json::Error| Error::config(format!("{} is no JSON: {e}", path.display()));
    text(path)?.map(|text| serde_json::from_str(&text)).transpose().map_err(wrong)
}

/// A token is its text, or an object that has it.
fn specials(config: &Value) -> impl Iterator<Item = (String, String)> {
    let fields = config.as_object().into_iter().flatten().filter(|(name, _)| name.ends_with("_token"));
    fields.filter_map(|(name, token)| {
        let text = token.as_str().or_else(|| token["content"].as_str())?;
        Some((name.clone(), text.to_owned()))
    })
}

/// One template, or several with their names.
fn templates(value: &Value) -> BTreeMap<String, String> {
    let named = |entry: &Value| Some((entry["name"].as_str()?.to_owned(), entry["template"].as_str()?.to_owned()));
    match value {
        Value::String(source) => BTreeMap::from([("default".to_owned(), source.clone())]),
        Value::Array(list) => list.iter().filter_map(named).collect(),
        _ => BTreeMap::new(),
    }
}
