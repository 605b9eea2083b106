"""What ollama-python sees of a server: every story is told on a line, `ok NAME` or `FAILED NAME: why`.

    OLLAMA_HOST=http://HOST:PORT OLLAMA_API_KEY=.. python ollama_stories.py

The server and its models are those of stories.py.
"""
import asyncio, json, sys, typing

import ollama, pydantic

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
LONGEST_S = 60  # for all stories


class Thing(pydantic.BaseModel):
    c: typing.Literal["red", "green"]


def get_weather(city: str) -> str:
    """Weather in a city.

    Args:
      city: its name
    """
    return f"sunny in {city}"


async def chat_whole(ai):
    answer = await ai.chat("chat", QUESTION, options={"temperature": 0, "num_ctx": 2048}, keep_alive="5m")
    assert "Paris" in answer.message.content and answer.message.role == "assistant", answer
    assert answer.done and answer.done_reason == "stop" and answer.created_at, answer
    assert answer.prompt_eval_count > 0 and answer.eval_count > 0 and answer.eval_duration > 0, answer


async def chat_streamed(ai):
    pieces = [piece async for piece in await ai.chat("chat", QUESTION, stream=True, options={"temperature": 0})]
    assert "Paris" in "".join(piece.message.content for piece in pieces), pieces
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True], pieces
    assert pieces[-1].eval_count > 0 and pieces[-1].model == "chat", pieces[-1]


async def tools(ai):
    stream = await ai.chat("tools", [{"role": "user", "content": "What is the weather in Paris?"}], tools=[get_weather], stream=True)
    calls = [call async for piece in stream for call in piece.message.tool_calls or []]
    [call] = calls
    assert call.function.name == "get_weather" and "Paris" in call.function.arguments.values(), call


async def tool_results(ai):
    """A conversation in which a tool has answered."""
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}]}
    answer = await ai.chat("chat", [*QUESTION, called, {"role": "tool", "tool_name": "get_weather", "content": "sunny"}])
    assert "Paris" in answer.message.content, answer


async def structured_output(ai):
    answer = await ai.chat("structured", QUESTION, format=Thing.model_json_schema())
    assert json.loads(answer.message.content)["c"] in ("red", "green"), answer


async def generate(ai):
    answer = await ai.generate("chat", "What is the capital of France?", system="Answer in one sentence.")
    assert "Paris" in answer.response and answer.done, answer
    pieces = [piece async for piece in await ai.generate("chat", "The capital of France is", raw=True, stream=True)]
    assert "".join(piece.response for piece in pieces) and pieces[-1].done, pieces


async def embeddings(ai):
    answer = await ai.embed("embed", ["the cat sat on the mat", "stock markets fell today"])
    one, other = answer.embeddings
    assert len(one) == len(other) > 4 and one != other and answer.prompt_eval_count > 0, answer


async def models(ai):
    listed = {model.model: model for model in (await ai.list()).models}
    assert {"chat", "embed"} <= listed.keys() and all(model.modified_at and model.digest for model in listed.values()), listed
    shown = await ai.show("chat")
    assert "completion" in shown.capabilities and shown.modelinfo["general.architecture"], shown
    assert (await ai.ps()).models == []
    assert "gpt-9" in (await refused(ai.show("gpt-9"), 404)).error


async def wrong_key(ai):
    other = ollama.AsyncClient(headers={"Authorization": "Bearer sk-wrong"})
    await refused(other.chat("chat", QUESTION), 401)


async def unknown_model(ai):
    assert "gpt-9" in (await refused(ai.chat("gpt-9", QUESTION), 404)).error


async def bad_temperature(ai):
    assert "temperature" in (await refused(ai.chat("chat", QUESTION, options={"temperature": 9}), 400)).error


async def loading_model(ai):
    assert "load" in (await refused(ai.chat("loading", QUESTION), 503)).error


async def error_in_stream(ai):
    text, error = await broken(ai.chat("failing", QUESTION, stream=True))
    assert text == "half" and "the engine died" in error.error, (text, error)


async def cut_stream(ai):
    text, error = await broken(ai.chat("cut", QUESTION, stream=True))
    assert text == "half" and "broke off" in error.error, (text, error)


async def refused(answer, status):
    try:
        raise AssertionError(f"it answers: {await answer}")
    except ollama.ResponseError as error:
        assert error.status_code == status and error.error, repr(error)
        return error


async def broken(answer):
    """What a stream said before its error, and that."""
    pieces = []
    try:
        async for piece in await answer:
            pieces.append(piece)
    except ollama.ResponseError as error:
        return "".join(piece.message.content for piece in pieces), error
    raise AssertionError(f"the stream ends as if all were well: {pieces}")


STORIES = [chat_whole, chat_streamed, tools, tool_results, structured_output, generate, embeddings, models, wrong_key,
           unknown_model, bad_temperature, loading_model, error_in_stream, cut_stream]


async def tell(story, ai):
    try:
        await story(ai)
        print("ok", story.__name__, flush=True)
    except Exception as error:
        print(f"FAILED {story.__name__}: {error!r}".replace("\n", " ")[:2000], flush=True)
        return False
    return True


async def main():
    ai = ollama.AsyncClient()  # OLLAMA_HOST and OLLAMA_API_KEY, as users set them
    async with asyncio.timeout(LONGEST_S):
        sys.exit(0 if all(await asyncio.gather(*(tell(story, ai) for story in STORIES))) else 1)


if __name__ == "__main__":
    asyncio.run(main())
