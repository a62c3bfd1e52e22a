"""What `sm.audit` is made of: facts about foreign points first, words last.

- `given`: the file's dtype, 8-bit grid, units and order;
- `excess`: how far a point lies outside region and box;
- `kinds`: what it looks like (clean, single step, random start, …);
- `findings`, `summary`, `words`: findings, result.json, and what `explain(i)` says.
"""
