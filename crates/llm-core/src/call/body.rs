//! A question's body: the client's bytes or our nouns, each made from the other when somebody asks.
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::Call;
use super::ChatRequest;
use super::context::Context;
use super::nouns::{CompleteRequest, Request};
use super::operation::{Delivery, Operation};
use super::scan::{self, Field};
use crate::dialect::{self, Dialect};
use crate::error::{Error, Result};

/// No question has so many fields; each is compared with all others.
const MOST_FIELDS: usize = 256;

/// A question in bytes that its host understands.
///
/// ```
/// use llm_core::{Call, ChatRequest, Delivery, Wired, dialect};
/// let Wired { dialect, bytes } = Call::new(ChatRequest::new("hi"), Delivery::Stream).wire(&[dialect::openai()])?;
/// assert_eq!(dialect.name(), "openai");
/// let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
/// assert_eq!((&body["messages"][0]["content"], &body["stream"]), (&"hi".into(), &true.into()));
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Wired {
    /// Whose shape the bytes have.
    pub dialect: &'static dyn Dialect,
    /// The whole body.
    pub bytes: Bytes,
}

#[derive(Clone)]
pub(super) struct Body {
    source: Source,
    edits: Vec<Edit>,
    understood: OnceLock<Arc<Request>>,
}

#[derive(Clone)]
enum Source {
    Wire(Arc<Wire>),
    Nouns,
}

struct Wire {
    dialect: &'static dyn Dialect,
    bytes: Bytes,
    fields: Vec<Field>,
}

/// A stretch of the client's bytes and what stands there instead.
#[derive(Clone)]
struct Edit {
    at: Range<usize>,
    new: Bytes,
}

impl Body {
    pub(super) fn read(
        operation: Operation,
        dialect: &'static dyn Dialect,
        bytes: Bytes,
    ) -> Result<(Body, Arc<str>, Delivery)> {
        let fields = scan::object(&bytes, MOST_FIELDS + 1)?;
        let wire = Wire { dialect, bytes, fields };
        wire.refuse_duplicates()?;
        let (model, delivery) = (wire.model()?, wire.delivery(operation)?);
        let source = Source::Wire(Arc::new(wire));
        Ok((Body { source, edits: Vec::new(), understood: OnceLock::new() }, model, delivery))
    }

    pub(super) fn nouns(request: Request) -> Body {
        Body { source: Source::Nouns, edits: Vec::new(), understood: OnceLock::from(Arc::new(request)) }
    }

    pub(super) fn request(&self, operation: Operation, context: &Context) -> Result<&Request> {
        if let Some(request) = self.understood.get() {
            return Ok(request);
        }
        let Source::Wire(wire) = &self.source else { unreachable!("nouns are understood from the start") };
        let mut lost = Vec::new();
        let request = wire.dialect.read(operation, &self.spliced(wire), &mut lost)?;
        lost.into_iter().for_each(|what| context.warn(what));
        Ok(self.understood.get_or_init(|| Arc::new(request)))
    }

    pub(super) fn wire(&self, call: &Call, speaks: &[&'static dyn Dialect]) -> Result<Wired> {
        if let Source::Wire(wire) = &self.source
            && self.is_as_it_came(speaks)
        {
            return Ok(Wired { dialect: wire.dialect, bytes: self.spliced(wire) });
        }
        let dialect = *speaks.first().ok_or_else(|| Error::config("a host must speak some dialect"))?;
        Ok(Wired { dialect, bytes: dialect.write(call)? })
    }

    pub(super) fn is_as_it_came(&self, speaks: &[&'static dyn Dialect]) -> bool {
        let Source::Wire(wire) = &self.source else { return false };
        speaks.iter().any(|dialect| dialect.name() == wire.dialect.name())
    }

    pub(super) fn dimensions(&self) -> Option<u32> {
        match (&self.source, self.understood.get().map(|request| &**request)) {
            (Source::Wire(_), _) => serde_json::from_slice(self.raw("dimensions")?).ok()?,
            (Source::Nouns, Some(Request::Embed(request))) => request.dimensions,
            _ => None,
        }
    }

    pub(super) fn choices(&self) -> usize {
        match (&self.source, self.understood.get().map(|request| &**request)) {
            (Source::Wire(_), _) => {
                let n = self.raw("n").and_then(|n| serde_json::from_slice::<usize>(n).ok()).unwrap_or(1);
                n.saturating_mul(self.raw("prompt").map_or(1, prompts)).max(1)
            }
            (
                _,
                Some(
                    Request::Chat(ChatRequest { n: Some(n), .. })
                    | Request::Complete(CompleteRequest { n: Some(n), .. }),
                ),
            ) => (*n as usize).max(1),
            _ => 1,
        }
    }

    pub(super) fn size(&self, call: &Call) -> usize {
        match &self.source {
            Source::Wire(wire) => wire.bytes.len(),
            Source::Nouns => dialect::openai().write(call).map_or(0, |bytes| bytes.len()),
        }
    }

    pub(super) fn has(&self, field: &str) -> bool {
        match (&self.source, self.understood.get()) {
            (Source::Wire(wire), _) => wire.find(field).is_some(),
            (Source::Nouns, Some(request)) => request.extra().is_some_and(|extra| extra.contains_key(field)),
            (Source::Nouns, None) => false,
        }
    }

    pub(super) fn raw(&self, field: &str) -> Option<&[u8]> {
        let Source::Wire(wire) = &self.source else { return None };
        wire.find(field).map(|f| &wire.bytes[f.value.clone()])
    }

    pub(super) fn with(&self, call: &Call, field: &str, value: &Value) -> Result<Body> {
        let Source::Wire(wire) = &self.source else {
            return self.renouned(call, |object| object.set(field, value));
        };
        let json = serde_json::to_vec(value).map_err(|e| Error::invalid("the value cannot be JSON").because(e))?;
        Ok(match wire.find(field) {
            Some(found) => self.edited(Edit { at: found.value.clone(), new: json.into() }),
            None if wire.fields.is_empty() && !self.edits.is_empty() => {
                return self.settled(wire, call)?.with(call, field, value);
            }
            None => self.edited(wire.insertion(field, &json)),
        })
    }

    /// What is set counts, and of two objects every field that is.
    pub(super) fn with_default(&self, call: &Call, field: &str, value: &Value) -> Result<Body> {
        let mut value = value.clone();
        match (self.value(call, field)?, &mut value) {
            (Value::Null, _) => {}
            (Value::Object(set), Value::Object(defaults)) => defaults.extend(set),
            _ => return Ok(self.clone()),
        }
        self.with(call, field, &value)
    }

    pub(super) fn value(&self, call: &Call, field: &str) -> Result<Value> {
        let wrong = |e| Error::invalid(format!("`{field}` is no JSON")).param(field).because(e);
        match &self.source {
            Source::Wire(_) => self.raw(field).map_or(Ok(Value::Null), serde_json::from_slice).map_err(wrong),
            Source::Nouns => {
                Ok(call.request()?.extra().and_then(|extra| extra.get(field)).cloned().unwrap_or_default())
            }
        }
    }

    pub(super) fn without(&self, call: &Call, messages: Range<usize>) -> Result<Body> {
        let Source::Wire(wire) = &self.source else { return self.renouned(call, |object| object.cut(messages)) };
        let list = wire
            .find("messages")
            .ok_or_else(|| Error::invalid("`messages` is missing").param("messages"))?
            .value
            .clone();
        if self.edits.iter().any(|e| !e.at.is_empty() && list.start <= e.at.start && e.at.end <= list.end) {
            return self.settled(wire, call)?.without(call, messages); // counts what is there now
        }
        let inside = scan::elements(&wire.bytes[list.clone()])?;
        let stretch = cut(&inside, messages).ok_or_else(|| Error::invalid("no such messages").param("messages"))?;
        Ok(self.edited(Edit { at: list.start + stretch.start..list.start + stretch.end, new: Bytes::new() }))
    }

    /// A later edit of the same stretch, or of one around it, takes the earlier one's place.
    fn edited(&self, edit: Edit) -> Body {
        let insertion = edit.at.is_empty();
        let inside =
            |e: &Edit| !insertion && !e.at.is_empty() && edit.at.start <= e.at.start && e.at.end <= edit.at.end;
        let same_key = |e: &Edit| insertion && e.at == edit.at && key_of(&e.new) == key_of(&edit.new);
        let mut edits: Vec<Edit> = self.edits.iter().filter(|e| !inside(e) && !same_key(e)).cloned().collect();
        edits.push(edit);
        Body { source: self.source.clone(), edits, understood: OnceLock::new() }
    }

    /// The edits made good, so that further ones can stand inside them.
    fn settled(&self, wire: &Wire, call: &Call) -> Result<Body> {
        Ok(Body::read(call.operation, wire.dialect, self.spliced(wire))?.0)
    }

    fn spliced(&self, wire: &Wire) -> Bytes {
        if self.edits.is_empty() {
            return wire.bytes.clone();
        }
        let mut edits: Vec<&Edit> = self.edits.iter().collect();
        edits.sort_by_key(|e| (e.at.start, e.at.end));
        let mut out = BytesMut::with_capacity(wire.bytes.len() + edits.iter().map(|e| e.new.len()).sum::<usize>());
        let mut from = 0;
        for edit in edits {
            out.extend_from_slice(&wire.bytes[from..edit.at.start.max(from)]);
            out.extend_from_slice(&edit.new);
            from = from.max(edit.at.end);
        }
        out.extend_from_slice(&wire.bytes[from..]);
        out.freeze()
    }

    /// Nouns are edited as the JSON they would be, so that a field means the same on both ways.
    fn renouned(&self, call: &Call, edit: impl FnOnce(&mut Object) -> Result<()>) -> Result<Body> {
        let request = self.request(call.operation, &call.context)?;
        let openai = dialect::openai();
        let json = openai.write(&Call::new(request.clone(), Delivery::Whole))?;
        let mut object =
            Object(serde_json::from_slice(&json).map_err(|e| Error::invalid("no JSON object").because(e))?);
        edit(&mut object)?;
        let json = serde_json::to_vec(&object.0).map_err(|e| Error::invalid("no JSON object").because(e))?;
        Ok(Body::nouns(openai.read(call.operation, &json, &mut Vec::new())?))
    }
}

struct Object(serde_json::Map<String, Value>);

impl Object {
    fn set(&mut self, field: &str, value: &Value) -> Result<()> {
        self.0.insert(field.into(), value.clone());
        Ok(())
    }

    fn cut(&mut self, messages: Range<usize>) -> Result<()> {
        let list = self.0.get_mut("messages").and_then(Value::as_array_mut);
        let list = list.filter(|l| messages.end <= l.len()).ok_or_else(|| Error::invalid("no such messages"))?;
        list.drain(messages);
        Ok(())
    }
}

impl Wire {
    fn key(&self, field: &Field) -> &[u8] {
        &self.bytes[field.key.clone()]
    }

    fn find(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| self.key(f) == name.as_bytes())
    }

    /// Two fields of one name mean one thing to us and another upstream: a way around every rule, so it is refused.
    fn refuse_duplicates(&self) -> Result<()> {
        if self.fields.len() > MOST_FIELDS {
            return Err(Error::invalid(format!("the body has more than {MOST_FIELDS} top-level fields")));
        }
        for (i, field) in self.fields.iter().enumerate() {
            let key = self.key(field);
            if key.contains(&b'\\') {
                return Err(Error::invalid("the name of a top-level field must not be written with escapes"));
            }
            if self.fields[..i].iter().any(|f| self.key(f) == key) {
                let key = String::from_utf8_lossy(key).into_owned();
                return Err(Error::invalid(format!("`{key}` is given twice")).param(key));
            }
        }
        Ok(())
    }

    fn model(&self) -> Result<Arc<str>> {
        let Some(field) = self.find("model") else { return Ok(Arc::default()) };
        match serde_json::from_slice::<Option<std::borrow::Cow<str>>>(&self.bytes[field.value.clone()]) {
            Ok(name) => Ok(name.unwrap_or_default().into()),
            Err(_) => Err(Error::invalid("`model` must be a string").param("model")),
        }
    }

    fn delivery(&self, operation: Operation) -> Result<Delivery> {
        match self.find("stream").map(|f| &self.bytes[f.value.clone()]) {
            Some(b"true") => Ok(Delivery::Stream),
            Some(b"false") => Ok(Delivery::Whole),
            Some(b"null") | None => Ok(self.dialect.delivery(operation)),
            Some(_) => Err(Error::invalid("`stream` must be true or false").param("stream")),
        }
    }

    fn insertion(&self, field: &str, value: &[u8]) -> Edit {
        let start = self.bytes.iter().position(|&b| b == b'{').expect("a scanned body is an object") + 1;
        let mut new = serde_json::to_vec(field).expect("a name is JSON");
        new.push(b':');
        new.extend_from_slice(value);
        // The first field of an object that has others: a comma parts them. Insertions into an empty one follow each other.
        if !self.fields.is_empty() {
            new.push(b',');
        }
        Edit { at: start..start, new: new.into() }
    }
}

/// A list of texts, or of lists of tokens, is several; a list of tokens is one.
fn prompts(raw: &[u8]) -> usize {
    if raw.first() != Some(&b'[') {
        return 1;
    }
    let is_prompt = |element: &&Field| matches!(raw.get(element.value.start), Some(b'"' | b'['));
    scan::elements(raw).map_or(1, |elements| elements.iter().filter(is_prompt).count().max(1))
}

fn key_of(insertion: &Bytes) -> &[u8] {
    let end = insertion.iter().position(|&b| b == b':').unwrap_or(insertion.len());
    &insertion[..end]
}

/// The stretch of an array that these elements take, with the commas that would be left over.
fn cut(elements: &[Field], which: Range<usize>) -> Option<Range<usize>> {
    if which.start > which.end || which.end > elements.len() {
        return None;
    }
    if which.is_empty() {
        let at = elements.first().map_or(1, |e| e.value.start);
        return Some(at..at);
    }
    let (first, last) = (&elements[which.start], &elements[which.end - 1]);
    Some(match (elements.get(which.end), which.start.checked_sub(1)) {
        (Some(next), _) => first.value.start..next.value.start,
        (None, Some(before)) => elements[before].value.end..last.value.end,
        (None, None) => first.value.start..last.value.end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{ChatRequest, Message};
    use proptest::prelude::*;
    use serde_json::json;

    const BODY: &str = r#"{ "model":"alias", "messages":[ {"role":"user","content":"1"} , {"role":"assistant","content":"2"},{"role":"user","content":"3\u00e9"}], "stream":true,"x":{"y":[1]} }"#;

    fn call(body: &str) -> Call {
        Call::read(Operation::Chat, dialect::openai(), Bytes::copy_from_slice(body.as_bytes())).unwrap()
    }

    fn wired(call: &Call) -> String {
        String::from_utf8(call.wire(&[dialect::openai()]).unwrap().bytes.to_vec()).unwrap()
    }

    #[test]
    fn bytes_that_nobody_changed_are_the_same_bytes() {
        let bytes = Bytes::from_static(BODY.as_bytes());
        let call = Call::read(Operation::Chat, dialect::openai(), bytes.clone()).unwrap();
        assert_eq!(call.wire(&[dialect::openai()]).unwrap().bytes.as_ptr(), bytes.as_ptr());
        assert_eq!((&*call.model, call.delivery), ("alias", Delivery::Stream));
    }

    #[test]
    fn an_alias_is_spliced_and_every_other_byte_stays() {
        let call = call(BODY).for_model(&"real\"name".into());
        assert_eq!(wired(&call), BODY.replace("\"alias\"", r#""real\"name""#));
        assert_eq!(&*call.model, "real\"name");
    }

    #[test]
    fn a_field_that_was_not_there_is_put_in() {
        assert_eq!(wired(&call("{}").with("a", &json!(1)).unwrap().with("b", &json!(2)).unwrap()), r#"{"b":2,"a":1}"#);
        let twice = call(r#"{"model":"m"}"#).with("a", &json!(1)).unwrap().with("a", &json!(2)).unwrap();
        assert_eq!(wired(&twice), r#"{"a":2,"model":"m"}"#);
    }

    #[test]
    fn a_default_fills_what_is_not_set_whether_bytes_or_nouns() {
        let defaults = json!({"a": 1, "b": 2});
        let fill = |call: Call| call.with_default("options", &defaults).unwrap();
        let nouns = || Call::new(ChatRequest::new("hi").extra("options", json!({"b": 3})), Delivery::Whole);
        for call in [call(r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"options":{"b":3}}"#), nouns()] {
            assert_eq!(fill(call).chat().unwrap().extra["options"], json!({"a": 1, "b": 3}));
        }
        assert_eq!(wired(&fill(call(r#"{"options":null}"#))), r#"{"options":{"a":1,"b":2}}"#);
        assert_eq!(wired(&fill(call(r#"{"options":"odd"}"#))), r#"{"options":"odd"}"#);
        let filled = fill(Call::new(ChatRequest::new("hi"), Delivery::Whole)).with_default("keep_alive", &json!("5m"));
        let chat = filled.unwrap();
        assert_eq!(
            (&chat.chat().unwrap().extra["options"], &chat.chat().unwrap().extra["keep_alive"]),
            (&defaults, &json!("5m"))
        );
    }

    #[test]
    fn messages_are_cut_with_their_commas() {
        for (cut, left) in [
            (0..1, vec!["2", "3é"]),
            (1..3, vec!["1"]),
            (2..3, vec!["1", "2"]),
            (0..3, vec![]),
            (1..1, vec!["1", "2", "3é"]),
        ] {
            let json: Value = serde_json::from_str(&wired(&call(BODY).without(cut).unwrap())).unwrap();
            let texts: Vec<_> =
                json["messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect();
            assert_eq!(texts, left);
        }
        assert!(call(BODY).without(2..4).is_err());
    }

    #[test]
    fn a_field_given_twice_is_refused() {
        let twice = Bytes::from_static(br#"{"model":"a","model":"b"}"#);
        assert!(Call::read(Operation::Chat, dialect::openai(), twice).unwrap_err().to_string().contains("twice"));
        let escaped = Bytes::from_static(br#"{"mod\u0065l":"a"}"#);
        assert!(Call::read(Operation::Chat, dialect::openai(), escaped).is_err());
    }

    #[test]
    fn nouns_are_edited_as_the_json_they_would_be() {
        let call =
            Call::new(ChatRequest::new("hi").message(Message::assistant("yo")).temperature(0.2), Delivery::Whole);
        let call = call.with("top_k", &json!(5)).unwrap().without(0..1).unwrap().for_model(&"m".into());
        let chat = call.chat().unwrap();
        assert_eq!((chat.sampling.top_k, chat.sampling.temperature, chat.messages.len()), (Some(5), Some(0.2), 1));
        assert!(wired(&call).contains(r#""model":"m""#));
    }

    proptest! {
        /// Whatever edits in whatever order: the bytes mean what the same edits of a parsed value mean.
        #[test]
        fn splices_in_every_order_mean_the_same(edits in prop::collection::vec((0usize..4, 0usize..4), 0..8)) {
            let mut expected: Value = serde_json::from_str(BODY).unwrap();
            let mut call = call(BODY);
            for (what, n) in edits {
                match what {
                    0 => {
                        let field = ["model", "new", "x", "messages"][n];
                        let value = if n == 3 { json!([{"role":"user","content":"new"}, {"role":"user","content":"er"}]) } else { json!(format!("v{n}")) };
                        call = call.with(field, &value).unwrap();
                        expected[field] = value;
                    }
                    1 => {
                        call = call.for_model(&format!("m{n}").into());
                        expected["model"] = json!(format!("m{n}"));
                    }
                    _ => {
                        let list = expected["messages"].as_array_mut().unwrap();
                        if n < list.len() {
                            list.remove(n);
                            call = call.without(n..n + 1).unwrap();
                        }
                    }
                }
            }
            prop_assert_eq!(serde_json::from_str::<Value>(&wired(&call)).unwrap(), expected);
        }
    }
}
