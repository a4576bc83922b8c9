"""What mkdocs calls: adds the pages that are made from the code, and mends links that leave docs/."""

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from site_pages import PAGES

LEAVING = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\./)+(?!reference/)([^)]*)\)|\[([^\]]*)\]\((results/[\w/.]+)\)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated pages."""
    from mkdocs.structure.files import File

    for path, make in PAGES.items():
        files.append(File.generated(config, path, content=make()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """A link to a file of the repository that is not in the site becomes its name."""
    if page.file.src_uri in PAGES:
        return markdown
    return LEAVING.sub(lambda match: f"{match[1] or match[4]} (`{match[3] or match[5]}`)", markdown)
