//! The real default models, brought by the real pip into the user's own store, so that a second run finds them there.

use llm_engine::defaults::{MODELS, Store};
use llm_engine::gguf;

#[test]
fn the_default_models_arrive_and_are_what_they_should_be() {
    let store = Store::from_env(|name| std::env::var(name).ok()).unwrap();
    for model in MODELS {
        let mut last = None;
        let path = store
            .fetch(model, &mut |step| {
                if last.replace(step.stage) != Some(step.stage) {
                    eprintln!("{}: {}", model.name, step.stage.name());
                }
            })
            .unwrap();
        let header = gguf::check(&path).unwrap();
        assert_eq!((header.size, header.quantization.as_str()), (model.bytes, "F16"));
        assert_eq!(header.pooling.is_some(), model.role == "embedding");
        assert_eq!(header.has_chat_template, model.role == "chat");
        assert!(store.installed(model).is_some());
    }
}
