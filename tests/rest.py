"""Requests that the tests of the service make again and again."""

import httpx

from app.stack import Stack
from tests.waiting import HTTP_SECONDS


def post(api: httpx.Client, path: str, status: int, **body) -> tuple[dict, str]:
    answer = api.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json(), answer.headers["location"]


def rows_of(api: httpx.Client, dataset: dict, **filters) -> list[dict]:
    rows, after = [], None
    while True:
        query = {"limit": 200, **filters} | ({"after": after} if after else {})
        page = api.get(f"/v1/datasets/{dataset['id']}/records", params=query).json()
        rows += page["data"]
        if not page["has_more"]:
            return rows
        after = page["next"]


def teacher_stats(stack: Stack) -> dict:
    """What the simulated teacher, who is the witness, has served and billed."""
    return httpx.get(stack.teacher_url.removesuffix("/v1") + "/stats", timeout=HTTP_SECONDS).json()
