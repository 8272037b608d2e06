"""The site: built without a network, from README, docs/ and docstrings."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", os.fspath(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": os.fspath(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "")  # strict: a warning fails
    return folder


def words_of(page):
    text = page.read_text(encoding="utf-8").partition("<article")[2].partition("</article>")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", text))


@pytest.mark.slow
def test_every_page_of_docs_is_in_the_site_and_can_be_reached(site):
    pages = {path.with_suffix(".html").name for path in (ROOT / "docs").glob("*.md")}
    assert pages <= {path.name for path in site.glob("*.html")}
    home = (site / "index.html").read_text(encoding="utf-8")
    linked = set(re.findall(r'href="([\w-]+\.html)', home))
    assert pages - {"index.html"} <= linked | {"contents.html"}
    assert "Search your music by words" in words_of(site / "index.html")


@pytest.mark.slow
def test_the_reference_shows_signatures_and_docstrings(site):
    text = words_of(site / "api.html")
    for name in ("load_encoder", "Library", "search", "MulapModel", "find_task"):
        assert name in text
    assert "FileNotFoundError" in text or "ValueError" in text


@pytest.mark.slow
def test_a_page_fetches_nothing_from_elsewhere(site):
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//[^"]*"', text)
        assert not re.findall(r'<link[^>]+stylesheet[^>]+href="(?:https?:)?//[^"]*"', text)


@pytest.mark.slow
def test_links_show_titles_and_not_the_names_of_files(site):
    text = (site / "index.html").read_text(encoding="utf-8")
    assert re.search(r'<a href="search.html">Search a library</a>', text)
    assert not re.findall(r">(?:docs/)?[\w-]+\.md</a>", text)


@pytest.mark.slow
def test_the_search_index_finds_pages_by_their_words(site):
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    texts = {entry["location"].partition("#")[0]: "" for entry in index["docs"]}
    for entry in index["docs"]:
        texts[entry["location"].partition("#")[0]] += entry["text"].lower()
    assert "playlist" in texts["search.html"]
    assert "magnatagatune" in texts["tasks.html"]
    assert "co-attention" in texts["explain.html"]
