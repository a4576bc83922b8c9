"""What a page holds, read as a browser would."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Parses a page: its text, unclosed tags, loaded resources and all tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.scripts = 0
        self.ids: list[str] = []
        self.titles: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.scripts += tag == "script" and not attrs
        self.ids += [value or "" for key, value in attrs if key == "id"]
        self.titles += [value or "" for key, value in attrs if key == "title"]
        assert not [key for key, _ in attrs if key.startswith("on")]
        self.loaded += [value or "" for key, value in attrs if key in ("src", "href", "xlink:href", "srcset", "data")]
        if tag not in ("meta", "img", "path", "br", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag != "path":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
