"""The page, driven in Debian's Chromium as a person would: every state, keys, sizes, and axe.

`make browser` installs Chromium and runs these.
"""

import io
import os
import shutil
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import soundfile as sf
from axe_playwright_python.sync_playwright import Axe
from library.asked import make_library, settle, write_song
from playwright.sync_api import Page, expect, sync_playwright
from safetensors.numpy import load_file, save_file
from tiny import RATE, tone
from web.served import serving

from mulap.encoders.engine import load_engine
from mulap.library.about import announce
from mulap.library.index import index_music
from mulap.library.library import Library
from mulap.library.store import Store

pytestmark = pytest.mark.browser

CHROMIUM = os.environ.get("MULAP_CHROMIUM") or shutil.which("chromium") or ""
SCRIPT = "<script>document.title = 'taken'</script><b>bold</b>"
SIZES = {"wide": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="session")
def browser():
    if not CHROMIUM:
        pytest.fail("Chromium is missing. Run make browser, or apt-get install chromium.")
    options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A library of six songs, one with markup as its title, and one that no browser plays."""
    folder = make_library(tmp_path_factory.mktemp("page"))
    write_song(folder / "music" / "6.flac", 6, title=SCRIPT, artist="<i>Artist 2</i>")
    with sf.SoundFile(folder / "music" / "7.aiff", "w", RATE, 1, format="AIFF") as out:
        out.artist, out.title = "Apart", "Song 7"
        out.write(tone(7, 33.0))
    settle(folder / "music" / "7.aiff")
    index_music([], folder / "lib", lambda name: load_engine(name, "cpu"))
    return folder


@pytest.fixture(scope="module")
def address(folder):
    with serving(folder, has_page=True) as found:
        yield found


@contextmanager
def opened(browser, address, size="wide", scheme="light", wait=True):
    """A new page; nothing that it asked for may lie elsewhere, nor may its scripts fail."""
    width, height = SIZES[size] if isinstance(size, str) else size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True
    )
    page = context.new_page()
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    if wait:
        expect(page.locator("#library")).not_to_be_empty(timeout=20_000)
    try:
        yield page
    finally:
        context.close()
    origins = {url for url in asked if not url.startswith((address, f"blob:{address}", "data:"))}
    assert origins == set()
    assert errors == []


@pytest.fixture
def page(browser, address):
    with opened(browser, address) as found:
        yield found


def search(page: Page, words: str) -> None:
    page.locator("#query").fill(words)
    page.locator("#query").press("Enter")
    expect(page.locator("#count")).to_contain_text(" of ", timeout=20_000)


def search_all(page: Page, artist: str = "Artist") -> None:
    """Search with a filter by artist, which lets more than two tracks of each pass."""
    page.goto(f"{page.url.partition('#')[0]}#q=calm piano&artist={artist}")
    page.reload()
    expect(page.locator(".hit").first).to_be_visible(timeout=20_000)


def audio(page: Page) -> dict:
    return page.evaluate(
        "() => { const a = document.querySelector('audio');"
        " return {time: a.currentTime, paused: a.paused, src: a.src, rate: a.playbackRate}; }"
    )


def until(condition, seconds: float = 20.0):
    """Wait for a condition; the page's policy forbids what Playwright would wait with."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found


def axe_findings(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['html'][:150]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def test_a_result_plays_from_the_moment_that_was_found(page, folder):
    search_all(page)
    hits = Library(folder / "lib", "cpu").search("calm piano", where="artist~Artist")
    place = next(place for place, hit in enumerate(hits) if hit.start > 5)
    button = page.locator(".hit").nth(place)
    minutes, seconds = divmod(int(hits[place].start), 60)
    label = f"Play {hits[place].title} by {hits[place].artist} from {minutes}:{seconds:02}"
    expect(button).to_have_attribute("aria-label", label)
    button.click()
    heard = until(lambda: (now := audio(page))["time"] > 0 and not now["paused"] and now)
    assert hits[place].start - 0.1 <= heard["time"] < hits[place].start + 10
    expect(page.locator("#toggle")).to_have_attribute("aria-label", "Pause")
    expect(page.locator("#now-title")).to_have_text(hits[place].title)


def test_a_second_result_stops_the_first(page):
    search_all(page)
    page.locator(".hit").nth(0).click()
    first = until(lambda: (now := audio(page))["time"] > 0 and now["src"])
    page.locator(".hit").nth(1).click()
    until(lambda: (now := audio(page))["src"] != first and not now["paused"] and now["time"] > 0)
    assert page.locator("audio").count() == 1
    expect(page.locator(".hit.is-playing")).to_have_count(1)
    page.locator(".hit").nth(1).click()
    until(lambda: audio(page)["paused"])


def test_the_timeline_says_where_it_is_and_moves(page):
    search_all(page)
    page.locator(".hit").first.click()
    until(lambda: audio(page)["time"] > 0)
    seek = page.locator("#seek")
    seek.evaluate("seek => { seek.value = 20; seek.dispatchEvent(new Event('input')); }")
    until(lambda: 19 < audio(page)["time"] < 33)
    assert seek.get_attribute("aria-valuetext").endswith(" of 0:33")


def test_a_file_finds_music_like_it_and_has_tags(page, folder):
    page.set_input_files("#file", folder / "music" / "1.flac")
    expect(page.locator(".chip-text")).to_have_text("like: 1.flac", timeout=20_000)
    expect(page.locator(".hit").first).to_be_visible()
    titles = page.locator(".hit .title").all_text_contents()
    assert "Song 1" not in titles
    expect(page.locator("#panel-title")).to_have_text("1.flac")
    expect(page.locator("#tags li")).to_have_count(8)
    expect(page.locator("#caption")).not_to_be_empty()
    page.get_by_label("Remove like: 1.flac").click()
    expect(page.locator(".hit")).to_have_count(0)


def test_a_dropped_file_is_searched_by(page):
    content = io.BytesIO()
    sf.write(content, tone(2, 4.0), RATE, format="FLAC")
    handle = page.evaluate_handle(
        "bytes => { const data = new DataTransfer();"
        " data.items.add(new File([new Uint8Array(bytes)], 'dropped.flac')); return data; }",
        list(content.getvalue()),
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": handle})
    expect(page.locator("#drop")).to_be_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": handle})
    expect(page.locator("#drop")).to_be_hidden()
    expect(page.locator(".chip-text")).to_have_text("like: dropped.flac", timeout=20_000)
    expect(page.locator(".hit").first).to_be_visible()


def test_why_shows_each_part_also_as_a_table_and_what_each_word_adds(page):
    search_all(page)
    page.get_by_role("button", name="Why").first.click()
    expect(page.locator("#why-bars i")).to_have_count(11, timeout=20_000)
    expect(page.locator("#why-said")).to_contain_text(" adds most to the match.")
    expect(page.locator("#why-words li")).to_have_count(2)
    page.get_by_text("As a table").click()
    expect(page.locator("#why-table tr")).to_have_count(11)
    part = page.locator("#why-table button").nth(4)
    expect(part).to_have_attribute("aria-label", "Play from 0:12")
    part.click()
    until(lambda: 12 <= audio(page)["time"] < 20)


def test_the_playlist_is_what_is_shown(page, folder):
    search_all(page)
    titles = page.locator(".hit .title").all_text_contents()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save as playlist").click()
    assert waiting.value.suggested_filename == "calm piano.m3u8"
    lines = Path(waiting.value.path()).read_bytes().decode().splitlines()
    assert lines[0] == "#EXTM3U"
    named = {"Song " + path.stem: path for path in (folder / "music").glob("[0-5].flac")}
    named[SCRIPT] = folder / "music" / "6.flac"
    assert lines[2::2] == [str(named[title]) for title in titles]
    assert lines[1].startswith("#EXTINF:33,")


def test_more_like_this_and_not_like_this_change_the_search_and_back_undoes_it(page):
    search_all(page)
    first = page.locator(".hit .title").first.text_content()
    page.get_by_role("button", name="More like this").first.click()
    expect(page.locator(".chip-text").first).to_have_text(f"like: {first}")
    expect(page.locator("#query")).to_have_value("")
    until(lambda: first not in page.locator(".hit .title").all_text_contents())
    second = page.locator(".hit .title").first.text_content()
    page.locator(".hit").first.focus()
    page.keyboard.press("x")
    expect(page.get_by_text(f"not like: {second}")).to_be_visible()
    until(lambda: second not in page.locator(".hit .title").all_text_contents())
    page.go_back()
    page.go_back()
    expect(page.locator("#query")).to_have_value("calm piano")
    expect(page.locator(".hit .title").first).to_have_text(first)


def test_what_is_not_wanted_is_a_chip_that_can_be_removed(page):
    search(page, "calm piano, no drums")
    expect(page.locator("#notes")).to_contain_text("Read as: calm piano; not: drums.")
    page.get_by_role("button", name="Without").click()
    page.locator("#not").fill("flute")
    page.keyboard.press("Enter")
    expect(page.locator(".chip-text")).to_have_text("without: flute")
    page.get_by_label("Remove without: flute").click()
    expect(page.locator(".chip")).to_have_count(0)
    expect(page.locator("#query")).to_have_value("calm piano, no drums")


def test_only_what_is_not_wanted_asks_for_what_is(page):
    page.get_by_role("button", name="Without").click()
    page.locator("#not").fill("drums")
    page.get_by_role("button", name="Add").click()
    said = "Add what you would like to hear, in words or by a file."
    expect(page.locator("#count")).to_have_text(said)
    expect(page.locator(".hit")).to_have_count(0)
    search(page, "calm piano")
    expect(page.locator(".hit").first).to_be_visible()
    expect(page.locator(".chip-text")).to_have_text("without: drums")


def test_filters_narrow_and_an_empty_result_offers_to_clear_them(page):
    search(page, "calm piano")
    page.get_by_role("button", name="Filter").click()
    page.locator("#artist").fill("artist 1")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator(".chip-text")).to_have_text("artist: artist 1")
    until(lambda: set(page.locator(".hit .by").all_text_contents()) == {"Artist 1"})
    page.get_by_role("button", name="Filter").click()
    page.locator("#year-from").fill("1990")
    page.keyboard.press("Enter")
    expect(page.locator("#notes")).to_contain_text("No track matches these filters.")
    page.locator("#notes button").click()
    expect(page.locator(".chip")).to_have_count(0)
    expect(page.locator(".hit").first).to_be_visible()


def is_in_view(page: Page, name: str) -> bool:
    return page.evaluate(
        "name => { const box = document.querySelector(name).getBoundingClientRect();"
        " return box.top >= 0 && box.bottom <= innerHeight; }",
        name,
    )


def test_an_address_with_nonsense_is_searched_without_it(page):
    page.goto(f"{page.url.partition('#')[0]}#q=calm piano&length=junk&top=12.5")
    page.reload()
    expect(page.locator(".hit").first).to_be_visible(timeout=20_000)
    expect(page.locator("#problem")).to_be_empty()
    expect(page.locator(".chip")).to_have_count(0)


def test_what_went_wrong_is_in_view_also_from_below(browser, tmp_path):
    make_library(tmp_path, 3)
    odd = tmp_path / "music" / "new\nline.flac"
    (tmp_path / "music" / "1.flac").rename(odd)
    index_music([], tmp_path / "lib", lambda name: load_engine(name, "cpu"))
    with serving(tmp_path, has_page=True) as address, opened(browser, address, (390, 400)) as page:
        search(page, "calm piano")
        page.locator("#save").click()
        expect(page.locator("#problem")).to_contain_text("has no place in a playlist")
        until(lambda: is_in_view(page, "#problem"))


def test_new_results_are_in_view_also_where_they_are_asked_for_from_below(browser, address):
    with opened(browser, address, (390, 400)) as page:
        search_all(page)
        last = page.locator(".hit").last
        last.focus()
        assert not is_in_view(page, ".hit")
        page.keyboard.press("m")
        expect(page.locator(".chip-text").first).to_contain_text("like: ")
        expect(page.locator(".hit").first).to_be_focused()
        until(lambda: is_in_view(page, ".hit"))


def test_the_panel_makes_room_for_new_results_on_a_phone(browser, address):
    with opened(browser, address, "phone") as page:
        search_all(page)
        page.get_by_role("button", name="Why").first.click()
        expect(page.locator("#panel-caption")).to_be_visible(timeout=20_000)
        page.locator("#panel-more").click()
        expect(page.locator(".hit").first).to_be_focused(timeout=20_000)
        expect(page.locator("#panel")).to_be_hidden()


def test_why_in_the_panel_is_about_the_search_that_is_shown(page):
    search_all(page)
    page.get_by_role("button", name="Why").first.click()
    expect(page.locator("#why-words li").first).to_contain_text("calm", timeout=20_000)
    search(page, "fast drums")
    expect(page.locator("#why-words li").first).to_contain_text("fast", timeout=20_000)


def test_back_to_the_beginning_waits_for_nothing(browser, folder, monkeypatch):
    go_on, find = threading.Event(), Library.search

    def wait(self, *args, **options):
        assert go_on.wait(30)
        return find(self, *args, **options)

    monkeypatch.setattr(Library, "search", wait)
    with serving(folder, has_page=True) as address, opened(browser, address) as page:
        page.locator("#query").fill("piano")
        page.locator("#query").press("Enter")
        expect(page.locator("#wait")).not_to_be_empty()
        page.go_back()
        expect(page.locator("#query")).to_have_value("")
        expect(page.locator("#wait")).to_be_empty()
        go_on.set()


def test_long_names_leave_room_for_other_results(browser, tmp_path):
    make_library(tmp_path, 2)
    write_song(tmp_path / "music" / "1.flac", 1, title="Long " + "t" * 500, artist="a" * 3_000)
    index_music([], tmp_path / "lib", lambda name: load_engine(name, "cpu"))
    with serving(tmp_path, has_page=True) as address, opened(browser, address, "phone") as page:
        search(page, "calm piano")
        row = page.locator(".hit", has_text="Long t")
        assert row.bounding_box()["height"] < 300
        page.locator("li", has=row).get_by_role("button", name="Why").click()
        assert page.locator("#panel-title").bounding_box()["height"] < 200
        assert page.locator("#panel-by").bounding_box()["height"] < 200


def test_a_title_with_markup_is_shown_as_text(page):
    search_all(page, "Artist 2")
    shown = page.locator(".hit")
    expect(shown.locator(".title")).to_have_text(SCRIPT)
    shown.click()
    expect(page.locator("#now-title")).to_have_text(SCRIPT)
    expect(page.locator("#panel-title")).to_have_text(SCRIPT)
    assert page.locator("b", has_text="bold").count() == 0
    assert page.title() == "calm piano – mulap"


def test_the_first_state_asks_and_gives_examples_that_search(page):
    expect(page.get_by_label("What would you like to hear?")).to_be_focused()
    expect(page.locator("#query")).to_have_attribute("placeholder", "warm rhodes, slow groove")
    page.get_by_role("button", name="calm piano").click()
    expect(page.locator("#query")).to_have_value("calm piano")
    expect(page.locator(".hit").first).to_be_visible()


def test_weak_matches_and_long_queries_are_said(page):
    search_all(page)
    assert set(page.locator(".match").all_text_contents()) == {"weak"}
    said = "Nothing here stands out for this. The nearest tracks:"
    expect(page.locator("#notes")).to_have_text(said)
    search(page, "a " * 61)
    expect(page.locator("#notes")).to_contain_text("Only the first 60 words are used.")


def test_a_format_that_no_browser_plays_is_said_with_the_file_s_name(page):
    search_all(page, "Apart")
    page.locator(".hit").click()
    problem = page.locator("#player-problem")
    expect(problem).to_contain_text("Your browser cannot play this format.", timeout=20_000)
    problem.get_by_role("button", name="Show file name").click()
    expect(problem).to_contain_text("7.aiff")


def test_a_file_that_is_gone_is_said(browser, tmp_path):
    folder = make_library(tmp_path, 2)
    with serving(folder, has_page=True) as address, opened(browser, address) as page:
        search(page, "piano")
        os.remove(folder / "music" / "1.flac")
        page.locator(".hit", has_text="Song 1").click()
        said = "This file is no longer there. Run mulap index to tidy up."
        expect(page.locator("#player-problem")).to_have_text(said, timeout=20_000)
        search(page, "drums")
        gone = page.locator(".hit", has_text="Song 1")
        expect(gone).to_contain_text("This file is no longer there.")


def test_files_that_cannot_be_used_are_said(page, tmp_path):
    (tmp_path / "notes.txt").write_text("no music")
    page.set_input_files("#file", tmp_path / "notes.txt")
    problem = page.locator("#problem")
    expect(problem).to_contain_text("No sound could be read from this file.", timeout=20_000)
    with open(tmp_path / "large.wav", "wb") as large:
        large.truncate(100_000_001)
    page.set_input_files("#file", tmp_path / "large.wav")
    expect(problem).to_have_text("Over 100 MB.")
    sf.write(tmp_path / "long.flac", tone(1, 50.0), RATE)
    page.set_input_files("#file", tmp_path / "long.flac")
    note = page.locator("#notes")
    expect(note).to_contain_text("Longer than 0:40: only that much is used.", timeout=20_000)
    expect(problem).to_be_empty()


def test_an_empty_library_says_how_to_fill_it(browser, tmp_path):
    folder = make_library(tmp_path, 1)
    store = Store.write(folder / "lib", Store.open(folder / "lib").space)
    store.delete(store.tracks(columns=["key"]).column("key").to_pylist())
    with serving(folder, has_page=True) as address, opened(browser, address) as page:
        said = "This library has no tracks yet. In a terminal: mulap index MUSIC"
        expect(page.locator("#problem")).to_have_text(said)


def test_a_library_that_is_being_read_says_so(browser, address, folder):
    with announce(folder / "lib", 22_038), opened(browser, address) as page:
        said = "8 of 22,038 tracks can be searched; the rest is being read."
        expect(page.locator("#library")).to_have_text(said)


def test_another_model_says_which_command_helps(browser, tmp_path):
    folder = make_library(tmp_path, 1)
    weights = folder / "model" / "model.safetensors"
    turned = {name: -each if each.ndim == 2 else each for name, each in load_file(weights).items()}
    save_file(turned, weights, {"format": "pt"})
    space = Store.open(folder / "lib").space.name
    with serving(folder, has_page=True) as address, opened(browser, address) as page:
        page.locator("#query").fill("piano")
        page.keyboard.press("Enter")
        said = f"This library was made by {space}. Run: mulap index --upgrade"
        expect(page.locator("#problem")).to_have_text(said, timeout=20_000)


def test_loading_and_searching_are_said_while_they_take_time(browser, folder, monkeypatch):
    loads, searches = threading.Event(), threading.Event()
    engine = Library.engine.func
    find = Library.search

    def load(self):
        assert loads.wait(30)
        return engine(self)

    def wait(self, *args, **options):
        assert searches.wait(30)
        return find(self, *args, **options)

    monkeypatch.setattr(Library, "search", wait)
    monkeypatch.setattr(Library, "engine", property(load))
    with serving(folder, has_page=True) as address, opened(browser, address) as page:
        page.locator("#query").fill("piano")
        page.keyboard.press("Enter")
        wait_line = page.locator("#wait")
        expect(wait_line).to_have_text("Loading the model (once, about 3 s)…")
        loads.set()
        searches.set()
        expect(page.locator(".hit").first).to_be_visible(timeout=20_000)
        expect(wait_line).to_be_empty()
        searches.clear()
        page.locator("#query").fill("drums")
        page.locator("#query").press("Enter")
        expect(wait_line).to_have_text("Searching 8 tracks…")
        searches.set()
        expect(wait_line).to_be_empty(timeout=20_000)


def test_a_server_that_stopped_is_said(browser, folder):
    with serving(folder, has_page=True) as address:
        context = browser.new_context()
        page = context.new_page()
        page.goto(address)
        search(page, "piano")
    page.locator("#query").fill("drums")
    page.locator("#query").press("Enter")
    said = "The server has stopped. Start it again, then reload."
    expect(page.locator("#problem")).to_have_text(said)
    context.close()


def test_a_token_opens_the_page_and_its_audio(browser, folder):
    token = "a-secret-of-some-length"
    with serving(folder, has_page=True, token=token) as address:
        with opened(browser, address, wait=False) as page:
            expect(page.locator("#gate")).to_be_visible()
            assert axe_findings(page) == []
            page.locator("#token").fill("wrong")
            page.keyboard.press("Enter")
            expect(page.locator("#gate-problem")).to_contain_text("The token is wrong.")
            page.locator("#token").fill(token)
            page.keyboard.press("Enter")
            expect(page.locator("#gate")).to_be_hidden()
            search(page, "piano")
            page.locator(".hit").first.click()
            until(lambda: audio(page)["time"] > 0)


def test_tab_goes_through_the_page_in_its_order(page):
    search(page, "piano")
    page.locator("#query").focus()
    seen = []
    for _ in range(8):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate("() => document.activeElement.id || document.activeElement.className")
        )
    refine = ["not-button", "filter-button", "file-button"]
    assert seen[1:4] == refine or seen[:4] == ["main", *refine]
    assert seen[4:7] == ["hit", "plain wide", "plain"]
    assert seen[7] == "hit"


def test_keys_search_move_and_play(page):
    search_all(page)
    page.locator("body").press("/")
    expect(page.locator("#query")).to_be_focused()
    page.keyboard.type("jkmxes?")  # words, not keys
    expect(page.locator(".hit").first).to_be_visible()
    expect(page.locator("#keys")).to_be_hidden()
    page.locator("#query").fill("calm piano")
    page.keyboard.press("Enter")
    hits = page.locator(".hit")
    expect(hits.first).to_be_focused(timeout=20_000)
    page.keyboard.press("j")
    expect(hits.nth(1)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(hits.nth(2)).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("ArrowUp")
    expect(hits.first).to_be_focused()
    page.keyboard.press(" ")
    at = until(lambda: (now := audio(page))["time"] > 0 and not now["paused"] and now["time"])
    page.keyboard.press("ArrowRight")
    until(lambda: at + 4 < audio(page)["time"])
    later = audio(page)["time"]
    page.keyboard.press("ArrowLeft")
    until(lambda: audio(page)["time"] < later)
    page.keyboard.press(" ")
    until(lambda: audio(page)["paused"])


def test_keys_open_and_close_what_is_beside_the_results(page):
    search_all(page)
    hits = page.locator(".hit")
    hits.first.focus()
    page.keyboard.press("e")
    expect(page.locator("#panel-title")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#panel")).to_be_hidden()
    expect(hits.first).to_be_focused()
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()
    with page.expect_download():
        page.keyboard.press("s")
    page.keyboard.press("m")
    expect(page.locator(".chip-text").first).to_contain_text("like: ")
    expect(hits.first).to_be_focused(timeout=20_000)
    page.keyboard.press("x")
    expect(page.get_by_text("not like: ")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["wide", "phone"])
def test_every_size_and_scheme_fits_and_passes_axe(browser, address, size, scheme):
    def check() -> None:
        width, inner = page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
        assert width <= inner
        assert axe_findings(page) == []

    with opened(browser, address, size, scheme) as page:
        check()
        page.get_by_role("button", name="Filter").click()
        check()
        page.keyboard.press("Escape")
        search(page, "calm piano, no drums")
        page.locator(".hit").first.click()
        until(lambda: audio(page)["time"] > 0)
        check()
        page.get_by_role("button", name="Why").first.click()
        expect(page.locator("#why-bars i").first).to_be_visible(timeout=20_000)
        expect(page.locator("#tags li").first).to_be_visible(timeout=20_000)
        check()
        small = page.evaluate(
            "() => [...document.querySelectorAll('button, select, input:not([type=file])')]"
            ".filter(e => e.checkVisibility() && (e.offsetHeight < 44 || e.offsetWidth < 40))"
            ".map(e => e.id || e.className + e.textContent)"
        )
        assert small == []
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        check()


def test_twice_the_size_needs_no_sideways_scrolling(browser, address):
    for width in (640, 320):  # 1280 and 640 pixels at 200 %
        with opened(browser, address, (width, 450)) as page:
            search(page, "calm piano, no drums")
            page.get_by_role("button", name="Why").first.click()
            expect(page.locator("#tags li").first).to_be_visible(timeout=20_000)
            assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_twenty_searches_leave_a_small_heap(page):
    for number in range(20):
        search(page, f"calm piano {number}")
        page.locator(".hit").first.click()
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = session.send("Performance.getMetrics")["metrics"]
    assert {each["name"]: each["value"] for each in metrics}["JSHeapUsedSize"] < 60e6
