"""The forms of a table: Markdown, LaTeX, CSV, JSON, HTML and plain text. Every number is a `Cell`'s."""
