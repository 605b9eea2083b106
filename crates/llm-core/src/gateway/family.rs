//! What models are for, and the family of variables that each host has for it: `VLLM_EMBEDDING_MODEL`, `GROQ_API_KEY`.
use super::variables::Variable;
use crate::call::Operation;
use crate::provider::http::Host;

/// Something that a model is for. A user may have another provider for each.
pub(super) struct Purpose {
    /// The variable that names its provider.
    pub(super) provider: &'static str,
    /// What stands in the names of its variables.
    pub(super) word: &'static str,
    /// What its model is called when nobody names it.
    pub(super) name: &'static str,
    /// What such a model may be asked, the most important first.
    pub(super) operations: &'static [Operation],
    what: &'static str,
}

pub(super) const TEXT: Purpose = Purpose {
    provider: "LLM_PROVIDER",
    word: "TEXT",
    name: "text",
    operations: &[Operation::Chat, Operation::Complete],
    what: "answers conversations",
};
pub(super) const VISION: Purpose = Purpose {
    provider: "VISION_PROVIDER",
    word: "VISION",
    name: "vision",
    operations: &[Operation::Chat],
    what: "looks at images",
};
pub(super) const EMBEDDING: Purpose = Purpose {
    provider: "EMBEDDING_PROVIDER",
    word: "EMBEDDING",
    name: "embedding",
    operations: &[Operation::Embed],
    what: "turns texts into vectors",
};

pub(super) const RERANK: Purpose = Purpose {
    provider: "RERANK_PROVIDER",
    word: "RERANK",
    name: "rerank",
    operations: &[Operation::Rerank, Operation::Score],
    what: "orders documents by how well they answer",
};

/// All of them; the one for text comes first, as the others lean on it.
pub(super) const PURPOSES: &[Purpose] = &[TEXT, VISION, EMBEDDING, RERANK];

impl Purpose {
    pub(super) fn is_text(&self) -> bool {
        self.word == TEXT.word
    }

    pub(super) fn is_vision(&self) -> bool {
        self.word == VISION.word
    }

    /// Whether a host can be asked this.
    pub(super) fn suits(&self, host: &Host) -> bool {
        host.operations().contains(self.operations[0])
    }

    /// The variables that say where its host is, the nearest first.
    pub(super) fn url_variables(&self, host: &Host) -> Vec<String> {
        let own = (!self.is_text()).then(|| self.own_url_variable(host));
        let aliases = host.url_aliases.iter().map(|&name| name.to_owned());
        own.into_iter().chain([format!("{}_BASE_URL", host.prefix)]).chain(aliases).collect()
    }

    pub(super) fn own_url_variable(&self, host: &Host) -> String {
        format!("{}_{}_BASE_URL", host.prefix, self.word)
    }

    /// The variables that name its model.
    pub(super) fn model_variables(&self, host: &Host) -> Vec<String> {
        let short = self.is_text().then(|| format!("{}_MODEL", host.prefix));
        [format!("{}_{}_MODEL", host.prefix, self.word)].into_iter().chain(short).collect()
    }

    pub(super) fn provider_variable(&self) -> Variable {
        let about = format!("who {}, if somebody else", self.what);
        Variable { about: about.into(), ..Variable::new(self.provider, "", "") }
    }
}

pub(super) fn dimensions_variable(host: &Host) -> String {
    format!("{}_EMBEDDING_DIMENSIONS", host.prefix)
}

pub(super) fn ca_variable(host: &Host) -> String {
    format!("{}_CA_FILE", host.prefix)
}

pub(super) fn tokenizer_variable(host: &Host) -> String {
    format!("{}_TOKENIZER", host.prefix)
}

/// All variables of a host.
pub(super) fn variables(host: &Host) -> Vec<Variable> {
    let mut all = vec![url(host), key(host)];
    for purpose in PURPOSES.iter().filter(|purpose| purpose.suits(host)) {
        all.push(model(host, purpose));
        if !purpose.is_text() && !host.needs_key {
            all.push(own_url(host, purpose));
        }
    }
    all.extend(EMBEDDING.suits(host).then(|| dimensions(host)));
    all.extend(TEXT.suits(host).then(|| tokenizer(host)));
    all.extend((!host.needs_key).then(|| ca_file(host)));
    all.extend(host.own.iter().map(|own| Variable::new(own.variable, own.about, "")));
    all
}

fn variable(name: String, about: String, default: &'static str) -> Variable {
    Variable { name: name.into(), about: about.into(), ..Variable::new("", "", default) }
}

fn url(host: &Host) -> Variable {
    let aliases = host.url_aliases.iter().map(|alias| format!("; {alias} is read too")).collect::<String>();
    let about = format!("where it is: http://host:port, with or without /v1{aliases}");
    variable(format!("{}_BASE_URL", host.prefix), about, host.base_url.unwrap_or_default())
}

fn key(host: &Host) -> Variable {
    let whether = if host.needs_key { "which it wants" } else { "if it wants one" };
    variable(host.key_variable(), format!("its key, {whether}"), "").secret()
}

fn model(host: &Host, purpose: &Purpose) -> Variable {
    let without = match (purpose.is_text(), host.has_many_models) {
        (true, false) => "; without it every name goes there, and no name means the first model that it lists",
        (true, true) if host.needs_key => "; without it every name goes there, and no name is an error",
        (true, true) => "; without it every name goes there",
        (false, _) => "",
    };
    let [name, ..] = &purpose.model_variables(host)[..] else { unreachable!("every purpose has a variable") };
    variable(name.clone(), format!("its model that {}{without}", purpose.what), "")
}

fn own_url(host: &Host, purpose: &Purpose) -> Variable {
    let about = format!("where the one is that {}, if it is another: a vLLM serves one model", purpose.what);
    let about = if host.name == "vllm" { about } else { about.replace(": a vLLM serves one model", "") };
    variable(purpose.own_url_variable(host), about, "")
}

fn dimensions(host: &Host) -> Variable {
    let about = "how many numbers its vectors have; others are refused, so that two models' never mix".to_owned();
    variable(dimensions_variable(host), about, "")
}

fn tokenizer(host: &Host) -> Variable {
    let about = "the folder of the Hugging Face model that answers conversations, or its tokenizer.json: tokens are then \
                 counted here (a build with the feature hf-tokens)";
    variable(tokenizer_variable(host), about.to_owned(), "")
}

fn ca_file(host: &Host) -> Variable {
    let about = "a PEM file with the authority of its certificate, trusted beside the system's".to_owned();
    variable(ca_variable(host), about, "")
}
