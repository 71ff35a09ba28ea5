"""Reads /metrics as Prometheus does, in both formats, with the strict parser of each, and says what it has read.

read_metrics.py URL: prints one JSON object, from `name{label="value",…}` to the value. What breaks a rule fails it.
"""

import json
import re
import sys
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

url = sys.argv[1]
OPENMETRICS = "application/openmetrics-text"


def fetch(accept):
    """The media type and the text of an answer; no proxy is between."""
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
        return answer.headers["Content-Type"], answer.read().decode("utf-8")


def samples(families):
    """All samples, of families that have names, help and types by the rules."""
    seen = {}
    for family in families:
        assert re.fullmatch(r"forebay_[a-z_]+", family.name), family.name
        assert family.documentation.strip(), f"{family.name} has no HELP"
        assert family.type in ("counter", "gauge", "histogram", "info"), f"{family.name} is {family.type}"
        for sample in family.samples:
            if "le" in sample.labels:
                sample.labels["le"] = str(float(sample.labels["le"]))
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            key = f"{sample.name}{{{labels}}}"
            assert key not in seen, f"{key} is there twice"
            seen[key] = sample.value
    return seen


def bare(body):
    """Names of samples that no HELP or no TYPE came before."""
    told = {word: set(re.findall(rf"^# {word} (\S+) ", body, re.M)) for word in ("HELP", "TYPE")}
    names = set(re.findall(r"^([a-z_]+)[ {]", body, re.M))
    stems = lambda name: {name} | {name.removesuffix(end) for end in ("_bucket", "_count", "_sum", "_total", "_info")}
    return [name for name in sorted(names) if not all(stems(name) & of for of in told.values())]


kind, body = fetch(f"{OPENMETRICS};version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.3,*/*;q=0.1")
assert kind.startswith(f"{OPENMETRICS}; version=1.0.0"), kind
assert body.endswith("# EOF\n")
assert not bare(body), bare(body)
read = samples(openmetrics(body))
kind, plain = fetch("text/plain")
assert kind.startswith("text/plain; version=0.0.4"), kind
assert not bare(plain), bare(plain)
again = samples(text(plain))
assert set(again) == set(read), set(again) ^ set(read)
print(json.dumps({"samples": read, "text": body}))
