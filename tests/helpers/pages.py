"""HTML pages of reports, as a reader of their tables and addresses sees them."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Tags, addresses and the cells of tables of a page; every tag that is opened is closed."""

    EMPTY = {"meta", "img"}

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.addresses, self.rows = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.EMPTY:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
