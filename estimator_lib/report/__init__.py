"""Pages for people: the report of a model, its card, the page of statistics.

Layer 3, a leaf: it shows numbers that others computed and nothing imports it but what writes
files. Templates are Jinja2's, in `templates/`, with one style sheet; every value is escaped unless
a template says otherwise, and none does. `charts` and `figures` say what is drawn, `sections` what
is listed in which order, `wording` how numbers read; `model` and `statistics` are the pages.
"""
