"""Which form of reply a teacher can give, tested on the simulated teacher in each of its modes."""

import asyncio
from decimal import Decimal

import pytest

from app.providers.checking import check
from app.providers.protocols import open_teacher
from app.providers.teacher import Endpoint
from app.synth.methods.self_instruct_instances import InputFirst
from app.synth.prices import Prices
from app.synth.prompting.replies import read_items
from app.synth.prompting.requests import TEXT, item_schema, list_schema
from app.synth.types import Prompt
from tests.fakes import ScriptedServer, chat, error
from tests.simulator.conftest import serve
from tests.waiting import HTTP_SECONDS

PRICES = Prices(Decimal(0), Decimal(0), Decimal(0))
__all__ = ["serve"]


def endpoint(url: str, replies="json_schema", model="seedbed-simulated") -> Endpoint:
    return Endpoint("t", url, model, "key", PRICES, timeout_seconds=HTTP_SECONDS, replies=replies)


@pytest.mark.parametrize(
    ("mode", "expected_form", "attempted_forms"),
    [
        ("json_schema", "json_schema", ["json_schema"]),
        ("json_object", "json_object", ["json_schema", "json_object"]),
        ("text", "tagged", ["json_schema", "json_object", "tagged"]),
    ],
)
def test_the_strictest_form_that_works_is_found(serve, mode, expected_form, attempted_forms):
    url = serve("--replies", mode)
    result = asyncio.run(check(endpoint(url)))
    assert (result.replies, [attempt.form for attempt in result.attempts]) == (expected_form, attempted_forms)
    assert result.attempts[-1].usage.prompt > 0


def test_a_teacher_without_a_valid_reply_has_no_form():
    with ScriptedServer(lambda body: (200, {}, chat("Apples and pears!"))) as server:
        result = asyncio.run(check(endpoint(server.url, model="m")))
    assert result.replies is None and len(result.attempts) == 3
    assert "0 valid items of 2" in result.attempts[0].message


def test_refused_credentials_end_the_check():
    with ScriptedServer(lambda body: (401, {}, error("invalid_api_key"))) as server:
        result = asyncio.run(check(endpoint(server.url)))
    assert result.replies is None and len(result.attempts) == len(server.bodies) == 1
    assert "refused the credentials" in result.attempts[0].message


@pytest.mark.parametrize(("mode", "form"), [("json_object", "json_object"), ("text", "tagged")])
@pytest.mark.parametrize("language", ["en", "ko"])
def test_every_form_carries_the_same_reply(serve, mode, form, language):
    prompt = Prompt(
        step="instances",
        position="p",
        system="You work out examples of a task.",
        user="<instruction>Name three rivers of Asia.</instruction>",
        schema=list_schema("instances", item_schema({"input": TEXT, "output": TEXT}), 2),
        temperature=0,
        max_tokens=500,
        template="t",
        language=language,
    )

    async def ask(url):
        teacher = open_teacher(endpoint(url, form))
        try:
            return teacher.request(prompt), await teacher.complete(prompt)
        finally:
            await teacher.close()

    body, served = asyncio.run(ask(serve("--replies", mode)))
    assert body.get("response_format") == ({"type": "json_object"} if form == "json_object" else None)
    items, faults = read_items(served.reply, "instances", InputFirst)
    assert items and not faults and items[0].output
