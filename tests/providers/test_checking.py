"""Which form of reply a teacher can give, found out from the simulated one in each of its modes."""

import asyncio
from decimal import Decimal

import pytest

from app.providers.checking import check
from app.providers.prices import Prices
from app.providers.teacher import Endpoint, Teacher
from app.synth.prompting import TEXT, item_schema, list_schema
from app.synth.replies import read_items
from app.synth.self_instruct import InputFirst
from app.synth.types import Prompt
from tests.fakes import ScriptedServer, chat, error
from tests.simulator.conftest import serve

PRICES = Prices(Decimal(0), Decimal(0), Decimal(0))
__all__ = ["serve"]


def endpoint(url: str, replies="json_schema", model="seedbed-simulated") -> Endpoint:
    return Endpoint("t", url, model, "key", PRICES, timeout_seconds=5, replies=replies)


@pytest.mark.parametrize(
    ("mode", "found", "tried"),
    [
        ("json_schema", "json_schema", ["json_schema"]),
        ("json_object", "json_object", ["json_schema", "json_object"]),
        ("text", "tagged", ["json_schema", "json_object", "tagged"]),
    ],
)
def test_the_strictest_form_that_works_is_found(serve, mode, found, tried):
    url = serve("--replies", mode)
    checked = asyncio.run(check(endpoint(url)))
    assert (checked.replies, [one.form for one in checked.tries]) == (found, tried)
    assert checked.tries[-1].usage.prompt > 0


def test_a_teacher_that_talks_around_it_has_none():
    with ScriptedServer(lambda body: (200, {}, chat("Apples and pears!"))) as server:
        checked = asyncio.run(check(endpoint(server.url, model="m")))
    assert checked.replies is None and len(checked.tries) == 3
    assert "0 valid items of 2" in checked.tries[0].words


def test_refused_credentials_are_not_tried_three_times():
    with ScriptedServer(lambda body: (401, {}, error("invalid_api_key"))) as server:
        checked = asyncio.run(check(endpoint(server.url)))
    assert checked.replies is None and len(checked.tries) == len(server.bodies) == 1
    assert "refused the credentials" in checked.tries[0].words


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
        teacher = Teacher(endpoint(url, form))
        try:
            return teacher.request(prompt), await teacher.complete(prompt)
        finally:
            await teacher.close()

    body, served = asyncio.run(ask(serve("--replies", mode)))
    assert body.get("response_format") == ({"type": "json_object"} if form == "json_object" else None)
    items, faults = read_items(served.reply, "instances", InputFirst)
    assert items and not faults and items[0].output
