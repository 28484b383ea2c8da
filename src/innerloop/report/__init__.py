"""The HTML page of a run: what was run, what was found, and every trajectory to read.

`page.write` makes it. The page is a pure reader of the run folder: `data` turns records into sections of page data,
`sections/KEY.html.jinja` draws what needs no script, `js/KEY.js` brings the rest to life. Another section is one entry
in `data.SECTIONS`, one template and one script.
"""
