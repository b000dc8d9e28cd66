"""The leaderboard's page: what is written, and how it works in a browser."""

import csv
import json
import os
import re
import shutil
import statistics
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from make_records import HASH, measured, published
from playwright.sync_api import expect, sync_playwright
from pydantic import ValidationError
from site_records import synthetic

from mmrev.leaderboard.published import published_records
from mmrev.leaderboard.record import SCHEMA
from mmrev.leaderboard.site import build
from mmrev.leaderboard.site.entries import metric_label, reproduce
from mmrev.leaderboard.site.pages import _inert

HOSTILE = "</script><img src=x onerror=pwned()><script>pwned()</script>&quot;'\"`${7}"
NONE = "\N{EN DASH}"
PAGES = ("index", "compare", "scaling", "tracks", "methodology")
# Background traffic of the browser itself stays off.
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
)


@pytest.fixture(scope="module")
def records():
    published = [one for one in published_records() if one.dataset.name == "COCO"]
    return [*synthetic(36), hostile(), incomplete(), *published]


@pytest.fixture(scope="module")
def site(records, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("page") / "site"
    build(records, out)
    return out


def hostile():
    return measured(
        config={"name": HOSTILE, "resolved": {HOSTILE: f"{HOSTILE}\u2028\0"}},
        checkpoint={"name": HOSTILE},
        dataset={"name": HOSTILE, "split": HOSTILE},
        model={"name": HOSTILE, "family": HOSTILE, "backbone": HOSTILE, "head": "=1+1"},
        training={"data": HOSTILE, "pretraining": [HOSTILE], "epochs": None},
        speed={"device": HOSTILE},
        metrics={HOSTILE: 12.0},
        protocols=[HOSTILE],
        hardware={"cpu": HOSTILE, "gpus": [HOSTILE]},
    )


def incomplete():
    images = {"images_expected": 4, "images_evaluated": 3, "images_unreadable": 1}
    return measured(
        model={"name": "Part", "family": "Parts"},
        dataset={"name": "COCO", "split": "val2017", **images},
    )


class Elements(HTMLParser):
    """Tags with their attributes, and the text, of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


# --- what is written -----------------------------------------------------------------


def test_returns_what_it_wrote_and_every_link_leads_somewhere(records, tmp_path):
    written = build(records[:4], tmp_path / "site")
    files = {path for path in (tmp_path / "site").rglob("*") if path.is_file()}
    assert set(written) == files
    pages = [path for path in files if path.suffix == ".html"]
    assert len(pages) == len(PAGES) + 4
    links = 0
    for page in pages:
        for tag, attributes in Elements(page).tags:
            link = attributes.get("src") or attributes.get("href")
            if not link or link.startswith(("#", "data:")):
                continue
            if tag == "a" and link.startswith("https://"):
                continue  # the source of a published figure
            links += 1
            assert (page.parent / link.partition("#")[0]).is_file(), (page, link)
    assert links > 50


def test_hostile_texts_stay_texts(site, tmp_path):
    record = hostile()
    build([measured()], tmp_path / "plain")
    plain = tmp_path / "plain/record" / f"{measured().id}.html"
    page = site / "record" / f"{record.id}.html"
    tags = [tag for tag, _ in Elements(page).tags]
    # Its curves come as the other's do; no tag is there that was not before.
    assert set(tags) == {tag for tag, _ in Elements(plain).tags} - {"strong"}
    for name in PAGES[:3]:
        elements = Elements(site / f"{name}.html")
        assert "img" not in dict(elements.tags)
        assert not any("onerror" in attributes for _, attributes in elements.tags)
    assert HOSTILE in Elements(page).text
    assert "\u2028" not in (site / "compare.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["x" * 10_000_000, "a\u2028b", "a\x1b[2J"])
def test_the_form_refuses_names_that_no_page_should_hold(name):
    with pytest.raises(ValidationError):
        measured(model={"name": name})


def test_several_seeds_are_one_row_with_mean_and_deviation(site, records):
    metrics = [record.metrics["coco/bbox_mAP"] * 100 for record in records[:3]]
    entries = json_of(site / "index.html", "entries")
    row = next(one for one in entries if one["id"] == records[2].id)
    figure = row["figures"]["box AP"]
    assert figure["runs"] == 3
    assert figure["mean"] == pytest.approx(statistics.fmean(metrics), abs=1e-4)
    assert figure["std"] == pytest.approx(statistics.stdev(metrics), abs=1e-4)
    ids = {one["id"] for one in entries}
    assert not {record.id for record in records[:2]} & ids
    seeds = Elements(site / "record" / f"{records[0].id}.html").text
    assert f"± {statistics.stdev(metrics):.2f}" in seeds
    assert len(entries) == 12 + len(records) - 36


def test_the_spread_of_latency_is_shown_where_it_is_known(tmp_path):
    old, new = measured(), measured(speed={"latency_quartiles_ms": (12.25, 13.0)})
    build([old, new], tmp_path / "site")
    for record, told in (
        (old, "12.5 ms,"),
        (new, "12.5 ms (quartiles 12.2 and 13.0),"),
    ):
        text = Elements(tmp_path / f"site/record/{record.id}.html").text
        assert f"{told} median of 3, batch 1" in text


def test_a_chain_is_told_first_to_last(tmp_path):
    def stage(name, digit, starts=(), **facts):
        checkpoint = {"name": "epoch_12.pth", "sha256": digit * 64}
        told = {"name": name, "kind": "weights", "checkpoint": checkpoint}
        return {**told, "starts": list(starts), **facts}

    released, other = stage("in1k.pth", "1"), stage("b.pth", "2", data="https://a.org")
    first = stage("o365", "3", [released], kind="DINO", data="O", epochs=12, seed=7)
    lineage = [first, other, stage("simmim", "4", kind="SimMIM")]
    record = measured(training={"lineage": lineage, "data": "COCO", "epochs": None})
    build([record, measured()], tmp_path / "site")
    page = (tmp_path / f"site/record/{record.id}.html").read_text()
    items = re.findall(r"<li>(.+?)</li>", page, re.DOTALL)
    texts = [" ".join(re.sub("<.+?>", " ", item).split()) for item in items]
    assert texts == [
        f"in1k.pth weights epoch_12.pth, SHA-256 {'1' * 64}",
        f"o365 DINO on O, 12 epochs, seed 7 epoch_12.pth, SHA-256 {'3' * 64}",
        f"b.pth weights, https://a.org epoch_12.pth, SHA-256 {'2' * 64}",
        f"simmim SimMIM, from scratch epoch_12.pth, SHA-256 {'4' * 64}",
        "a|b (this) DINO on COCO, 7 iterations, seed 0, from 2 and 3 and 4 "
        f"epoch_1.pth, SHA-256 {HASH}",
    ]
    assert "from in1k.pth + o365 + b.pth + simmim" in page
    assert f"# It started from epoch_12.pth, SHA-256 {'3' * 64}" in reproduce(record)
    page = (tmp_path / f"site/record/{measured().id}.html").read_text()
    assert "<li>" not in page and "Deterministic" not in page


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("coco/bbox_mAP", "box AP"),
        ("coco/segm_mAP_50", "mask AP50"),
        ("coco/boundary_mAP_s", "boundary AP small"),
        ("coco_panoptic/PQ", "PQ"),
        ("coco_panoptic/PQ_th", "PQ things"),
        ("coco_panoptic/RQ_st", "RQ stuff"),
        ("mIoU", "mIoU"),
        ("accuracy/top1", "top-1"),
        ("coco/bbox_mAP_copypaste", "bbox_mAP_copypaste"),
    ],
)
def test_metrics_have_the_names_that_readers_know(metric, label):
    assert metric_label(metric) == label


def json_of(page: Path, id: str):
    class Finder(HTMLParser):
        found, inside = None, False

        def handle_starttag(self, tag, attrs):
            self.inside = dict(attrs).get("id") == id

        def handle_data(self, data):
            if self.inside:
                self.found, self.inside = json.loads(data), False

    finder = Finder()
    finder.feed(page.read_text(encoding="utf-8"))
    return finder.found


def test_downloads_hold_every_record(site, records):
    content = json.loads((site / "records.json").read_text(encoding="utf-8"))
    again = [SCHEMA.validate_json(json.dumps(one), strict=True) for one in content]
    assert again == records
    with open(site / "records.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [record.id for record in records]
    assert rows[0]["metrics.coco/bbox_mAP"] == str(records[0].metrics["coco/bbox_mAP"])
    assert rows[36]["model.head"] == "'=1+1"
    # Begun by a letter of East Asia, it is a formula, too.
    assert _inert("\uff1d1+1") == "'\uff1d1+1"
    one = site / "record" / f"{records[0].id}.json"
    assert SCHEMA.validate_json(one.read_bytes(), strict=True) == records[0]


def test_the_older_test_of_a_checkpoint_has_its_page(tmp_path):
    old = measured()
    new = measured(date=old.date.replace(year=2027))
    build([old, new], tmp_path / "site")
    assert len(json_of(tmp_path / "site/index.html", "entries")) == 1
    assert (tmp_path / "site/record" / f"{old.id}.html").exists()


def test_an_interrupted_build_leaves_the_old_site(tmp_path, monkeypatch):
    out = tmp_path / "site"
    build([measured()], out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def fail():
        raise KeyboardInterrupt

    monkeypatch.setattr("mmrev.leaderboard.site.pages.get_plotlyjs", fail)
    with pytest.raises(KeyboardInterrupt):
        build(synthetic(3), out)
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert after == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_second_build_replaces_the_first(tmp_path):
    out = tmp_path / "site"
    build(synthetic(3), out)
    build([measured()], out)
    assert {path.stem for path in (out / "record").iterdir()} == {measured().id}


@pytest.mark.parametrize("name", ["notes.txt", ".git", "record"])
def test_a_folder_with_other_files_is_refused_and_stays(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine").write_text("mine")
    with pytest.raises(ValueError, match=f"which holds {name}"):
        build([measured()], tmp_path)
    assert (tmp_path / name / "mine").read_text() == "mine"


def test_nothing_to_show_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one record"):
        build([], tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_commands_hand_names_over_as_they_are(tmp_path):
    name = "a'b\"$(touch pwned)`touch pwned`; touch pwned #"
    record = measured(config={"name": name}, checkpoint={"name": name})
    lines = [one for one in reproduce(record) if "$(find" in one]
    script = 'find() { printf "%s" "${@: -1}"; }\n' + "\n".join(lines)
    script += '\nprintf "%s\\n" "$CONFIG" "$CHECKPOINT"'
    run = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines() == [f"{name}.py", name]
    assert list(tmp_path.iterdir()) == []


def test_commands_say_seed_commit_and_augmentation():
    record = measured(
        config={"tta": True},
        seeds={"train": 7, "test": 9},
        software={"commit": "abc123", "ops": {"all": "compiled"}},
    )
    text = "\n".join(reproduce(record))
    assert "git checkout abc123\nmake setup OPS=compiled && " in text
    assert 'train.py "$CONFIG" --cfg-options randomness.seed=7' in text
    assert "--tta" in text and "randomness.seed=9" in text
    unknown = measured(seeds={"train": None, "test": 9}, software={"commit": None})
    text = "\n".join(reproduce(unknown))
    assert 'train.py "$CONFIG"\n' in text and "git checkout" not in text
    assert "make setup && " in text
    assert HASH in unknown.checkpoint.sha256


# --- in a browser --------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        reason = "no chromium here: the page is not tried; apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, site):
    """Opens a page of the site; in the end it must not have complained or called."""
    complaints, contexts = [], []

    def heard(request):
        if not request.url.startswith((site.as_uri(), "data:", "blob:")):
            complaints.append(f"request for {request.url}")

    def said(message):
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def open_page(name: str, width=1280, height=900):
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        # Many a machine is busy with other things.
        context.set_default_timeout(90_000)
        page = context.new_page()
        page.on("request", heard)
        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(f"{site.as_uri()}/{name}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def keep(page, name: str) -> None:
    """Write a screenshot, if MMREV_SCREENSHOTS names a folder for them."""
    if folder := os.environ.get("MMREV_SCREENSHOTS"):
        page.screenshot(path=Path(folder, f"{name}.png"))


def field(page, name: str):
    return page.locator(f"select#{name}, select[name={name}]")


def column(page, number: int) -> list[str]:
    """First lines of the cells of the rows that are shown."""
    cells = page.locator(f"#records tbody tr:visible > :nth-child({number})")
    return [text.split("\n")[0] for text in cells.all_inner_texts()]


def test_sorts_by_keyboard_with_unknown_figures_last(open_page):
    page = open_page("index.html")
    button = page.get_by_role("button", name="Params")
    button.focus()
    page.keyboard.press("Enter")
    head = page.locator("th", has=button)
    expect(head).to_have_attribute("aria-sort", "ascending")
    texts = column(page, 7)
    known = [float(text) for text in texts if text != NONE]
    assert known == sorted(known) and len(known) > 12
    assert set(texts[len(known) :]) == {NONE}
    page.keyboard.press("Enter")
    expect(head).to_have_attribute("aria-sort", "descending")
    texts = column(page, 7)
    assert texts[: len(known)] == [f"{one:.1f}" for one in sorted(known)[::-1]]
    assert set(texts[len(known) :]) == {NONE}
    outline = button.evaluate("element => getComputedStyle(element).outlineStyle")
    assert outline == "solid"
    page.get_by_role("button", name="Score").click()
    values = [float(text) for text in column(page, 4)]
    assert values == sorted(values)[::-1]
    assert head.get_attribute("aria-sort") is None
    keep(page, "records")


def test_filters_table_and_plot_alike(open_page):
    page = open_page("index.html")
    every = page.locator("#records tbody tr").count()
    expect(page.locator("#pareto .legend .traces").first).to_be_visible()
    field(page, "family").select_option("RevCol")
    field(page, "kind").select_option("measured")
    expect(page.locator("#count")).to_have_text(f"2 of {every} rows")
    assert column(page, 6) == ["RevCol"] * 2
    expect(page.locator("#pareto .legendtext")).to_have_text(["RevCol (measured)"])
    field(page, "task").select_option("detection")
    expect(page.locator("#count")).to_have_text(f"1 of {every} rows")
    page.get_by_label("At least, millions").fill("1000000")
    expect(page.locator("#count")).to_have_text(f"0 of {every} rows")
    page.locator("button[type=reset]").click()
    expect(page.locator("#count")).to_have_text(f"{every} rows")
    page.get_by_label("Name contains").fill("swin-v2-l")
    shown = column(page, 2)
    page.locator("button[type=reset]").click()
    field(page, "task").select_option("detection")
    # A model of masks has boxes, too.
    tasks = page.locator("#records tbody tr:visible td:nth-child(5) small")
    assert set(tasks.all_inner_texts()) == {"detection", "instance segmentation"}
    assert shown and set(shown) == {"Swin-V2-L"}


def test_a_long_table_starts_with_its_first_rows(browser, tmp_path):
    groups = [one for one in synthetic(3 * 110) if one.seeds.train == 0]
    build(groups, tmp_path / "site")
    page = browser.new_page()
    page.set_default_timeout(90_000)
    page.goto((tmp_path / "site/index.html").as_uri())
    assert len(column(page, 2)) == 100
    page.get_by_role("button", name="Show all 110 rows").click()
    assert len(column(page, 2)) == 110
    page.close()


def test_every_row_and_every_mark_says_its_kind(open_page):
    page = open_page("index.html")
    assert set(column(page, 3)) == {"measured", "measured incomplete", "published"}
    field(page, "test").select_option("COCO · val2017 · box AP")
    names = page.locator("#pareto .legendtext").all_text_contents()
    assert any("(measured)" in name for name in names)
    assert any("(published)" in name for name in names)
    assert all(name.endswith(("(measured)", "(published)")) for name in names)
    # A part of a test is no match for the whole.
    assert not any("Parts" in name for name in names)
    # The fronts are a list, too, for the keyboard.
    links = page.locator("#fronts a")
    assert links.count() >= 6
    name = links.first.inner_text().rsplit(" ", 1)[0]
    links.first.press("Enter")
    expect(page.locator("h1")).to_contain_text(name)


def test_hover_shows_the_record_and_a_click_opens_it(open_page, records):
    page = open_page("index.html")
    field(page, "test").select_option("ADE20K · val2017 · mIoU")
    field(page, "cost").select_option("latency")
    points = page.locator("#pareto .scatterlayer .points path")
    expect(points).to_have_count(6)
    page.locator("#pareto").scroll_into_view_if_needed()
    points.first.hover(force=True)
    hover = page.locator("#pareto .hoverlayer .hovertext")
    expect(hover).to_contain_text("NFNet-T, Mask2Former (measured)")
    expect(hover).to_contain_text("ms, cpu")
    keep(page, "pareto")
    points.first.click(force=True)
    expect(page.locator("h1")).to_contain_text("NFNet-T")


def test_a_record_page_shows_log_lineage_and_commands(open_page, records):
    page = open_page(f"record/{records[0].id}.html")
    expect(page.locator("#curves .plot .main-svg").first).to_be_visible()
    assert page.locator("#curves h3").all_text_contents() == ["loss", "lr"]
    expect(page.locator("pre").first).to_contain_text("randomness.seed=0")
    for text in (records[0].checkpoint.sha256, records[0].dataset.fingerprint):
        expect(page.locator("main")).to_contain_text(text)
    page.get_by_text("resolved").click()
    expect(page.locator("details pre")).to_contain_text('"layer149"')
    keep(page, "record")


def test_chosen_records_are_compared(open_page):
    page = open_page("index.html")
    boxes = page.locator("#records tbody input")
    boxes.nth(0).check()
    boxes.nth(5).press("Space")
    page.get_by_role("link", name="Compare ticked rows (2)").click()
    heads = page.locator("#comparison thead th")
    expect(heads).to_have_count(2)
    rows = page.locator("#comparison tbody tr")
    few = rows.count()
    cells = [row.split("\t")[-2:] for row in rows.all_inner_texts()]
    assert few > 2 and all(one != other for one, other in cells)
    page.get_by_label("only what differs").uncheck()
    assert rows.count() > few
    keep(page, "compare")
    page.get_by_role("button", name="Remove").first.click()
    expect(heads).to_have_count(1)
    field(page, "add").select_option(index=3)
    page.get_by_role("button", name="Add").click()
    expect(heads).to_have_count(2)


def fact(page, name: str) -> list[str]:
    """What the columns of a comparison say of one name."""
    head = page.get_by_role("rowheader", name=name, exact=True)
    return page.locator("#comparison tr", has=head).locator("td").all_inner_texts()


def test_a_row_of_several_seeds_is_compared_as_one_column(open_page, records):
    page = open_page("index.html")
    for record in (records[0], records[-1]):
        name = f"Compare {record.model.name}, {record.model.head}"
        page.get_by_role("checkbox", name=name, exact=True).last.check()
    page.get_by_role("link", name="Compare ticked rows (2)").click()
    heads = page.locator("#comparison thead th")
    expect(heads).to_have_count(2)  # waits for the page
    heads = heads.all_inner_texts()
    seeds = next(place for place, head in enumerate(heads) if "3 seeds" in head)
    assert "published" in heads[1 - seeds]
    page.get_by_label("only what differs").uncheck()
    values = [record.metrics["coco/bbox_mAP"] for record in records[:3]]
    mean, std = statistics.fmean(values), statistics.stdev(values)
    assert 0.001 < std < 0.01  # two digits of it are four decimals
    assert fact(page, "metrics.coco/bbox_mAP")[seeds] == f"{mean:.4f} ± {std:.4f}"
    assert fact(page, "speed.latency_ms")[seeds] == str(records[0].speed.latency_ms)
    assert fact(page, "seeds.train")[seeds] == "0\n1\n2"
    keep(page, "compare-seeds")
    page.set_viewport_size({"width": 390, "height": 844})
    name = page.get_by_role("rowheader", name="seeds.train", exact=True)
    assert name.bounding_box()["width"] > 100


def test_the_seeds_of_a_row_are_compared_with_one_another(open_page, records):
    page = open_page(f"record/{records[1].id}.html")
    page.get_by_role("link", name="Compare the seeds").click()
    heads = page.locator("#comparison thead th")
    expect(heads).to_contain_text(["seed 0", "seed 1", "seed 2"])
    assert fact(page, "seeds.train") == ["0", "1", "2"]
    found = fact(page, "metrics.coco/bbox_mAP")
    assert found == [str(one.metrics["coco/bbox_mAP"]) for one in records[:3]]


def test_an_incomplete_test_says_so(open_page):
    page = open_page(f"record/{incomplete().id}.html")
    expect(page.locator("h1")).to_contain_text("incomplete")
    expect(page.locator("main")).to_contain_text("Only 3 of 4 images were tested")


def test_laws_are_drawn_and_refusals_told(open_page):
    page = open_page("scaling.html")
    page.get_by_text("series").click()
    expect(page.locator("details table")).to_contain_text("at least 4 points")
    keep(page, "scaling")


# By name of each law in each plot of ImageNet, colour and form of its marks.
LOOKS = """() => [...document.querySelectorAll("[data-of^=ImageNet]")].map(
  (plot) => Object.fromEntries(plot.data.filter(({ name }) => name).map(
    ({ name, marker }) => [name, marker.color + marker.symbol])))"""


PLAIN = {"family": "Without FLOPs", "backbone": "Net", "head": "Linear"}


def test_a_law_looks_alike_against_either_cost_and_says_its_kind(browser, tmp_path):
    sizes = [
        published(
            task="classification",
            metrics={"accuracy/top1": 80.0 + size},
            dataset={"name": "ImageNet-1k", "split": "val"},
            model={**PLAIN, "name": f"Net-{size}", "params": 10 ** (6 + size)},
        )
        for size in range(4)
    ]
    build([*published_records(), *sizes], tmp_path / "site")
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(90_000)
    page.goto((tmp_path / "site/scaling.html").as_uri())
    flops, params = page.evaluate(LOOKS)
    shared = flops.keys() & params.keys()
    assert len(shared) > 1 and flops.keys() != params.keys()
    assert all(flops[name] == params[name] for name in shared)
    assert len(set(params.values())) == len(params)
    # A phone has no room for all of the second line.
    for name in (*flops, *params):
        assert name.partition("<br>")[0].endswith("(published)")
    page.close()


@pytest.mark.parametrize("name", [*PAGES, "record"])
def test_fits_a_phone_in_both_themes(open_page, name):
    path = f"record/{hostile().id}" if name == "record" else name
    page = open_page(f"{path}.html", 390, 844)
    for theme, colour in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(18, 22, 27)")):
        page.emulate_media(color_scheme=theme)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        found = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert found == colour
        keep(page, f"phone-{name}-{theme}")
    assert page.evaluate("typeof pwned") == "undefined"


def test_a_hostile_record_is_shown_as_text_everywhere(open_page):
    page = open_page("index.html")
    expect(page.get_by_role("link", name=HOSTILE, exact=True).first).to_be_visible()
    label = f"{HOSTILE} · {HOSTILE} · {HOSTILE.rpartition('/')[2]}"
    field(page, "test").select_option(label)
    shown = page.locator("#pareto .legendtext").all_text_contents()
    assert shown == [f"{HOSTILE[:33]}… (measured)"]
    page.goto(page.url.replace("index.html", f"compare.html#{hostile().id}"))
    expect(page.locator("#comparison")).to_contain_text(HOSTILE)
    assert page.evaluate("typeof pwned") == "undefined"
