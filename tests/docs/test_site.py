"""The site without building it: navigation, links, formulas, and chapters of the course.

`make docs` checks more, and runs all chapters; it takes minutes where nothing is cached.
"""

from __future__ import annotations

import importlib
import re
import textwrap
from pathlib import Path
from urllib.parse import urlsplit

import matplotlib
import pytest
import torch
import yaml

from realnvp.codec import container
from realnvp.data.toy import TOY

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SETTINGS = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
CHAPTERS = sorted((DOCS / "course").glob("[0-9]*.md"))
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
GENERATED = {"reference/cli.md", "reference/recipes.md"}


def named(entry: object) -> list[str]:
    """Return the files that an entry of the navigation names."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [file for part in parts for file in named(part)]


def exists(file: str) -> bool:
    if file.startswith("benchmarks/"):
        return (ROOT / "benchmarks" / "results" / Path(file).name).is_file()
    return file in GENERATED or (DOCS / file).is_file()


def cells(path: Path) -> list[tuple[str, str]]:
    """Return tags and code of a chapter's cells."""
    return re.findall(r"^```python([^\n]*)\n(.*?)^```$", path.read_text("utf-8"), flags=re.M | re.S)


def test_the_navigation_names_existing_pages_and_all_of_them():
    files = named(SETTINGS["nav"])
    assert [file for file in files if not exists(file)] == []
    assert len(set(files)) == len(files)
    assert set(PAGES) <= set(files)


def test_every_page_of_measurements_is_in_the_navigation():
    pages = {f"benchmarks/{p.name}" for p in (ROOT / "benchmarks" / "results").glob("*.md")}
    assert len(pages) >= 10
    assert pages == {file for file in named(SETTINGS["nav"]) if file.startswith("benchmarks/")}


@pytest.mark.parametrize("room", ["", ".bijections", ".codec", ".interop", ".outliers", ".plots"])
def test_every_public_name_is_in_the_reference(room):
    text = "".join(path.read_text("utf-8") for path in (DOCS / "reference").glob("*.md"))
    entries = re.findall(r"^::: (\S+)$", text, flags=re.M)
    assert len(set(entries)) == len(entries)
    for entry in entries:
        module, _, name = entry.rpartition(".")
        assert hasattr(importlib.import_module(module), name), entry
    module = importlib.import_module(f"realnvp{room}")
    known = {entry.rpartition(".")[2] for entry in entries}
    # plot and recipe are second names; the colors of plots have no docstrings
    assert set(module.__all__) - known <= {"plot", "recipe", "DATA", "MODEL"}


def test_nothing_is_fetched_from_elsewhere_to_read_it():
    assert SETTINGS["theme"]["font"] is False
    assert SETTINGS["strict"] is True
    scripts = [*SETTINGS.get("extra_javascript", ()), *SETTINGS["extra"]["polyfills"]]
    assert all((DOCS / name).is_file() for name in scripts)
    # With a script of this name, the plugin for search from a folder asks for no other.
    assert "offline" in SETTINGS["plugins"]
    assert any("iframe-worker" in name for name in scripts)


def texts(*roots: Path) -> str:
    """Return all pages and sources below some folders, and the README, without code blocks."""
    files = [ROOT / "README.md"]
    files += [path for root in roots for kind in ("*.md", "*.py") for path in root.rglob(kind)]
    return "\n".join(
        re.sub(r"^ *```.*?^ *```", "", path.read_text("utf-8"), flags=re.M | re.S)
        for path in files
        if path.name != "sources.md"
    )


def test_sources_are_all_listed_and_well_formed():
    text = texts(DOCS, ROOT / "src", ROOT / "benchmarks" / "results")
    listed = (DOCS / "reference" / "sources.md").read_text("utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", listed)
    assert len(set(links)) == len(links)
    for link in links:
        parts = urlsplit(link)
        assert parts.scheme == "https", link
        assert re.fullmatch(r"([\w-]+\.)+[a-z]{2,}", parts.netloc), link
        if parts.netloc == "arxiv.org":
            assert re.fullmatch(r"/abs/\d{4}\.\d{4,5}", parts.path), link
            assert f"[{parts.path[5:]}]" in listed, link
    papers = set(re.findall(r"arXiv[: ]+(\d{4}\.\d{4,5})", text))
    papers |= set(re.findall(r"arxiv\.org/\w+/(\d{4}\.\d{4,5})", text))
    assert papers == {urlsplit(link).path[5:] for link in links if "arxiv.org" in link}
    others = {
        link.rstrip(".,:;")
        for link in re.findall(r"https?://[^\s)>\"'`\\]+", text)
        if not re.search(r"arxiv\.org|realnvp/realnvp|127\.0\.0\.1|localhost|\{|w3\.org", link)
    }
    assert others == {link for link in links if "arxiv.org" not in link}


def test_every_chapter_has_exercises_and_code_that_compiles():
    assert len(CHAPTERS) >= 8
    for path in CHAPTERS:
        text = path.read_text("utf-8")
        assert "## Exercises" in text, path
        # Each shows the library's code, or lines of its own that are asserted equal to it.
        assert re.search(r"getsource\(|^ *assert |assert_close\(", text, flags=re.M), path
        for _, code in cells(path):
            compile(code, str(path), "exec")


@pytest.mark.parametrize("name", ["03-masks-and-squeeze"])
def test_a_chapter_runs(name, monkeypatch, capsys):
    matplotlib.use("agg")
    monkeypatch.chdir(DOCS / "course")
    names: dict = {}
    for _, code in cells(DOCS / "course" / f"{name}.md"):
        exec(compile(code, name, "exec"), names)
    assert "(1, 1, 4, 4) -> (1, 4, 2, 2)" in capsys.readouterr().out


def test_real_nvp_from_nothing_is_right_and_short():
    names: dict = {}
    definitions = [
        c for _, c in cells(CHAPTERS[-1]) if re.search(r"^(class|def) \w", c, flags=re.M)
    ]
    lines = 0
    for code in definitions:
        if "noisy_batch" not in code and "jacobian" not in code:
            exec(compile(code, "from nothing", "exec"), names)
            lines += sum(bool(line.strip()) for line in code.splitlines())
    assert lines <= 150
    torch.manual_seed(0)
    points = torch.as_tensor(TOY["moons"].sample(2000, seed=0)).float()
    images = torch.randint(17, (64, 1, 4, 4)) + torch.rand(64, 1, 4, 4)
    pairs = ((names["flow_of_points"](4), points), (names["flow_of_images"](17, 4, 8), images))
    for flow, x in pairs:
        before = flow.log_prob(x).mean()
        names["train"](flow, lambda x=x: x[torch.randint(len(x), (64,))], 40, 5e-3)
        assert flow.log_prob(x).mean() > before + 0.2
        flow.double()
        one = x[:1].double()

        def forward(x, layers=flow.layers):
            for layer in layers:
                x, _ = layer(x)
            return x

        z = forward(one)
        jacobian = torch.autograd.functional.jacobian(forward, one).view(one.numel(), -1)
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum()
        expected = prior + torch.linalg.slogdet(jacobian)[1]
        torch.testing.assert_close(flow.log_prob(one)[0], expected, rtol=1e-6, atol=1e-6)
        for layer in reversed(flow.layers):
            z = layer.inverse(z)
        torch.testing.assert_close(z, one, rtol=1e-6, atol=1e-6)


def test_a_chapter_is_run_again_for_its_code_and_not_for_its_text(tmp_path, monkeypatch):
    for name in ("jupytext", "nbclient", "ipykernel"):
        pytest.importorskip(name)
    import notebooks

    monkeypatch.setattr(notebooks, "CACHE", tmp_path / "cache")
    chapter = tmp_path / "chapter.md"
    count = tmp_path / "count"
    code = f"with open({str(count)!r}, 'a') as file:\n    print(1 + 1, file.write('.'))"
    for text, runs in (("Once.", 1), ("Twice.", 1), ("Twice.", 2)):
        source = code if runs == 1 else code.replace("1 + 1", "2 + 2")
        chapter.write_text(f"# A title\n\n{text}\n\n```python\n{source}\n```\n")
        shown = notebooks.render(chapter)
        assert text in shown
        assert f"```text\n{2 * runs} 1\n```" in shown
        assert count.read_text() == "." * runs


def test_chapters_are_notebooks_with_folded_answers():
    pytest.importorskip("jupytext")
    import nbformat

    import notebooks

    for path in CHAPTERS:
        text = notebooks.notebook(path)
        assert text == notebooks.notebook(path)
        made = nbformat.reads(text, as_version=4)
        nbformat.validate(made)
        code = [cell for cell in made.cells if cell.cell_type == "code"]
        assert [cell.source for cell in code] == [code.strip() for _, code in cells(path)]
        hidden = [cell for cell in code if cell.metadata.get("jupyter", {}).get("source_hidden")]
        assert len(hidden) == len(
            [tags for tags, _ in cells(path) if re.search(r'tags=\["(fold|answer)"\]', tags)]
        )
        prose = "\n".join(cell.source for cell in made.cells if cell.cell_type == "markdown")
        assert prose.count("<summary>Answer</summary>") == path.read_text("utf-8").count("\n???")
        assert "???" not in prose
        targets = re.findall(r"\]\(([^)\s]+)\)", prose)
        here = {f"{chapter.stem}.ipynb" for chapter in CHAPTERS}
        assert all(t.startswith("https://") or t.partition("#")[0] in here for t in targets)


def test_formulas_become_mathml():
    pytest.importorskip("latex2mathml")
    import mathml

    page = mathml.render(r'<p><span class="arithmatex">\(\log p &lt; 0\)</span></p>')
    assert page.startswith("<p><math")
    assert page.count("<mi>log</mi>") == 1
    assert "&#x0003C;" in page
    block = mathml.render(
        r'<div class="arithmatex">\[\begin{aligned} a &amp;= b \\ c &amp;= d \end{aligned}\]</div>'
    )
    assert block.startswith('<div class="formula">')
    assert block.count("<mtr>") == 2
    # What browsers draw badly is drawn by rules of the style sheet, and spaces are those of TeX.
    drawn = mathml.to_mathml(
        r"\underbrace{D \log K}_{\text{a}} = -\left| \frac{x}{y} \right|", True
    )
    assert '<munder class="braced"><mrow><mi>D</mi><mspace width="0.17em" /><mi>log</mi>' in drawn
    assert '<mo form="prefix">&#x02212;</mo><mrow><mrow class="bars"><mfrac>' in drawn
    assert "23DF" not in drawn
    near = mathml.to_mathml(r"P := \log \left| \det W \right|", True)
    assert "<mo>:=</mo>" in near
    assert '<mrow class="bars"><mi>det</mi><mspace width="0.17em" /><mi>W</mi>' in near


def test_docstrings_become_markdown():
    pytest.importorskip("griffe")
    from docstrings import to_markdown

    text = "Map ``x`` by :meth:`inverse`.\n\n.. math::\n    z = x,\n    y\n\n>>> 1 + 1\n2\n"
    assert to_markdown(text) == (
        "Map `x` by `inverse`.\n\n\n$$z = x, y$$\n\n```pycon\n>>> 1 + 1\n2\n```"
    )


def test_the_layout_of_compressed_files_is_that_of_the_code():
    shown = (DOCS / "reference" / "formats.md").read_text("utf-8")
    layouts = re.findall(r"::\n\n((?:    .*\n)+)", container.__doc__ or "")
    assert len(layouts) == 2
    for layout in layouts:
        assert textwrap.dedent(layout) in shown
