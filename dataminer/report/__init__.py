"""A project's report: one page that shows what was mined, drawn from files and plain data."""

REPORT_FILE = "index.html"
