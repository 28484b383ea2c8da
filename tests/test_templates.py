"""Chat templates: rendered as transformers renders them, and ended where they would not end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from innerloop import templates
from innerloop.errors import InputError
from innerloop.speaker import speak
from innerloop.templates import TemplateFailedError, render
from innerloop.testing import byte_tokenizer

TURNS = [{"role": "user", "content": "What is 2 + 2?  <b>&amp;</b> é \ud83d\n"}]
VARIABLES = {"messages": TURNS, "tools": None, "documents": None, "add_generation_prompt": True, "bos_token": "<s>"}

LIKE_CHATML = """
{%- if tools %}{{ tools | tojson }}{% endif %}
{%- for message in messages %}
    {%- if loop.first and message.role != 'system' %}
        {{- '<|im_start|>system\nYou help.<|im_end|>\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""
LIKE_LLAMA = """
{{- bos_token }}
{%- set ns = namespace(found=false, date=strftime_now("%d %b %Y")) %}
{%- if messages[0]['role'] == 'system' %}{% set ns.found = true %}{% endif %}
    {%- macro turn(m) %}<|{{ m.role }}|>{{ m.content | trim }}{% endmacro %}
{% for m in messages %}
  {% if m.role == 'tool' %}
    {% continue %}
  {% endif %}
  {{ turn(m) }}
{% endfor %}
{{ ns.date }} {{ ns.found }} {{ {"a": "<é>", "b": [1, 2.5, none]} | tojson(indent=2) }} {{ dict(a=1) }}
"""
GENERATION = (
    "{% for m in messages %}{% generation %}{{ m.content }}!{% set x = 1 %}{% endgeneration %}{{ x }}{% endfor %}"
)


@pytest.mark.parametrize("template", [LIKE_CHATML, LIKE_LLAMA, GENERATION, byte_tokenizer().chat_template])
def test_renders_as_transformers_does(template):
    from transformers.utils.chat_template_utils import render_jinja_template

    [expected], _ = render_jinja_template([TURNS], chat_template=template, add_generation_prompt=True, bos_token="<s>")
    assert render(template, VARIABLES) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% for i in range(9) %}{{ f(n + 1) }}{% endfor %}{% endmacro %}{{ f(0) }}",
        "{{ lipsum(n=10**9) }}",
        "{{ (9 ** (9 ** 9)) is even }}",  # at compile time
    ],
)
def test_a_template_without_an_end_is_ended(template, monkeypatch):
    monkeypatch.setitem(templates._LIMITS, "seconds", 1)
    templates._close()
    try:
        with pytest.raises(TemplateFailedError, match=r"^(it takes more than 1 seconds|RecursionError: )"):
            render(template, VARIABLES)
        assert render("{{ messages[0].role }}", VARIABLES) == "user", "the next one is rendered"
    finally:
        templates._close()


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ 'x' * 10**11 }}", "more than 512 MiB of memory"),
        ("{% set x = [0] * 10**11 %}", "more than 512 MiB of memory"),
        ("{{ 'x' | center(10**12) }}", "more than 512 MiB of memory"),
        ("{{ 'x' | indent(10**12, first=true) }}", "more than 512 MiB of memory"),
        ("{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}", "more than 20,000,000 characters"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{" + "(" * 9000 + "1" + ")" * 9000 + "}}", "RecursionError"),
        ("{{ messages[0].content.__class__.__mro__ }}", "unsafe"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe"),
        ("{{ namespace(_x=1) }}", "underscore"),
        ("{{ messages.append(1) }}", "not safely callable|unsafe"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{% if %}", "Expected an expression"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ raise_exception('first line\nsecond line') }}", "^first line$"),
    ],
)
def test_what_a_template_may_not_is_told_in_one_line(template, said):
    with pytest.raises(TemplateFailedError, match=said) as caught:
        render(template, VARIABLES)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_the_process_holds_no_secrets_of_ours(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "secret")
    templates._close()
    render("", VARIABLES)
    assert templates._process is not None
    with open(f"/proc/{templates._process._popen.pid}/environ", "rb") as file:  # noqa: PTH123
        assert b"secret" not in file.read()


def test_a_process_that_was_killed_is_told_and_replaced():
    render("", VARIABLES)
    assert templates._process is not None
    os.kill(templates._process._popen.pid, signal.SIGKILL)
    with pytest.raises(TemplateFailedError, match="ended with status -9"):
        render("", VARIABLES)
    assert render("x", VARIABLES) == "x"


def test_an_interrupt_leaves_no_answer_for_the_next_one(monkeypatch):
    assert render("first", VARIABLES) == "first"
    with monkeypatch.context() as patch:
        patch.setattr(templates._Process, "_read", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            render("second", VARIABLES)
    assert render("third", VARIABLES) == "third"


def test_more_templates_than_are_kept():
    for _ in range(2):
        assert [render(f"{i}", {}) for i in range(12)] == [f"{i}" for i in range(12)]


def test_threads_and_forks_get_their_own_answers():
    found: dict[int, bool] = {}

    def ask(number: int) -> None:
        found[number] = all(render("{{ n }}", {"n": f"{number}-{i}"}) == f"{number}-{i}" for i in range(20))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(4), True)
    # In a process of its own: forking this one, with torch's threads, may hang.
    code = (
        "import os\nfrom innerloop.templates import render\nassert render('{{ n }}', {'n': 1}) == '1'\n"
        "child = os.fork()\nfor i in range(50): assert render('{{ n }}', {'n': (child, i)}) == str([child, i])\n"
        "if child: assert os.waitpid(child, 0)[1] == 0\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_template_of_megabytes_is_not_read():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "x" * 1_000_001
    with pytest.raises(InputError, match="chat template of test has 1,000,001 characters"):
        speak(tokenizer, name="test")


def test_templates_without_a_default_one():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = {"tool_use": "x"}
    with pytest.raises(InputError, match=r"chat templates of test.*give a chat_template"):
        speak(tokenizer, name="test")


def test_the_speaker_names_the_model_whose_template_does_not_end(monkeypatch):
    monkeypatch.setitem(templates._LIMITS, "seconds", 1)
    templates._close()
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    speaker = speak(tokenizer, name="m")
    try:
        with pytest.raises(InputError, match=r"chat template of m .*processor time.*give another chat_template"):
            speaker.prompt("q")
    finally:
        templates._close()
