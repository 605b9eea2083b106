//! Tools from functions, and the loop in which a model calls them until it has its answer.
use std::fmt;
use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::Llm;
use crate::call::*;
use crate::error::{Error, Kind, Result};

type Run = dyn Fn(ToolCall) -> BoxFuture<'static, Result<String>> + Send + Sync;

/// A function that a model may call.
#[derive(Clone)]
pub struct Tool {
    /// What the model calls it: letters, digits, `_` and `-`.
    pub name: String,
    /// What it does, for the model to choose by.
    pub description: String,
    /// The JSON schema of its arguments.
    pub parameters: Value,
    run: Arc<Run>,
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tool({})", self.name)
    }
}

impl Tool {
    /// A tool whose arguments are described by a JSON schema and come as JSON. With the feature `schemars`,
    /// `Tool::of` takes them as a Rust type and writes the schema itself.
    ///
    /// ```
    /// use serde_json::{Value, json};
    /// let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    /// let weather = llm_core::Tool::new("weather", "The weather in a city", schema, async |arguments: Value| {
    ///     Ok(format!("sunny in {}", arguments["city"]))
    /// });
    /// assert_eq!(weather.definition()["function"]["name"], "weather");
    /// ```
    pub fn new<F, R>(name: impl Into<String>, description: impl Into<String>, parameters: Value, run: F) -> Tool
    where
        F: Fn(Value) -> R + Send + Sync + 'static,
        R: Future<Output = Result<String>> + Send + 'static,
    {
        let run = Arc::new(run);
        Tool::with(name.into(), description.into(), parameters, move |call| {
            let run = run.clone();
            Box::pin(async move { run(call.arguments()?).await })
        })
    }

    fn with(
        name: String,
        description: String,
        parameters: Value,
        run: impl Fn(ToolCall) -> BoxFuture<'static, Result<String>> + Send + Sync + 'static,
    ) -> Tool {
        Tool { name, description, parameters, run: Arc::new(run) }
    }

    /// A tool from a function over Rust types; their documentation becomes the schema's.
    ///
    /// ```
    /// #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// struct Sum {
    ///     /// The first number.
    ///     a: i64,
    ///     b: i64,
    /// }
    /// let add = llm_core::Tool::of("add", "Adds two numbers", async |sum: Sum| Ok(sum.a + sum.b));
    /// assert_eq!(add.parameters["properties"]["a"]["description"], "The first number.");
    /// ```
    #[cfg(feature = "schemars")]
    pub fn of<A, T, F, R>(name: impl Into<String>, description: impl Into<String>, run: F) -> Tool
    where
        A: schemars::JsonSchema + serde::de::DeserializeOwned + Send + 'static,
        T: serde::Serialize,
        F: Fn(A) -> R + Send + Sync + 'static,
        R: Future<Output = Result<T>> + Send + 'static,
    {
        let run = Arc::new(run);
        Tool::with(name.into(), description.into(), super::extract::schema::<A>(), move |call| {
            let run = run.clone();
            Box::pin(async move { told(&run(call.arguments()?).await?) })
        })
    }

    /// As OpenAI writes it, for `ChatRequest::tool`.
    pub fn definition(&self) -> Value {
        let function = json!({"name": self.name, "description": self.description, "parameters": self.parameters});
        json!({"type": "function", "function": function})
    }
}

/// A text as it is, everything else as JSON.
#[cfg(feature = "schemars")]
fn told(result: &impl serde::Serialize) -> Result<String> {
    match serde_json::to_value(result) {
        Ok(Value::String(text)) => Ok(text),
        Ok(json) => Ok(json.to_string()),
        Err(e) => Err(Error::new(Kind::Internal, "a tool's result cannot be JSON").because(e)),
    }
}

impl From<&Tool> for Value {
    fn from(tool: &Tool) -> Value {
        tool.definition()
    }
}

/// How an answer with tools came about: what [`Llm::chat_with`] returns.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says("good day"))?;
/// use llm_core::ToolRun;
/// let ToolRun { reply, messages, usage } = llm.chat_with("hello", &[], 1).await?;
/// assert_eq!((reply.text.as_str(), messages.len()), ("good day", 2));
/// println!("{} tokens in all", usage.prompt_tokens + usage.completion_tokens);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ToolRun {
    /// The answer.
    pub reply: ChatReply,
    /// The whole conversation, calls, results and answer included, to go on with.
    pub messages: Vec<Message>,
    /// What all steps cost together.
    pub usage: Usage,
}

impl Llm {
    /// Answers a conversation, calling these tools whenever the model wants to, in at most `max_steps` questions to the
    /// model. What a tool fails with is told to the model, which may try otherwise. Calls of one step run at once.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// # use serde_json::{Value, json};
    /// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says("No, it is sunny."))?;
    /// # let weather = llm_core::Tool::new("weather", "The weather", json!({}), async |_: Value| Ok("sunny".to_owned()));
    /// let run = llm.chat_with("Do I need an umbrella in Paris?", &[weather], 5).await?;
    /// println!("{} ({} tokens)", run.reply, run.usage.completion_tokens);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What kept the model from answering; `Upstream` if it still wants tools after the last step.
    pub async fn chat_with(
        &self,
        request: impl Into<ChatRequest>,
        tools: &[Tool],
        max_steps: usize,
    ) -> Result<ToolRun> {
        let mut request = request.into();
        request.tools.extend(tools.iter().map(Tool::definition));
        let mut usage = Usage::default();
        for _ in 0..max_steps {
            let reply = self.chat(request.clone()).await?;
            usage.add(reply.usage.unwrap_or_default());
            let said = named(reply.message(), &request.messages);
            request.messages.push(said.clone());
            if said.tool_calls.is_empty() {
                return Ok(ToolRun { reply, messages: request.messages, usage });
            }
            request.messages.extend(join_all(said.tool_calls.into_iter().map(|call| answer(tools, call))).await);
        }
        Err(Error::new(Kind::Upstream, format!("the model still calls tools after {max_steps} steps")))
    }
}

/// Some servers give calls no id, and results must name one: no two calls of a conversation the same.
fn named(mut message: Message, before: &[Message]) -> Message {
    let made: usize = before.iter().map(|message| message.tool_calls.len()).sum();
    for (i, call) in message.tool_calls.iter_mut().enumerate().filter(|(_, call)| call.id.is_empty()) {
        call.id = format!("call_{}", made + i);
    }
    message
}

async fn answer(tools: &[Tool], call: ToolCall) -> Message {
    let id = call.id.clone();
    let result = match tools.iter().find(|tool| tool.name == call.function.name) {
        Some(tool) => (tool.run)(call).await.map_err(|e| why(&e)),
        None => {
            let known: Vec<_> = tools.iter().map(|tool| tool.name.as_str()).collect();
            Err(format!("no such tool; there are {}", known.join(", ")))
        }
    };
    Message::tool(id, result.unwrap_or_else(|error| format!("error: {error}")))
}

/// The model mends its arguments only if it is told what is wrong with them.
fn why(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_without_an_id_are_numbered_over_the_whole_conversation() {
        let calls = |ids: &[&str]| {
            let call = |id: &&str| ToolCall { id: (*id).to_owned(), ..ToolCall::default() };
            Message { tool_calls: ids.iter().map(call).collect(), ..Message::assistant("") }
        };
        let ids = |message: &Message| message.tool_calls.iter().map(|call| call.id.clone()).collect::<Vec<_>>();
        let first = named(calls(&["", "given", ""]), &[]);
        assert_eq!(ids(&first), ["call_0", "given", "call_2"]);
        let before = [Message::user("?"), first, Message::tool("call_0", "rain")];
        assert_eq!(ids(&named(calls(&["", ""]), &before)), ["call_3", "call_4"]);
    }
}
