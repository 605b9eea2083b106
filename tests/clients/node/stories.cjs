// What openai-node sees of a server: the stories of ../python/stories.py, told in the same way.
//
//     NODE_PATH=.../node_modules OPENAI_BASE_URL=http://HOST:PORT/v1 OPENAI_API_KEY=.. node stories.cjs
const assert = require("node:assert/strict");
const { setTimeout: later } = require("node:timers/promises");
const OpenAI = require("openai");

const QUESTION = [{ role: "user", content: "What is the capital of France?" }];
const WEATHER = {
  name: "get_weather",
  description: "Weather in a city",
  parameters: { type: "object", properties: { city: { type: "string", maxLength: 12 } }, required: ["city"] },
};
const THING = { type: "object", properties: { c: { enum: ["red", "green"] } }, required: ["c"], additionalProperties: false };
const LONGEST_MS = 60_000; // for all stories
const ENOUGH_MS = 10_000; // for an answer that nothing holds up
const ENDLESS = { stream: true, user: "chunks=100000 every_ms=20" }; // what the models `long` and `line` are told by

const ai = new OpenAI();

const STORIES = {
  async chat_whole() {
    const answer = await ask("chat");
    assert.match(answer.choices[0].message.content, /Paris/);
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
    assert.ok(answer.id && answer.created && answer.usage.completion_tokens > 0);
  },

  async chat_streamed_with_usage() {
    const chunks = await all(ask("chat", { stream: true, stream_options: { include_usage: true } }));
    const last = chunks.pop();
    assert.match(said(chunks), /Paris/);
    assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
    assert.deepEqual(last.choices, []);
    assert.ok(last.usage.completion_tokens > 0 && chunks.every((chunk) => !chunk.usage));
  },

  async stream_without_usage() {
    const chunks = await all(ask("chat", { stream: true }));
    assert.match(said(chunks), /Paris/);
    assert.ok(chunks.every((chunk) => chunk.choices.length === 1 && !chunk.usage));
  },

  // The model answers one at a time: the next waits until the server has noticed that the first has left.
  async stream_left_early() {
    const stream = await ask("long", ENDLESS);
    const chunks = await begun(stream);
    const next = ask("long", {}, { timeout: ENOUGH_MS });
    assert.equal(await Promise.race([next, later(200, "held")]), "held");
    stream.controller.abort();
    await chunks.return();
    assert.match((await next).choices[0].message.content, /Paris/);
  },

  async tools_in_fragments() {
    const messages = [{ role: "user", content: "What is the weather in Paris?" }];
    const tools = [{ type: "function", function: WEATHER }];
    const stream = ai.chat.completions.stream({ model: "tools", messages, tools, tool_choice: "required", temperature: 0, max_tokens: 200 });
    const { finish_reason, message } = (await stream.finalChatCompletion()).choices[0];
    assert.deepEqual([finish_reason, message.tool_calls.length], ["tool_calls", 1]);
    const call = message.tool_calls[0];
    assert.ok(call.id && call.type === "function" && call.function.name === "get_weather", JSON.stringify(call));
    assert.ok(Object.values(JSON.parse(call.function.arguments)).includes("Paris"), call.function.arguments);
  },

  async structured_output() {
    const response_format = { type: "json_schema", json_schema: { name: "Thing", strict: true, schema: THING } };
    const answer = await ai.chat.completions.parse({ model: "structured", messages: QUESTION, response_format, temperature: 0 });
    assert.match(answer.choices[0].message.parsed.c, /^(red|green)$/);
  },

  // By itself it asks for base64, and decodes that.
  async embeddings() {
    const input = ["the cat sat on the mat", "stock markets fell today"];
    const packed = await ai.embeddings.create({ model: "embed", input });
    const plain = await ai.embeddings.create({ model: "embed", input, encoding_format: "float" });
    assert.deepEqual(packed.data.map((item) => item.index), [0, 1]);
    assert.ok(packed.usage.prompt_tokens > 0);
    packed.data.forEach(({ embedding }, n) => {
      assert.ok(embedding.length > 4 && embedding.length === plain.data[n].embedding.length);
      embedding.forEach((x, i) => assert.ok(Math.abs(x - plain.data[n].embedding[i]) < 1e-5));
    });
    assert.notDeepEqual(packed.data[0].embedding, packed.data[1].embedding);
  },

  async models() {
    const listed = await all(ai.models.list());
    const ids = listed.map((model) => model.id);
    assert.ok(ids.includes("chat") && ids.includes("embed") && listed.every((model) => model.created && model.owned_by), ids);
    assert.equal((await ai.models.retrieve("chat")).id, "chat");
    await refused(ai.models.retrieve("gpt-9"), OpenAI.NotFoundError, "model_not_found");
  },

  async completion() {
    const answer = await ai.completions.create({ model: "chat", prompt: "The capital of France is", max_tokens: 8 });
    assert.equal(answer.object, "text_completion");
    assert.ok(answer.choices[0].text && answer.usage.completion_tokens > 0);
  },

  async wrong_key() {
    const stranger = ai.withOptions({ apiKey: "sk-wrong" });
    const error = await refused(ask("chat", {}, {}, stranger), OpenAI.AuthenticationError, "invalid_api_key");
    assert.ok(error.requestID);
  },

  async unknown_model() {
    const error = await refused(ask("gpt-9"), OpenAI.NotFoundError, "model_not_found");
    assert.equal(error.param, "model");
    assert.match(error.message, /gpt-9/);
  },

  async bad_temperature() {
    const error = await refused(ask("chat", { temperature: 9 }), OpenAI.BadRequestError);
    assert.equal(error.param, "temperature");
    assert.match(error.message, /temperature/);
  },

  // It tries again by itself, after as long as the server says.
  async loading_model() {
    const since = performance.now();
    const error = await refused(ask("loading", {}, { maxRetries: 1 }), OpenAI.InternalServerError, "model_loading");
    const wait = Number(error.headers.get("retry-after"));
    assert.ok(error.status === 503 && wait >= 1 && performance.now() - since >= wait * 1000, String(wait));
  },

  async full_line() {
    const stream = await ask("line", ENDLESS);
    const error = await refused(ask("line", {}, { maxRetries: 0 }), OpenAI.InternalServerError, "queue_full");
    assert.ok(error.status === 503 && Number(error.headers.get("retry-after")) >= 1);
    const next = ask("line", {}, { maxRetries: 5, timeout: ENOUGH_MS });
    assert.equal(await Promise.race([next, later(200, "held")]), "held");
    stream.controller.abort();
    assert.match((await next).choices[0].message.content, /Paris/);
  },

  async error_in_stream() {
    const [text, error] = await broken(ask("failing", { stream: true }));
    assert.equal(text, "half");
    assert.match(error.message, /the engine died/);
  },

  // openai-node does not notice that a stream has no end: the server must tell it.
  async cut_stream() {
    const [text, error] = await broken(ask("cut", { stream: true }));
    assert.deepEqual([text, error.code], ["half", "stream_truncated"]);
  },
};

function ask(model, more = {}, options = {}, client = ai) {
  return client.chat.completions.create({ model, messages: QUESTION, temperature: 0, ...more }, options);
}

/** An iterator whose first chunk has come. */
async function begun(stream) {
  const chunks = stream[Symbol.asyncIterator]();
  await chunks.next();
  return chunks;
}

async function all(answer) {
  const items = [];
  for await (const item of await answer) items.push(item);
  return items;
}

function said(chunks) {
  return chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
}

/** The error, which must be exactly of this kind. */
async function refused(answer, kind, code) {
  const error = await answer.then((reply) => assert.fail(`it answers: ${JSON.stringify(reply)}`), (error) => error);
  assert.ok(error.constructor === kind && (!code || error.code === code), `${error.constructor.name} ${error.code}: ${error.message}`);
  return error;
}

/** What a stream said before its error, and that. */
async function broken(answer) {
  const chunks = [];
  try {
    for await (const chunk of await answer) chunks.push(chunk);
  } catch (error) {
    assert.ok(error instanceof OpenAI.APIError, String(error));
    return [said(chunks), error];
  }
  assert.fail(`the stream ends as if all were well: ${said(chunks)}`);
}

async function tell(name) {
  try {
    await STORIES[name]();
    console.log("ok", name);
  } catch (error) {
    process.exitCode = 1;
    console.log(`FAILED ${name}: ${error}`.replaceAll("\n", " ").slice(0, 2000));
  }
}

setTimeout(() => process.exit(1), LONGEST_MS).unref();
Promise.all(Object.keys(STORIES).map(tell));
