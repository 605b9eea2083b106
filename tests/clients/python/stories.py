"""What openai-python sees of a server: every story is told on a line, `ok NAME` or `FAILED NAME: why`.

    OPENAI_BASE_URL=http://HOST:PORT/v1 OPENAI_API_KEY=.. python stories.py

`tests/src/clients` starts the server, says which models it has to have, and has the same stories for other clients.
"""
import asyncio, json, math, sys, time, typing

import openai, pydantic

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {"name": "get_weather", "description": "Weather in a city", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]}}
LONGEST_S = 60  # for all stories
ENOUGH_S = 10  # for an answer that nothing holds up
ENDLESS = {"stream": True, "user": "chunks=100000 every_ms=20"}  # what the models `long` and `line` are told by


class Thing(pydantic.BaseModel):
    c: typing.Literal["red", "green"]


async def chat_whole(ai):
    answer = await ask(ai, "chat")
    assert "Paris" in answer.choices[0].message.content, answer
    assert answer.choices[0].finish_reason == "stop" and answer.id and answer.created, answer
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 1, answer


async def chat_streamed_with_usage(ai):
    chunks = [chunk async for chunk in await ask(ai, "chat", stream=True, stream_options={"include_usage": True})]
    assert "Paris" in said(chunks), chunks
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop", chunks
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0, chunks[-1]
    assert all(chunk.usage is None for chunk in chunks[:-1]), chunks


async def stream_without_usage(ai):
    chunks = [chunk async for chunk in await ask(ai, "chat", stream=True)]
    assert "Paris" in said(chunks) and all(chunk.choices and chunk.usage is None for chunk in chunks), chunks


async def stream_left_early(ai):
    """The model answers one at a time: the next waits until the server has noticed that the first has left."""
    stream = await ask(ai, "long", **ENDLESS)
    await anext(aiter(stream))
    later = asyncio.create_task(ask(ai, "long", timeout=ENOUGH_S))
    assert not (await asyncio.wait([later], timeout=0.2))[0], "the stream should hold the only turn"
    await stream.close()
    assert "Paris" in (await later).choices[0].message.content


async def tools_in_fragments(ai):
    tools = [{"type": "function", "function": WEATHER}]
    async with ai.chat.completions.stream(model="tools", messages=[{"role": "user", "content": "What is the weather in Paris?"}],
                                          tools=tools, tool_choice="required", temperature=0, max_tokens=200) as stream:
        answer = await stream.get_final_completion()
    [call] = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls", answer
    assert (call.type, call.function.name, bool(call.id)) == ("function", "get_weather", True), call
    assert "Paris" in json.loads(call.function.arguments).values(), call


async def structured_output(ai):
    answer = await ai.chat.completions.parse(model="structured", messages=QUESTION, response_format=Thing, temperature=0)
    assert answer.choices[0].message.parsed.c in ("red", "green"), answer


async def embeddings(ai):
    """By itself it asks for base64, and decodes that."""
    texts = ["the cat sat on the mat", "stock markets fell today"]
    packed = await ai.embeddings.create(model="embed", input=texts)
    plain = await ai.embeddings.create(model="embed", input=texts, encoding_format="float")
    assert [item.index for item in packed.data] == [0, 1] and packed.usage.prompt_tokens > 0, packed.usage
    for one, other in zip(packed.data, plain.data, strict=True):
        assert len(one.embedding) == len(other.embedding) > 4
        assert all(math.isclose(a, b, abs_tol=1e-5) for a, b in zip(one.embedding, other.embedding))
    assert packed.data[0].embedding != packed.data[1].embedding


async def models(ai):
    listed = {model.id: model async for model in await ai.models.list()}
    assert {"chat", "embed"} <= listed.keys() and all(model.created and model.owned_by for model in listed.values()), listed
    assert (await ai.models.retrieve("chat")).id == "chat"
    await refused(ai.models.retrieve("gpt-9"), openai.NotFoundError, "model_not_found")


async def completion(ai):
    answer = await ai.completions.create(model="chat", prompt="The capital of France is", max_tokens=8)
    assert answer.object == "text_completion" and answer.choices[0].text and answer.usage.completion_tokens > 0, answer


async def wrong_key(ai):
    error = await refused(ask(ai.with_options(api_key="sk-wrong"), "chat"), openai.AuthenticationError, "invalid_api_key")
    assert error.request_id, error.response.headers


async def unknown_model(ai):
    error = await refused(ask(ai, "gpt-9"), openai.NotFoundError, "model_not_found")
    assert error.param == "model" and "gpt-9" in error.message, error


async def bad_temperature(ai):
    error = await refused(ask(ai, "chat", temperature=9), openai.BadRequestError)
    assert error.param == "temperature" and "temperature" in error.message, error


async def loading_model(ai):
    """It tries again by itself, after as long as the server says."""
    since = time.monotonic()
    error = await refused(ask(ai.with_options(max_retries=1), "loading"), openai.InternalServerError, "model_loading")
    wait = int(error.response.headers["retry-after"])
    assert error.status_code == 503 and time.monotonic() - since >= wait >= 1, error.response.headers


async def full_line(ai):
    stream = await ask(ai, "line", **ENDLESS)
    error = await refused(ask(ai.with_options(max_retries=0), "line"), openai.InternalServerError, "queue_full")
    assert error.status_code == 503 and int(error.response.headers["retry-after"]) >= 1, error.response.headers
    later = asyncio.create_task(ask(ai.with_options(max_retries=5), "line", timeout=ENOUGH_S))
    assert not (await asyncio.wait([later], timeout=0.2))[0], "the stream should hold the only turn"
    await stream.close()
    assert "Paris" in (await later).choices[0].message.content


async def error_in_stream(ai):
    text, error = await broken(ask(ai, "failing", stream=True))
    assert text == "half" and "the engine died" in error.message, (text, error)


async def cut_stream(ai):
    """openai-python does not notice that a stream has no end: the server must tell it."""
    text, error = await broken(ask(ai, "cut", stream=True))
    assert text == "half" and error.code == "stream_truncated", (text, error)


def ask(ai, model, **more):
    return ai.chat.completions.create(**{"model": model, "messages": QUESTION, "temperature": 0, **more})


def said(chunks):
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


async def refused(answer, kind, code=None):
    """The error, which must be exactly of this kind."""
    try:
        raise AssertionError(f"it answers: {await answer}")
    except openai.APIError as error:
        assert type(error) is kind and code in (None, error.code), repr(error)
        return error


async def broken(answer):
    """What a stream said before its error, and that."""
    chunks = []
    try:
        async for chunk in await answer:
            chunks.append(chunk)
    except openai.APIError as error:
        return said(chunks), error
    raise AssertionError(f"the stream ends as if all were well: {said(chunks)}")


STORIES = [chat_whole, chat_streamed_with_usage, stream_without_usage, stream_left_early, tools_in_fragments, structured_output, embeddings,
           models, completion, wrong_key, unknown_model, bad_temperature, loading_model, full_line, error_in_stream, cut_stream]


async def tell(story, ai):
    try:
        await story(ai)
        print("ok", story.__name__, flush=True)
        return True
    except Exception as error:
        print(f"FAILED {story.__name__}: {error!r}".replace("\n", " ")[:2000], flush=True)
        return False


async def main():
    async with openai.AsyncOpenAI() as ai, asyncio.timeout(LONGEST_S):
        sys.exit(0 if all(await asyncio.gather(*(tell(story, ai) for story in STORIES))) else 1)


if __name__ == "__main__":
    asyncio.run(main())
