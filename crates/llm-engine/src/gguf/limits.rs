//! What llama.cpp takes for granted and aborts the process over, beyond layers and context: found by bending files.
use super::Problem;
use super::metadata::{Metadata, Value};

/// llama.cpp's LLAMA_MAX_EXPERTS.
const MOST_EXPERTS: i128 = 1_024;
/// Heads, and numbers in one: far above 128 and 1,024, the largest published.
const MOST_HEADS: i128 = 1 << 14;
/// What it makes of other names is the same as of none.
const ROPE_SCALINGS: [&str; 4] = ["none", "linear", "yarn", "longrope"];

pub(super) fn keeps_the_limits(
    metadata: &Metadata,
    architecture: &str,
    blocks: u32,
    vocabulary: u32,
) -> Result<(), Problem> {
    let model = Model { metadata, architecture };
    model.parts_fit(blocks.into())?;
    model.heads_fit()?;
    model.experts_fit()?;
    model.scaling_is_known()?;
    model.pooling_is_known()?;
    norms_are_positive(metadata)?;
    ends_exist(metadata, vocabulary.into())
}

/// The keys of one architecture.
struct Model<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl Model<'_> {
    fn whole(&self, key: &str) -> Option<i128> {
        self.metadata.whole(&format!("{}.{key}", self.architecture))
    }

    fn parts_fit(&self, blocks: i128) -> Result<(), Problem> {
        for key in ["nextn_predict_layers", "posnet.block_count", "convnext.block_count"] {
            if self.whole(key).is_some_and(|layers| !(0..=blocks).contains(&layers)) {
                return Problem::damaged(format!("its {key} does not fit its {blocks} layers"));
            }
        }
        Ok(())
    }

    /// Beyond these bounds sizes wrap around in 32 bits and fit by accident.
    fn heads_fit(&self) -> Result<(), Problem> {
        for key in ["head_count", "head_count_kv", "key_length", "value_length", "key_length_swa", "value_length_swa"] {
            let number = self.whole(&format!("attention.{key}"));
            if number.is_some_and(|number| !(0..=MOST_HEADS).contains(&number)) {
                return Problem::damaged(format!("its attention.{key} is not within 0..={MOST_HEADS}"));
            }
        }
        self.heads_share_the_width()
    }

    /// Without a length of its own, a head gets an equal share.
    fn heads_share_the_width(&self) -> Result<(), Problem> {
        let (heads, width) = (self.whole("attention.head_count"), self.whole("embedding_length"));
        match (heads, width, self.whole("attention.key_length")) {
            (Some(heads @ 1..), Some(width), None) if width % heads != 0 => {
                Problem::damaged(format!("its {heads} heads do not divide its width of {width}"))
            }
            _ => Ok(()),
        }
    }

    fn experts_fit(&self) -> Result<(), Problem> {
        let number = |key| self.whole(key).unwrap_or(0);
        let (experts, used) = (number("expert_count"), number("expert_used_count"));
        let (groups, used_groups) = (number("expert_group_count"), number("expert_group_used_count"));
        let fits = match experts {
            0 => used == 0 && groups == 0,
            1..=MOST_EXPERTS => (1..=experts).contains(&used) && (0..experts).contains(&groups),
            _ => false,
        };
        let groups_fit = groups <= 1 || experts % groups == 0 && (1..groups).contains(&used_groups);
        match fits && groups_fit {
            true => Ok(()),
            false => Problem::damaged(format!("of its {experts} experts {used} work, in {groups} groups")),
        }
    }

    fn scaling_is_known(&self) -> Result<(), Problem> {
        let key = format!("{}.rope.scaling.type", self.architecture);
        match self.metadata.text(&key) {
            Some(name) if !ROPE_SCALINGS.contains(&name) => {
                Problem::damaged(format!("its {key} is \"{}\"", name.escape_debug()))
            }
            _ => Ok(()),
        }
    }

    fn pooling_is_known(&self) -> Result<(), Problem> {
        match self.whole("pooling_type") {
            Some(pooling) if !(0..=4).contains(&pooling) => Problem::damaged(format!("its pooling_type is {pooling}")),
            _ => Ok(()),
        }
    }
}

fn norms_are_positive(metadata: &Metadata) -> Result<(), Problem> {
    let bad = |value: &Value| matches!(*value, Value::Real(epsilon) if !(0.0..1.0).contains(&epsilon));
    match metadata.iter().find(|(key, value)| key.ends_with("_epsilon") && bad(value)) {
        Some((key, _)) => Problem::damaged(format!("its {key} is not between 0 and 1")),
        None => Ok(()),
    }
}

/// The tokens around a text must exist where the tokenizer adds them; without a key llama.cpp assumes an id.
fn ends_exist(metadata: &Metadata, vocabulary: i128) -> Result<(), Problem> {
    const NONE: i128 = i128::MAX;
    let (begin, end) = match metadata.text("tokenizer.ggml.model") {
        Some("bert") => return bert_ends_exist(metadata, vocabulary),
        Some("llama") => (1, 2),
        Some("gpt2") => (11, 11),
        Some("t5") => (NONE, 1),
        _ => (NONE, NONE),
    };
    let added = |end: &str| metadata.truth(&format!("tokenizer.ggml.add_{end}_token")) == Some(true);
    match added("bos") && !exists(metadata, "bos", begin, vocabulary)
        || added("eos") && !exists(metadata, "eos", end, vocabulary)
    {
        true => Problem::damaged("it adds a token to every text that does not exist"),
        false => Ok(()),
    }
}

/// They are added whatever the keys say.
fn bert_ends_exist(metadata: &Metadata, vocabulary: i128) -> Result<(), Problem> {
    match exists(metadata, "bos", 101, vocabulary) && exists(metadata, "seperator", 102, vocabulary) {
        true => Ok(()),
        false => Problem::damaged("it has no token for the beginning or the end of a text"),
    }
}

fn exists(metadata: &Metadata, name: &str, assumed: i128, vocabulary: i128) -> bool {
    let id = metadata.whole(&format!("tokenizer.ggml.{name}_token_id"));
    id.filter(|&id| id < vocabulary).unwrap_or(assumed) < vocabulary
}
