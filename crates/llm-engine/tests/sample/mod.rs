//! A little model file made in memory, every part of which a test can change.
#![allow(dead_code, reason = "each test program uses a part of it")]

use llm_engine::gguf::{Setting, Stored, Writer};

/// A complete little model, to be spoilt before it is written.
pub(crate) struct Sample<'a> {
    pub(crate) settings: Vec<(&'a str, Setting<'a>)>,
    pub(crate) tensors: Vec<(&'a str, Vec<u64>)>,
}

impl<'a> Sample<'a> {
    pub(crate) fn new(tokens: &'a [String]) -> Sample<'a> {
        let settings = vec![
            ("general.architecture", Setting::Text("bert")),
            ("general.name", Setting::Text("Sample")),
            ("bert.context_length", Setting::U32(512)),
            ("bert.embedding_length", Setting::U32(8)),
            ("bert.block_count", Setting::U32(2)),
            ("bert.attention.head_count", Setting::I32s(&[2, 4])),
            ("bert.pooling_type", Setting::U32(1)),
            ("general.file_type", Setting::U32(1)),
            ("tokenizer.ggml.tokens", Setting::Texts(tokens)),
            ("tokenizer.ggml.eos_token_id", Setting::U32(2)),
            ("tokenizer.ggml.padding_token_id", Setting::U32(u32::MAX)),
            ("tokenizer.chat_template", Setting::Text("{{ messages }}")),
        ];
        Sample { settings, tensors: vec![("token_embd.weight", vec![8, 4]), ("output_norm.weight", vec![5])] }
    }

    pub(crate) fn with(mut self, key: &'a str, value: Setting<'a>) -> Sample<'a> {
        match self.settings.iter_mut().find(|(name, _)| *name == key) {
            Some(place) => place.1 = value,
            None => self.settings.push((key, value)),
        }
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Sample<'a> {
        self.settings.retain(|(name, _)| *name != key);
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        let (mut writer, mut out) = (Writer::default(), Vec::new());
        self.settings.into_iter().for_each(|(key, value)| writer.set(key, value));
        self.tensors.iter().for_each(|(name, shape)| writer.tensor(name, shape, Stored::F16));
        writer.write_header(&mut out).unwrap();
        for (_, shape) in &self.tensors {
            Writer::write_tensor(&mut out, &vec![1; 2 * shape.iter().product::<u64>() as usize]).unwrap();
        }
        out
    }
}

pub(crate) fn tokens() -> Vec<String> {
    ["[PAD]", "a", "[SEP]", "b"].map(str::to_owned).to_vec()
}
