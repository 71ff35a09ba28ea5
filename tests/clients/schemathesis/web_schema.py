"""What schemathesis does not check by itself, and what it has seen."""

import atexit
import collections
import json
import os

import schemathesis
from schemathesis.generation.meta import CoverageScenario

GATE = os.environ["WEB_SCHEMA_GATE"]
SEEN = os.environ["WEB_SCHEMA_SEEN"]

# RFC 9110, 11.6.1, 15.5.6 and 10.2.3; RFC 6585, 4.
CALLED_FOR = {401: "WWW-Authenticate", 405: "Allow", 429: "Retry-After", 503: "Retry-After"}

# Paths, cursors, digests and forms: no schema tells all that is wrong with them.
BEYOND_SCHEMAS = {"name", "after", "Content-Digest", "file", "Content-Type"}

answers = collections.Counter()
kept = set()


@schemathesis.hook
def after_call(context, case, response):
    answers[f"{response.request.method} {case.path} {response.status_code}"] += 1
    if response.status_code == 201:
        kept.add(response.json()["id"])


@schemathesis.deserializer("application/octet-stream", "text/plain", "text/html")
def as_it_is(ctx, response):
    return response.content.decode("latin-1")


@schemathesis.check
def answer_has_what_its_status_calls_for(ctx, response, case):
    header = CALLED_FOR.get(response.status_code)
    assert header is None or response.headers.get(header.lower()), f"{response.status_code} without {header}"


@schemathesis.check
def answer_is_the_one_for_the_gate(ctx, response, case):
    if GATE == "closed":
        assert response.status_code == 503, f"{response.status_code} while the gate is closed"
    elif is_undeclared(case):
        assert response.status_code == 405, f"{response.status_code} to {response.request.method}, which is not declared"


@schemathesis.check
def what_the_schema_allows_is_refused_for_a_field_that_it_cannot_describe(ctx, response, case):
    if GATE == "open" and response.status_code == 400 and case.meta and case.meta.generation.mode.is_positive:
        field = response.json().get("field")
        assert field in BEYOND_SCHEMAS, f"400 for {field}"


def is_undeclared(case):
    data = case.meta and case.meta.phase.data
    return getattr(data, "scenario", None) == CoverageScenario.UNSPECIFIED_HTTP_METHOD


@atexit.register
def tell():
    with open(SEEN, "w", encoding="utf-8") as file:
        json.dump({"answers": answers, "kept": sorted(kept)}, file)
