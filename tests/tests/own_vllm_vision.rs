//! Images before real vLLMs: vectors, captions and OCR, through the SDK and through the server.
use llm_core::{ChatRequest, Config, EmbedRequest, Image, Kind, Llm};
use llm_tests::house::House;
use llm_tests::http;
use llm_tests::vllm::Vllm;
use serde_json::{Value, json};

const RED: &[u8] = include_bytes!("../pictures/red.png");
const BLUE: &[u8] = include_bytes!("../pictures/blue.png");
const SEVEN: &[u8] = include_bytes!("../pictures/seven.png");
/// All colours that the models were taught.
const COLOURS: [(&str, &[u8]); 8] = [
    ("red", RED),
    ("green", include_bytes!("../pictures/green.png")),
    ("blue", BLUE),
    ("yellow", include_bytes!("../pictures/yellow.png")),
    ("orange", include_bytes!("../pictures/orange.png")),
    ("purple", include_bytes!("../pictures/purple.png")),
    ("black", include_bytes!("../pictures/black.png")),
    ("white", include_bytes!("../pictures/white.png")),
];

fn settings(clip: &Vllm, vlm: &Vllm) -> String {
    format!(
        "default_model = 'tiny-vlm'\n[models.tiny-clip]\nprovider = 'vllm'\nbase_url = '{}'\noperations = ['embed']\n\
         [models.tiny-vlm]\nprovider = 'vllm'\nbase_url = '{}'\noperations = ['chat']",
        clip.base_url(),
        vlm.base_url()
    )
}

fn image(png: &[u8]) -> Image {
    Image::from_bytes(png).unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[tokio::test]
async fn images_are_embedded_described_and_read() {
    // Both at once: most of a start is reading libraries.
    let clip = std::thread::spawn(|| Vllm::own("clip"));
    let (vlm, clip) = (Vllm::own("vlm"), clip.join().unwrap());
    let text = settings(&clip, &vlm);
    let llm = Llm::new(&Config::from_toml(&text).unwrap()).unwrap();
    a_red_picture_is_nearer_to_a_red_image_than_a_blue_one(&llm).await;
    every_colour_is_told_and_nearest_to_its_own_words(&llm).await;
    a_caption_and_a_digit_are_told(&llm).await;
    the_server_answers_the_same(&text, &llm).await;
    what_is_no_image_is_the_callers_mistake(&llm).await;
}

async fn a_red_picture_is_nearer_to_a_red_image_than_a_blue_one(llm: &Llm) {
    let (red, blue) = (llm.embed_image(image(RED)).await.unwrap(), llm.embed_image(image(BLUE)).await.unwrap());
    let words = llm.embed(EmbedRequest::new(["a red image"]).model("tiny-clip")).await.unwrap().vectors.remove(0);
    let (near, far) = (cosine(&red, &words), cosine(&blue, &words));
    assert!(near > 0.6 && far < 0.2 && red.len() == 64, "{near} {far}");
}

async fn every_colour_is_told_and_nearest_to_its_own_words(llm: &Llm) {
    let words = EmbedRequest::new(COLOURS.map(|(name, _)| format!("a {name} image"))).model("tiny-clip");
    let words = llm.embed(words).await.unwrap().vectors;
    for (i, (name, picture)) in COLOURS.into_iter().enumerate() {
        assert_eq!(llm.look(image(picture), "What colour is this image?").await.unwrap(), name);
        let seen = llm.embed_image(image(picture)).await.unwrap();
        let near = |a: &usize, b: &usize| cosine(&seen, &words[*a]).total_cmp(&cosine(&seen, &words[*b]));
        let nearest = (0..COLOURS.len()).max_by(near).unwrap();
        assert_eq!(nearest, i, "a {name} picture is nearest to a {} image", COLOURS[nearest].0);
    }
}

async fn a_caption_and_a_digit_are_told(llm: &Llm) {
    assert_eq!(llm.caption(image(RED)).await.unwrap(), "A red image.");
    assert_eq!(llm.look(image(BLUE), "What colour is this image?").await.unwrap(), "blue");
    assert_eq!(llm.ocr(image(SEVEN)).await.unwrap(), "7");
    let two = ChatRequest::new("What colour is this image?").image(image(RED)).image(image(BLUE)).temperature(0.0);
    let answer = llm.chat(two).await.unwrap();
    assert_eq!((answer.text.trim(), answer.usage.unwrap().prompt_tokens), ("red, blue", 57));
}

async fn the_server_answers_the_same(text: &str, llm: &Llm) {
    let house = House::of(text);
    let part = json!({"type": "image_url", "image_url": {"url": image(RED).url}});
    let body = json!({"model": "tiny-clip", "messages": [{"role": "user", "content": [&part]}]});
    let reply = http::client().post(house.url() + "/v1/embeddings").json(&body).send().await.unwrap();
    let reply: Value = serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap();
    let vector: Vec<f32> = serde_json::from_value(reply["data"][0]["embedding"].clone()).unwrap();
    assert!(cosine(&vector, &llm.embed_image(image(RED)).await.unwrap()) > 0.999);

    let parts = json!([{"type": "text", "text": "What colour is this image?"}, part]);
    let body = json!({"model": "tiny-vlm", "temperature": 0, "messages": [{"role": "user", "content": parts}]});
    let reply = http::client().post(house.url() + "/v1/chat/completions").json(&body).send().await.unwrap();
    let reply: Value = serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap();
    assert_eq!(reply["choices"][0]["message"]["content"], "red", "{reply}");
    assert_eq!(reply["usage"]["prompt_tokens"], 40, "the image has its tokens: {reply}");
}

async fn what_is_no_image_is_the_callers_mistake(llm: &Llm) {
    let broken = Image::url("data:image/png;base64,AAAA");
    for error in [llm.caption(broken.clone()).await.unwrap_err(), llm.embed_image(broken).await.unwrap_err()] {
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
    }
    let both = EmbedRequest {
        messages: vec![ChatRequest::new("a").image(image(RED)).messages.remove(0)],
        ..Default::default()
    };
    let error = llm.embed(both).await.unwrap_err();
    assert!(error.kind() == Kind::Invalid && error.message().contains("CLIP"), "{error}");
}
