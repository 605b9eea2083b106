#!/usr/bin/env python3
"""What transformers makes of conversations through chat templates of the kinds there are, with the tokenizer of tiny-chat:
llm-core must count the same.

usage: templates.py ../tiny-chat ../templates.json
needs: transformers, jinja2 (both are in the vLLM environment)
"""
import copy, json, pathlib, sys

from transformers import AutoTokenizer

folder, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)

# Written for this file, each in the manner of a family of models.
TEMPLATES = {
    # Blocks on lines of their own, a system message that is given anyway, tools with indents.
    "lines": """{{ bos_token }}
{% if messages[0]['role'] == 'system' %}
    {% set system = messages[0]['content'] | trim %}
    {% set rest = messages[1:] %}
{% else %}
    {% set system = 'You are helpful.' %}
    {% set rest = messages %}
{% endif %}
<s>{{ system }}
{% if tools is not none %}
{% for tool in tools %}
{{ tool | tojson(indent=4) }}
{% endfor %}
{% endif %}
</s>
{% for message in rest %}
{{ loop.index }} {{ message['role'] | upper }}: {{ message['content'] }}{% if not loop.last %};{% endif %}

{% endfor %}
{% if add_generation_prompt %}
ASSISTANT:{% endif %}""",
    # Roles that must alternate, a namespace, the end of each answer.
    "alternating": """{{- bos_token }}{%- set ns = namespace(user=true) %}
{%- for message in messages %}
{%- if message.role != 'system' %}
{%- if (message.role == 'user') != ns.user %}{{- raise_exception('roles must alternate') }}{%- endif %}
{%- set ns.user = not ns.user %}
{%- endif %}
{%- if message.role == 'user' %}{{- ' [INST] ' + message.content.strip() + ' [/INST]' }}
{%- elif message.role == 'assistant' %}{{- ' ' ~ message.content.rstrip('\\n') ~ eos_token }}{%- endif %}
{%- endfor %}""",
    # Contents in parts, macros, and what trainers mark.
    "parts": """{%- macro show(content) -%}
{%- if content is string -%}{{ content }}{%- else -%}{%- for part in content -%}{{ part['text'] }}{{ ' | ' if not loop.last }}{%- endfor -%}{%- endif -%}
{%- endmacro -%}
{% for message in messages %}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}
{% if message.role == 'assistant' %}{% generation %}{{ show(message.content) }}<|im_end|>{% endgeneration %}{% endif %}

{% endfor %}
{%- if add_generation_prompt -%}<|im_start|>assistant{{ '\\n' }}{%- endif -%}""",
    # Calls of tools as objects, slices from behind, loops that break.
    "calls": """{%- set last = messages[-1] %}{%- for message in messages[::-1] %}{%- if message.role == 'user' %}{{- 'last user: ' ~ message.content ~ '\\n' }}{%- break %}{%- endif %}{%- endfor %}
{%- for message in messages %}
{%- if message.tool_calls is defined and message.tool_calls %}
{%- for call in message.tool_calls %}
{{- call.function.name ~ '(' ~ call.function.arguments | tojson ~ ')' }}
{%- for key, value in call.function.arguments.items() %}{{- '\\n' ~ key ~ '=' ~ (value if value is string else value | tojson) }}{%- endfor %}
{%- endfor %}
{%- elif message.role == 'tool' %}{{- '[' ~ message.get('tool_call_id', 'none') ~ '] ' ~ message.content }}
{%- else %}{{- message.role.capitalize() + ': ' + message.content.split('</think>')[-1].lstrip() }}{%- endif %}
{{- eos_token ~ '\\n' }}
{%- endfor %}
{%- if tools %}{{- tools | map(attribute='function') | map(attribute='name') | join(', ') }}{{- tools | tojson(separators=(',', ':'), sort_keys=true) }}{%- endif %}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>' }}{%- endif %}{{- True ~ none }}""",
}

WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Weather in a \"city\" – <now>", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1.0, "minimum": 1e-05, "maximum": 1e+16}}, "required": ["city"]}}}
PLAIN = {"type": "function", "function": {"name": "now", "description": None, "parameters": None}}


def says(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, arguments):
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


TALK = [says("user", " What is the capital of France? "), says("assistant", "The capital of France is Paris.\n"), says("user", "Übung: 数える 1, 2, 3 🎉")]
PARTS = [says("user", [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}])]
TOOLS = [says("user", "Weather in Paris?"), says("assistant", "", tool_calls=[call("get_weather", '{"zone": "CET", "city": "Paris", "days": 2, "exact": true, "more": [1.5, null]}')]),
         says("tool", '{"rain": true}', tool_call_id="c1"), says("assistant", "<think>hm</think> It rains."), says("user", "Thanks.")]

CASES = [
    (name, messages, tools, kwargs)
    for name in ["own", *TEMPLATES]
    for messages, tools, kwargs in [
        (TALK, None, {}), ([says("system", "Be terse."), *TALK], None, {}), (PARTS, None, {}), (TALK[:1], [WEATHER, PLAIN], {}),
        (TOOLS, [WEATHER], {}), (TALK[:2], None, {"add_generation_prompt": False}), (TALK[:1], None, {"chat_template_kwargs": {"enable_thinking": False}})]
    if name != "alternating" or messages is not TOOLS
]


def for_template(name, messages):
    """As vLLM gives them to templates: arguments as objects, contents as texts unless the template goes through parts."""
    messages = copy.deepcopy(messages)
    for message in messages:
        for made in message.get("tool_calls", []):
            made["function"]["arguments"] = json.loads(made["function"]["arguments"])
        if name != "parts" and isinstance(message["content"], list):
            message["content"] = "\n".join(part["text"] for part in message["content"])
        elif name == "parts" and isinstance(message["content"], str) and message["role"] != "tool":
            message["content"] = [{"type": "text", "text": message["content"]}]
    return messages


def case(name, messages, tools, kwargs):
    # A template of its own, since whoever is given none by name takes the folder's.
    options = {"tools": tools, "chat_template": TEMPLATES.get(name), "add_generation_prompt": kwargs.get("add_generation_prompt", True),
               "bos_token": "<|endoftext|>", **kwargs.get("chat_template_kwargs", {})}
    text = tokenizer.apply_chat_template(for_template(name, messages), tokenize=False, **options)
    tokens = tokenizer.encode(text, add_special_tokens=False)
    return {"template": name, "messages": messages, **({"tools": tools} if tools else {}), **kwargs, "text": text, "tokens": tokens}


TEXTS = ["", "The capital", " a  b\n\n\tc ", "Übung: 数える 1, 2, 3 🎉", "<|im_start|>user\nhi<|im_end|>"]
texts = [{"text": text, "tokens": tokenizer.encode(text)} for text in TEXTS]
cases = [case(*one) for one in CASES]


def lines(name, values):
    return f'"{name}": [\n' + ",\n".join(json.dumps(value, ensure_ascii=False) for value in values) + "\n]"


templates = '"templates": ' + json.dumps(TEMPLATES, ensure_ascii=False, indent=1)
pathlib.Path(out).write_text("{" + ",\n".join([templates, lines("cases", cases), lines("texts", texts)]) + "}\n")
print(len(cases), "cases")
