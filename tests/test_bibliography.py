import re
from pathlib import Path

import summiteer
from summiteer.bibliography import REFERENCES

SOURCES = Path(summiteer.__file__).parent
KEY = re.compile(r"`([a-z]+\d{4}[a-z]+)`")


def test_every_key_cited_is_listed_and_every_key_listed_is_cited():
    text = "".join(path.read_text("utf-8") for path in SOURCES.rglob("*.py"))
    assert set(KEY.findall(text)) == set(REFERENCES)


def test_every_work_can_be_found():
    for key, work in REFERENCES.items():
        assert work.doi or work.arxiv
        assert str(work.year) in key
