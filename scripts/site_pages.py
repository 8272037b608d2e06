"""Pages of the site that are not in docs/: a hook of mkdocs.yml.

README.md becomes the first page, docs/index.md the table of all pages; CONTRIBUTING.md and
CHANGELOG.md are pages too, and api.md is made of docstrings. Links between them are put right,
and links that show the name of a file show the title of its page.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {  # of the site: the file that it comes from
    "index.md": "README.md",
    "contents.md": "docs/index.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
# What Python code may rely on, by page heading.
API = {
    "Encoders and libraries": [
        "mulap.encoders.load.load_encoder",
        "mulap.encoders.encoder.Encoder",
        "mulap.encoders.encoder.Embedding",
        "mulap.encoders.encoder.Tags",
        "mulap.library.library.Library",
        "mulap.library.hits.Hits",
        "mulap.library.hits.Hit",
        "mulap.encoders.engine.Engine",
        "mulap.embedding.embed.embed_files",
        "mulap.vectors.table.read_embeddings",
    ],
    "Models": [
        "mulap.model.config.MulapConfig",
        "mulap.model.config.MulapAudioConfig",
        "mulap.model.modeling.MulapModel",
        "mulap.model.pretraining.MulapForPreTraining",
        "mulap.model.processor.MulapProcessor",
        "mulap.model.features.MulapFeatureExtractor",
    ],
    "Training and evaluation": [
        "mulap.training.pretrain.run.pretrain",
        "mulap.tasks.task.Task",
        "mulap.tasks.registry.find_task",
        "mulap.hear",
    ],
}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages to those of docs/."""
    taken = files.get_file_from_path("index.md")
    if taken:
        files.remove(taken)
    for page, source in PAGES.items():
        text = relink((ROOT / source).read_text(encoding="utf-8"), source)
        if page == "index.md":
            text = f"---\nhide: [navigation]\n---\n{text}"
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "api.md", content=api_page()))
    return files


def relink(text: str, source: str) -> str:
    """Make the links of a file those of its page.

    Args:
        text: Markdown.
        source: the file, relative to the repository.
    """
    page_of = {path: page for page, path in PAGES.items()}
    folder = Path(source).parent

    def put_right(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        if "://" in target or not target:
            return match[0]
        path = (ROOT / folder / target).resolve().relative_to(ROOT).as_posix()
        return f"]({page_of.get(path, path.removeprefix('docs/'))}{anchor})"

    return re.sub(r"\]\(([^)#]*)(#[^)]*)?\)", put_right, text)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links show the titles of pages in place of the names of files."""

    def show_title(match: re.Match[str]) -> str:
        page = ROOT / PAGES.get(match[1], f"docs/{match[1]}")
        title = page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        return f"[{title}]({match[1]}"

    return re.sub(r"\[(?:docs/)?[\w-]+\.md\]\(([\w-]+\.md)", show_title, markdown)


def api_page() -> str:
    """Return the page of docstrings."""
    lines = ["# Python reference", "", "From the docstrings. `mulap.load` is `load_encoder`.", ""]
    for heading, names in API.items():
        lines += [f"## {heading}", ""]
        lines += [line for name in names for line in (f"::: {name}", "")]
    return "\n".join(lines)
