"""The report in a real browser, and what it says of results that are missing, alone or undefined."""

import json
import re
import shutil
from dataclasses import replace

import pytest

from segpipe.report.html import Code, Figure, Fold, Group, Legend, Picture, Slider, document, render
from segpipe.report.page import Answer, Section, build

from conftest import ROOT, reseal, segpipe

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
WIDTHS = ((390, "light"), (820, "dark"), (1280, "light"))


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[dev]'")
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH: install chromium to open the report in a browser")
    with sync_api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser, finished):
    """A function that opens the report, and the list of what went wrong or over the network."""
    complaints, pages = [], []

    def show(width=1280, scheme="light", of=finished, **options):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda r: complaints.append(r.url) if not r.url.startswith(("data:", "file:")) else None)
        page.goto((of / "results/report.html").as_uri())
        pages.append(page)
        return page

    yield show, complaints
    for page in pages:
        page.close()


@pytest.mark.parametrize("width, scheme", WIDTHS)
def test_the_page_fits_every_width_and_complains_of_nothing(opened, width, scheme):
    show, complaints = opened
    page = show(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator(".answer .take").bounding_box()
    assert box["y"] + box["height"] < 900  # on the first screen
    assert complaints == []


def test_the_first_screen_says_what_recommend_says(opened, finished):
    page = opened[0]()
    advised = json.loads(segpipe("recommend", "--json", cwd=finished).stdout)
    assert page.locator(".take").inner_text() == f"Take {advised['take'] or 'nothing yet'}"
    answer = page.locator(".answer").inner_text()
    for words in ("evidence", advised["caution"], "next", "limits", "1 seed a run"):
        assert words in answer


def test_the_first_screen_says_how_sure_its_advice_is_where_there_is_evidence(opened):
    """The committed results: five seeds a run."""
    answer = opened[0](of=ROOT).locator(".answer").inner_text()
    for words in ("evidence", "how sure", "limits", "95 % interval", "5 seeds a run"):
        assert words in answer


def test_a_table_is_sorted_by_the_keyboard_alone(opened):
    table = opened[0]().locator("#scores table").first

    def cells(column):
        return table.locator(f"tbody td:nth-child({column})").all_inner_texts()

    def numbers():
        return [float(re.search(r"\d\.\d+", text)[0]) for text in cells(4)]

    head = table.locator("th:nth-child(4)")
    head.locator("button").press("Enter")
    assert numbers() == sorted(numbers(), reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").press("Space")
    assert numbers() == sorted(numbers())
    assert head.get_attribute("aria-sort") == "ascending"
    assert len(set(numbers())) > 3
    table.locator("th:nth-child(1) button").press("Enter")
    assert cells(1) == sorted(cells(1), key=lambda name: re.sub(r"[^a-z]", "", name.lower()))


def test_undefined_cells_stay_below_whichever_way_a_table_is_sorted(opened):
    page = opened[0]()
    heads = page.locator("#scores table").first.locator("th").all_inner_texts()
    place = next(i for i, text in enumerate(heads, 1) if text.startswith("NLL"))
    for _ in range(2):
        page.locator(f"#scores th:nth-child({place}) button").first.press("Enter")
        cells = page.locator("#scores table").first.locator(f"tbody td:nth-child({place})").all_inner_texts()
        undefined = cells.count("–")
        assert undefined >= 1  # votes
        assert cells[-undefined:] == ["–"] * undefined


def test_the_slider_moves_between_label_and_prediction_by_keys_and_by_dragging(opened):
    page = opened[0]()
    slider, pair = page.locator("input[type=range]").first, page.locator(".pair").first
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert pair.evaluate("p => getComputedStyle(p).getPropertyValue('--at')") == "60%"
    over = pair.locator("img").nth(1)
    assert over.evaluate("i => getComputedStyle(i).clipPath") == "inset(0px 0px 0px 60%)"
    box = pair.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + 5)
    assert slider.input_value() == "25"
    assert "label left of the line" in slider.get_attribute("aria-label")


def test_dark_is_dark_and_can_be_read(opened):
    page = opened[0](820, "dark")
    found = page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    ink, ground = (luminance([int(part) for part in re.findall(r"\d+", text)[:3]]) for text in found)
    assert (ink + 0.05) / (ground + 0.05) > 7
    assert page.locator("figure svg text").first.evaluate("t => getComputedStyle(t).fill") == found[0]


def luminance(rgb):
    """WCAG 2.1."""
    linear = [v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_on_paper_and_without_scripts_both_pictures_of_a_pair_are_seen(opened):
    page = opened[0]()
    page.emulate_media(media="print")
    shows_both(page)
    assert not page.locator("nav").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
    shows_both(opened[0](java_script_enabled=False))


def shows_both(page):
    left, right = (page.locator(".pair").first.locator("img").nth(k).bounding_box() for k in range(2))
    assert left["x"] + left["width"] <= right["x"]
    assert not page.locator("input[type=range]").first.is_visible()


def test_everything_has_a_name_and_every_link_a_target(opened):
    page = opened[0]()
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.evaluate("[...document.images].every(i => i.alt && i.complete && i.naturalWidth > 0)")
    assert page.evaluate("[...document.querySelectorAll('figure svg')].every(s => s.getAttribute('aria-label'))")
    ids = page.evaluate("[...document.querySelectorAll('section[id]')].map(e => e.id)")
    links = page.evaluate("[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href').slice(1))")
    assert links == ids
    assert len(set(ids)) == len(ids)
    assert page.evaluate("document.querySelectorAll('h1').length") == 1


def test_the_page_holds_all_its_promises_of_content(finished):
    html = (finished / "results/report.html").read_text()
    assert not re.findall(r"(?:src|href)=['\"](?!data:|#)", html)
    for name in ("ce", "ce_jml", "ce + CRF", "ensemble: average", "ensemble: plurality"):
        assert name in html
    for part in (
        "If something else counts", "Is the difference real?", "by mIoU<sup>I</sup>", "by mIoU<sup>C</sup>",
        "Calibration", "Near borders", "Worst images of", "Images on which every run fails", "Label suspects",
        "Near-duplicates",
        "segpipe train --run ce --seed 0", "dvc repro", "epochs:", "opencv-python",
    ):  # fmt: skip
        assert part in html, part


def test_the_commands_on_the_page_run_the_whole_pipeline_in_order(finished):
    from segpipe.config.context import Context
    from segpipe.config.params import load
    from segpipe.report.provenance import commands

    base = load(finished / "params.yaml")
    lines = list(commands(Context(base, base)))
    stages = [line.split()[1] for line in lines]
    assert (stages[:3], stages[-1]) == (["download", "prepare", "stats"], "report")
    import yaml

    dag = yaml.safe_load((finished / "dvc.yaml").read_text())["stages"]
    assert set(stages) == {stage["cmd"].split()[1] for stage in dag.values()} - {"code"}
    for line in lines:
        if line.startswith("segpipe predict"):
            assert line.replace("predict", "train", 1) in lines[: lines.index(line)]


@pytest.fixture
def copied(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "w", symlinks=True)
    return tmp_path / "w"


def test_one_result_alone_is_reported_and_compared_with_nothing(copied):
    for folder in (
        *(copied / "results/ensembles").iterdir(),
        copied / "results/crf/ce-0",
        copied / "results/runs/ce_jml-0",
    ):
        shutil.rmtree(folder)
    segpipe("report", "--partial", cwd=copied)
    html = (copied / "runs/partial/report.html").read_text()
    assert "Take ce" in html
    assert "it is the only result that has this score, so nothing was compared" in html
    assert "Is the difference real?" not in html


def test_a_missing_result_is_refused_and_a_partial_report_names_it(copied):
    shutil.rmtree(copied / "results/runs/ce_jml-0")
    shutil.rmtree(copied / "results/ensembles/plurality")
    before = (copied / "results/report.html").read_bytes()
    done = segpipe("report", cwd=copied, check=False)
    assert (done.returncode, "results/runs/ce_jml-0 is missing; run `segpipe evaluate" in done.stderr) == (3, True)
    assert (copied / "results/report.html").read_bytes() == before
    done = segpipe("report", "--partial", cwd=copied)
    assert done.stdout.count("left out: results/") == 2
    html = (copied / "runs/partial/report.html").read_text()
    assert html.count("class='warning'") == 3  # two results, and one seed
    assert "results/runs/ce_jml-0 is missing" in html
    assert "<td>ce_jml</td>" not in html
    assert (copied / "results/report.html").read_bytes() == before


def test_a_partial_report_names_every_missing_piece(copied):
    for piece in ("data/predict/ce_jml-0", "data/train/ce-0", "results/crf/ce-0", "results/runs/ce-0/curves.json"):
        path = copied / piece
        path.unlink() if path.is_file() else shutil.rmtree(path)
    done = segpipe("report", "--partial", cwd=copied)
    html = (copied / "runs/partial/report.html").read_text()
    for piece in ("data/predict/ce_jml-0", "results/crf/ce-0", "results/runs/ce-0/curves.json"):
        assert piece in done.stdout
        assert piece in html.split("class='answer'")[0], piece
    assert len(done.stdout.splitlines()) == len(set(done.stdout.splitlines()))


def test_a_partial_report_leaves_out_results_of_other_images_and_broken_files(copied):
    for name in ("counts.csv", "images.csv", "calibration.csv"):
        path = copied / "results/runs/ce_jml-0" / name
        path.write_text(path.read_text().replace("test_", "other_"))
    reseal(path.parent)
    path = copied / "results/ensembles/average/metrics.json"
    path.write_text(path.read_text()[:100])
    segpipe("report", "--partial", cwd=copied)
    warned = (copied / "runs/partial/report.html").read_text().split("class='answer'")[0]
    assert "results/runs/ce_jml-0 has other images, groups or classes than results/runs/ce-0" in warned
    assert "results/ensembles/average/metrics.json" in warned


def test_a_partial_report_of_ensembles_alone_and_without_images_is_written(copied):
    shutil.rmtree(copied / "results/runs")
    shutil.rmtree(copied / "results/crf")
    shutil.rmtree(copied / "data/download")
    segpipe("report", "--partial", cwd=copied)
    html = (copied / "runs/partial/report.html").read_text()
    assert "Take nothing yet" in html
    assert "data/download" in html.split("class='answer'")[0]


def test_a_score_that_disagrees_with_its_counts_is_said(copied):
    path = copied / "results/runs/ce-0/metrics.json"
    metrics = json.loads(path.read_text())
    metrics["test"]["miou_image"] += 0.1
    path.write_text(json.dumps(metrics))
    reseal(path.parent)
    segpipe("report", cwd=copied)
    assert "ce: metrics.json says miou_image" in (copied / "results/report.html").read_text()


def test_a_metric_that_nothing_can_be_compared_by_is_refused(copied):
    done = segpipe("report", "--set", "report.metric=ace", cwd=copied, check=False)
    assert done.returncode == 2
    assert "ace" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_partial_report_of_nothing_says_so(copied):
    shutil.rmtree(copied / "results")
    done = segpipe("report", "--partial", cwd=copied, check=False)
    assert done.returncode == 3
    assert "no result of params.yaml is there" in done.stderr
    assert not (copied / "runs/partial/report.html").exists()


def test_one_seed_is_said_to_be_too_little(finished):
    assert "One seed only" in (finished / "results/report.html").read_text()


def test_a_score_that_one_seed_does_not_define_is_not_averaged_away(tmp_path):
    from segpipe.report.results import Entry

    found = Entry("a", "run", "ce", (tmp_path,) * 2, ({"test": {"acc": 0.5}}, {"test": {"acc": None}}), {})
    assert (found.values("acc"), found.mean("acc"), found.spread("acc")) == ([0.5], None, None)
    found = Entry("a", "run", "ce", (tmp_path,) * 2, ({"test": {"acc": 0.5}}, {"test": {"acc": float("nan")}}), {})
    assert found.mean("acc") is None


def test_results_of_other_images_are_refused_by_the_report(copied):
    for name in ("counts.csv", "images.csv", "calibration.csv"):
        path = copied / "results/runs/ce_jml-0" / name
        path.write_text(path.read_text().replace("test_", "other_"))
    reseal(path.parent)
    done = segpipe("report", cwd=copied, check=False)
    assert done.returncode == 3
    assert "has other images than" in done.stderr
    assert "Traceback" not in done.stderr


HOSTILE = '<script>alert(1)</script> & "it\'s" $\\foo$ **'


@pytest.mark.parametrize(
    "piece",
    [
        HOSTILE,
        f"### {HOSTILE}",
        f"| a | b |\n| - | - |\n| {HOSTILE} | 1 |\n",
        Figure("<svg viewBox='0 0 1 1'></svg>", HOSTILE),
        Picture(b"png", HOSTILE),
        Slider(b"a", b"b", (HOSTILE, HOSTILE), HOSTILE),
        Group("pictures", [Picture(b"png", HOSTILE)]),
        Fold(HOSTILE, [HOSTILE]),
        Code(HOSTILE),
        Legend([HOSTILE], [(1, 2, 3)]),
    ],
)
def test_no_name_becomes_markup(piece):
    assert "<script>" not in render(piece)
    assert "&lt;script&gt;" in render(piece)


def test_a_class_may_be_called_anything():
    from segpipe.report import figures
    from segpipe.report.tables import Table

    names = ["a | b", "|", "$\\foo$", "<b>"]
    html = render(Table(["IoU^D", *names], [["run", "1", "2", "3", "4"]]))
    heads = re.findall(r"<th scope[^>]*>(.*?)</th>", html)
    assert heads == ["IoU<sup>D</sup>", "a | b", "|", "$\\foo$", "&lt;b&gt;"]
    assert html.count("<td") == 5
    assert "foo" in figures.class_bars(names, {"run": [0.1, None, 0.3, 0.4]})


@pytest.mark.parametrize("columns", [1, 11, 12, 13, 24, 150])
def test_no_class_is_lost_where_a_table_is_too_wide_for_paper(columns):
    from segpipe.report.tables import PAPER, Table

    header, rows = ["IoU^D", *map(str, range(columns))], [["a", *map(str, range(columns))], ["b", *["x"] * columns]]
    parts = [[part.header, *part.rows] for part in Table(header, rows).narrow()]
    assert all(len(lines[0]) <= PAPER + 1 for lines in parts)
    for i, row in enumerate((header, *rows)):
        assert [part[i][0] for part in parts] == [row[0]] * len(parts)
        assert [cell for part in parts for cell in part[i][1:]] == row[1:]


def test_of_many_results_the_best_are_drawn_and_the_caption_says_so(finished, monkeypatch):
    from segpipe.config.context import start
    from segpipe.report import tables
    from segpipe.report.builder import ReportBuilder
    from segpipe.report.collect import judge_entries
    from segpipe.report.results import foremost

    monkeypatch.chdir(finished)
    monkeypatch.setattr(tables.Table.narrow, "__defaults__", (3,))
    found = ReportBuilder(start())
    found.entries += [replace(e, name=f"{e.name} {i}") for i in range(4) for e in found.entries]
    found.kinds = {e.name: e.kind for e in found.entries}
    found.judged = judge_entries(found.entries, found.context, found.columns)
    sections = {section.heading: section.pieces for section in found.sections()}
    best, _ = foremost(found.entries, "miou_dataset")
    for heading, caption in (("Calibration", "Risk"), ("Near borders", "mIoU^D over")):
        figure = next(p for p in sections[heading] if isinstance(p, Figure) and p.caption.startswith(caption))
        assert figure.caption.endswith("Shown are the best 12 by mIoU^D.")
        drawn = [e.name for e in found.entries if f">{e.name}<" in figure.svg]
        assert len(drawn) == 12
    assert drawn == [e.name for e in found.entries if e in best]
    of_class = [p for p in sections["Scores"] if isinstance(p, tables.Table) and p.header[0] == "IoU^D"]
    assert len(of_class) == 3  # 8 classes, 3 a table
    assert [e.name for e in foremost(found.entries, "ece_dataset", 2)[0]] == sorted(
        (e.name for e in found.entries if e.mean("ece_dataset") is not None),
        key=lambda name: next(e.mean("ece_dataset") for e in found.entries if e.name == name),
    )[:2]
    assert foremost(found.entries[:3], "acc", 3) == (found.entries[:3], "")
    assert foremost(found.entries, "nothing", 2)[1] == " Shown are the first 2 of 30; none defines NOTHING."


def test_150_classes_are_drawn_a_line_each():
    from segpipe.report import figures

    names = [f"class {k}" for k in range(150)]
    svg = figures.class_bars(names, {"run": [k / 150 for k in range(150)], "other": [None] * 150})
    assert all(f">{name}<" in svg for name in names)
    assert float(re.search(r'height="([\d.]+)pt"', svg)[1]) > 150 * 8  # points: a line of text each


def test_no_name_becomes_markup_of_the_page():
    answer = Answer(HOSTILE, HOSTILE, [(HOSTILE, HOSTILE)])
    html = build(HOSTILE, HOSTILE, answer, [HOSTILE], [Section(HOSTILE, ["words"]), Section("empty", [])])
    assert html.count("<script>") == 1  # the page's own
    assert "empty" not in html
    assert "default-src 'none'" in document("title", "")


def test_figures_take_the_colours_of_the_page_and_no_ids_clash():
    svg = (
        '<svg viewBox="0 0 1 1"><metadata>x</metadata><g id="figure_1"><path id="m1" style="fill: #ffffff"/>'
        '<use xlink:href="#m1" style="stroke: #000000"/></g></svg>'
    )
    html = render(Figure(svg, "A dot. More."))
    assert "aria-label='A dot'" in html
    assert 'id="m1"' in html
    for gone in ("figure_1", "metadata", "#000000", "fill: #ffffff"):
        assert gone not in html
